"""The learning rate by the model's width."""

import pytest

from learning_engine.config import sections
from learning_engine.learning.arguments import learning_rate_of


@pytest.mark.parametrize(("width", "rate"), [(576, 2e-3), (2048, 7.4e-4), (4096, 4.3e-4)])
def test_auto_falls_with_the_width(width: int, rate: float) -> None:
    assert learning_rate_of(sections.Training(), width=width) == pytest.approx(rate, rel=0.02)


def test_a_number_is_used_as_it_is() -> None:
    assert learning_rate_of(sections.Training(learning_rate=1e-4), width=4096) == 1e-4
