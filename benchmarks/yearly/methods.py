"""The ways to train a year of weeks: a penalty, a share of replayed rows, or everything at once."""

from dataclasses import dataclass, replace
from typing import Literal

from forgetting.methods import NoPenalty, PackagePenalty, PenaltySource
from sequential.fresh import Ella, FreshAdapter

from learning_engine.config import sections
from learning_engine.learning.model import Loaded

Strength = float | Literal["auto"]


@dataclass(frozen=True)
class Method:
    """`replay` is the share of a training's rows that come from earlier weeks and the base, `steps` the optimizer steps
    of a week. `alike`: each week's Fisher information weighs alike, otherwise by its trace, as in the textbook. `joint`
    trains all weeks and the base at once, the ceiling."""

    name: str
    penalty: Literal["none", "diagonal", "kronecker", "ella"] = "none"
    strength: Strength = "auto"
    replay: float = 0.0
    steps: int = 60
    alike: bool = True
    joint: bool = False
    grid: tuple[Strength, ...] = ()

    def at(self, strength: Strength) -> "Method":
        return replace(self, strength=strength)

    def source(self, loaded: Loaded, *, seed: int) -> PenaltySource:
        """What measures importance after each week and gives the penalty for the next one."""
        if self.penalty == "none":
            return NoPenalty()
        if self.penalty == "ella" and self.strength != "auto":
            return FreshAdapter(Ella(loaded.lora.alpha / loaded.lora.rank), self.strength, seed=seed)
        settings = sections.Fisher(structure=self.penalty, batch_size=64)
        return PackagePenalty(settings, self.strength, seed=seed, alike=self.alike)


ONE, TWO, FOUR = "one old row a new one", "two old rows a new one", "four old rows a new one, twice the steps"
ROWLESS = "no old rows"
REPLAY, JOINT = "two old rows a new one, no EWC", "all at once (the ceiling)"
TEXTBOOK, DIAGONAL = "textbook EWC (diagonal)", "diagonal EWC, each week alike"
ELLA = "ELLA, no old rows"
METHODS = (
    Method(ONE, "kronecker", replay=1 / 2),
    Method(TWO, "kronecker", replay=2 / 3),
    Method(FOUR, "kronecker", replay=4 / 5, steps=120),
    Method(ROWLESS, "kronecker", grid=("auto", 300.0, 1000.0)),
    Method(REPLAY, replay=2 / 3),
    Method(TEXTBOOK, "diagonal", strength=100.0, alike=False, grid=(10.0, 100.0, 1000.0)),
    Method(DIAGONAL, "diagonal", grid=("auto", 100.0)),
    Method(ELLA, "ella", strength=1e3, grid=(1e1, 1e3, 1e5)),
    Method(JOINT, joint=True),
)
