"""The ways to train a year of weeks: a penalty, a share of replayed rows, or everything at once."""

from dataclasses import dataclass, replace
from typing import Literal

from forgetting.methods import NoPenalty, PackagePenalty, PenaltySource
from sequential.fresh import Ella, FreshAdapter

from learning_engine.config import sections
from learning_engine.learning.model import Loaded

Strength = float | Literal["auto"]
# Of a year, and of `retention.text_days: 90`.
WEEKS, QUARTER = 52, 13


@dataclass(frozen=True)
class Method:
    """`replay` is the share of a training's rows that come from earlier weeks and the base, `steps` the optimizer steps
    of a week. `reach`: how many weeks a row is kept; with none, only the base's are replayed. `alike`: the Fisher
    information of each week weighs alike, otherwise by its trace, as in the textbook. `joint` trains all weeks and the
    base at once, the ceiling. The best λ of `grid` and the best of `rates` are chosen."""

    name: str
    penalty: Literal["none", "diagonal", "kronecker", "ella"] = "none"
    replay: float = 0.0
    reach: int = WEEKS
    steps: int = 60
    alike: bool = True
    joint: bool = False
    grid: tuple[Strength, ...] = ("auto",)
    rates: tuple[float, ...] = (2e-3, 5e-3)

    def variants(self) -> "list[Method]":
        """This method with each λ and each learning rate."""
        return [replace(self, grid=(strength,), rates=(rate,)) for strength in self.grid for rate in self.rates]

    @property
    def strength(self) -> Strength:
        """λ, if it has been chosen."""
        return self.grid[0]

    @property
    def rate(self) -> float:
        """The learning rate, if it has been chosen."""
        return self.rates[0]

    def source(self, loaded: Loaded, *, seed: int) -> PenaltySource:
        """What measures importance after each week and gives the penalty for the next one."""
        if self.penalty == "none":
            return NoPenalty()
        if self.penalty == "ella":
            return FreshAdapter(Ella(loaded.lora.alpha / loaded.lora.rank), float(self.strength), seed=seed)
        settings = sections.Fisher(structure=self.penalty, batch_size=64)
        return PackagePenalty(settings, self.strength, seed=seed, alike=self.alike)


ONE, RECENT = "one old row a new one", "one old row a new one, of the last 90 days"
TWO, FOUR = "two old rows a new one", "four old rows a new one, twice the steps"
BASE_ONLY, ROWLESS, JOINT = "old rows of the base only", "no old rows", "all weeks at once (the ceiling)"
REPLAY, DIAGONAL = "two old rows a new one, no EWC", "two old rows a new one, diagonal EWC"
TEXTBOOK, ELLA = "no old rows, textbook EWC", "no old rows, ELLA"
METHODS = (
    Method(ONE, "kronecker", replay=1 / 2),
    Method(RECENT, "kronecker", replay=1 / 2, reach=QUARTER),
    Method(TWO, "kronecker", replay=2 / 3),
    Method(FOUR, "kronecker", replay=4 / 5, steps=120),
    Method(BASE_ONLY, "kronecker", replay=1 / 2, reach=0, grid=("auto", 300.0, 1000.0)),
    Method(ROWLESS, "kronecker", grid=("auto", 300.0, 1000.0)),
    Method(REPLAY, replay=2 / 3, rates=(1e-3, 2e-3, 5e-3)),
    Method(DIAGONAL, "diagonal", replay=2 / 3),
    Method(TEXTBOOK, "diagonal", alike=False, grid=(10.0, 100.0)),
    Method(ELLA, "ella", grid=(1e1, 1e3)),
    Method(JOINT, joint=True),
)
