"""The methods that standard_cl compares, each with its λ and the grid from which it was chosen."""

from dataclasses import dataclass, replace
from typing import Literal

from forgetting.methods import NoPenalty, PackagePenalty, PenaltySource

from learning_engine.config import sections
from learning_engine.learning.model import Loaded
from sequential.fresh import Ella, FreshAdapter, Orthogonal

# One draw of the labels for each row: four take three times as long.
DRAWS = 1
Strength = float | Literal["auto"]
OURS: Strength = "auto"  # the λ of our penalty
BASE, PLAIN, JOINT = "base model", "plain LoRA", "joint training"


@dataclass(frozen=True)
class Method:
    """A penalty of strength `strength` (λ), and replay: each later task also trains on the share `replay` of the rows
    of each earlier one. `joint`: all tasks at once, the ceiling."""

    name: str
    penalty: Literal["none", "orthogonal", "ella", "diagonal", "kronecker"] = "none"
    strength: Strength = 0.0
    replay: float = 0.0
    joint: bool = False
    grid: tuple[Strength, ...] = ()

    def at(self, strength: Strength) -> "Method":
        return replace(self, strength=strength)

    def source(self, loaded: Loaded, *, seed: int) -> PenaltySource:
        """What measures importance after each task and gives the penalty for the next one."""
        if self.penalty == "none":
            return NoPenalty()
        if self.penalty in ("diagonal", "kronecker"):
            settings = sections.Fisher(structure=self.penalty, draws=DRAWS)
            # In the textbook's diagonal a task weighs by the trace that was measured.
            return PackagePenalty(settings, self.strength, seed=seed, alike=self.penalty == "kronecker")
        form = Orthogonal() if self.penalty == "orthogonal" else Ella(loaded.lora.alpha / loaded.lora.rank)
        return FreshAdapter(form, float(self.strength), seed=seed)


REPLAY = (0.01, 0.1)
# These λ are not tuned yet; `standard_cl.py --tune` tries the grids. O-LoRA's is the default of its released code; with
# the diagonal's, SmolLM2-135M learned a second week of facts and kept the first; ELLA's is the middle of its grid. Ours
# is the package's default.
METHODS = (
    Method(PLAIN),
    *(Method(f"replay {share:.0%}", replay=share) for share in REPLAY),
    Method("O-LoRA", "orthogonal", 0.5, grid=(0.05, 0.5, 5.0)),
    Method("ELLA", "ella", 1e5, grid=(1e3, 1e5, 1e7)),
    Method("EWC, diagonal", "diagonal", 100.0, grid=(10.0, 100.0, 1000.0)),
    Method("ours", "kronecker", OURS, grid=("auto", 100.0, 300.0, 1000.0)),
    *(Method(f"ours + replay {share:.0%}", "kronecker", OURS, replay=share) for share in REPLAY),
    Method(JOINT, joint=True),
)
