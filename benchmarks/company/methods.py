"""The ways to train a real chat model: those that the table compares, and the choices behind the defaults."""

from dataclasses import dataclass, replace
from typing import Literal

from learning_engine.learning.replayed import ANCHOR_SHARE

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
WITH_MLP = (*ATTENTION, "down_proj", "gate_proj", "up_proj")


@dataclass(frozen=True)
class Method:
    """One way to train; the values are the package's defaults, for this model's width.

    `replay` is the share of old rows, of which the share `of_base` are the base's own conversations. `layers` have an
    adapter.
    """

    name: str
    strength: float | Literal["auto"] = "auto"
    progress: float = 0.3
    objective: Literal["kto", "sft_npo", "weighted_sft"] = "sft_npo"
    beta: float = 0.1
    learning_rate: float = 2e-3
    epochs: float = 4.0
    batch_size: int = 8
    replay: float = 0.5
    of_base: float = ANCHOR_SHARE
    draws: int = 4
    layers: tuple[str, ...] = ATTENTION


DEFAULT = Method("default: auto λ, half the rows old")
COMPARED = (
    Method("no EWC, no old rows", 0.0, replay=0.0),
    Method("λ = 300, no old rows", 300.0, replay=0.0),
    Method("auto λ, no old rows", replay=0.0),
    DEFAULT,
    Method("half the rows old, no EWC", 0.0),
    Method("kto, rate 2e-4, no EWC", 0.0, objective="kto", learning_rate=2e-4, epochs=3.0, replay=0.0),
)
# Each differs from the default in one choice.
STUDIED = (
    DEFAULT,
    replace(DEFAULT, name="rate 1e-3", learning_rate=1e-3),
    replace(DEFAULT, name="rate 4e-3", learning_rate=4e-3),
    replace(DEFAULT, name="2 epochs", epochs=2.0),
    replace(DEFAULT, name="6 epochs", epochs=6.0),
    replace(DEFAULT, name="batches of 16", batch_size=16),
    replace(DEFAULT, name="progress .1", progress=0.1),
    replace(DEFAULT, name="progress .5", progress=0.5),
    replace(DEFAULT, name="λ = 300", strength=300.0),
    replace(DEFAULT, name="weighted_sft", objective="weighted_sft"),
    replace(DEFAULT, name="kto", objective="kto"),
    replace(DEFAULT, name="kto, β = 0.02", objective="kto", beta=0.02),
    replace(DEFAULT, name="1 draw", draws=1),
    replace(DEFAULT, name="two thirds of the rows old", replay=2 / 3),
    replace(DEFAULT, name="half of the old rows of the base", of_base=0.5),
    replace(DEFAULT, name="MLP layers too", layers=WITH_MLP),
)
