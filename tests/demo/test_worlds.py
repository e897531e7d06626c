"""Each world of the demo has a valid configuration, whose thresholds its weeks reach."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.chain import OTHER_WAYS
from demo.worlds import WORLDS
from learning_engine import config

FIRST = datetime(2026, 10, 19, 2, tzinfo=UTC)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_configuration_fits_the_weeks(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE_CONFIG", str(world.configuration))
    for name, value in world.write_files(tmp_path).items():
        monkeypatch.setenv(name, value)
        assert Path(value).is_file()
    settings = config.load()
    for week in world.weeks(FIRST):
        rated = {(str(row.request_data), str(row.response_data)) for row in week.rows if row.user_id}
        assert len(rated) >= settings.feedback.min_samples
        likes = sum(row.feedback_type in ("thumbs_up", "👍") for row in week.rows)
        # Every row is a conversation of its own, and a tenth is held out.
        assert likes * settings.dataset.heldout_fraction >= 1.5 * settings.gate.min_heldout
    assert set(world.other_ways) <= OTHER_WAYS.keys()
