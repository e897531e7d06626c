"""Methods against forgetting: a penalty, replay of old rows, or both."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import datasets
import torch
from torch import nn

from forgetting import peers
from learning_engine.config import sections
from learning_engine.learning import diagonal, ewc, fisher, scale
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded, lora_weights

# λ for Fisher information of which each week weighs alike.
USUAL = (100.0, 300.0, 1000.0)
PenaltyKind = Literal["none", "diagonal", "batched", "delta", "kronecker", "kronecker_unsmoothed", "kronecker_sketched"]


@dataclass(frozen=True)
class Method:
    """A penalty and replay: every week also trains on `replay` rows of each earlier week and `anchors` base rows."""

    name: str
    penalty: PenaltyKind = "none"
    replay: int = 0
    anchors: int = 0
    ewc_lambda: float = 0.0
    learning_rate: float = 0.0
    lambdas: tuple[float, ...] = ()

    def at(self, ewc_lambda: float, learning_rate: float) -> "Method":
        return replace(self, ewc_lambda=ewc_lambda, learning_rate=learning_rate)


class PenaltySource(Protocol):
    """Accumulates the importance of the weights and makes the penalty from it."""

    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        """Measure importance for `loaded` on `rows` and add it."""
        ...

    def penalty(self, loaded: Loaded) -> ewc.Penalty:
        """The penalty, which is zero at the current weights of `loaded`."""
        ...

    def nbytes(self) -> int:
        """Bytes of what is stored for the next penalty."""
        ...


class PackagePenalty:
    """This package's Fisher information, accumulated over the weeks and sketched to `share` of its bytes.

    `alike`: each week weighs alike, as in the package; otherwise by the trace that was measured, as in the textbook.
    """

    def __init__(
        self,
        settings: sections.Fisher,
        ewc_lambda: float | Literal["auto"],
        *,
        seed: int,
        share: float = 1.0,
        alike: bool = True,
    ) -> None:
        self._settings, self._lambda, self._seed, self._share = settings, ewc_lambda, seed, share
        self._alike = alike
        self._information: FisherInformation | None = None

    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        new = fisher.compute(loaded, rows, self._settings, seed=self._seed, guards="known")
        if self._alike:
            new = scale.scaled(new)
        old, exact = self._information, sum(tensor.nbytes for tensor in new.tensors.values())
        both = new if old is None else fisher.accumulate(new, old, self._settings)
        if self._share < 1:
            both = fisher.fitted(both, self._settings.model_copy(update={"max_bytes": int(self._share * exact)}))
        self._information = both

    def penalty(self, loaded: Loaded) -> ewc.Penalty:
        return ewc.anchored_penalty(loaded.model, self._information, self._lambda)

    def nbytes(self) -> int:
        return _bytes(self._information.tensors if self._information else {})


class PeerPenalty:
    """The sum of `measured(loaded, rows)` over the weeks; the penalty is λ times the quadratic form made from it."""

    def __init__(
        self,
        measured: Callable[[Loaded, datasets.Dataset], peers.Tensors],
        quadratic: Callable[[Loaded, peers.Tensors], nn.Module],
        ewc_lambda: float,
    ) -> None:
        self._measured, self._quadratic, self._lambda = measured, quadratic, ewc_lambda
        self._sums: peers.Tensors = {}

    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        new = self._measured(loaded, rows)
        self._sums = {name: tensor + self._sums.get(name, 0) for name, tensor in new.items()}

    def penalty(self, loaded: Loaded) -> ewc.Penalty:
        return ewc.Penalty(self._quadratic(loaded, self._sums), self._lambda)

    def nbytes(self) -> int:
        return _bytes(self._sums)


class NoPenalty:
    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        pass

    def penalty(self, loaded: Loaded) -> ewc.Penalty:
        return ewc.anchored_penalty(loaded.model, None, 0.0)

    def nbytes(self) -> int:
        return 0


def penalty_source(method: Method, *, seed: int) -> PenaltySource:
    settings, strength = sections.Fisher(batch_size=64), method.ewc_lambda
    match method.penalty:
        case "none":
            return NoPenalty()
        case "batched":
            return PeerPenalty(
                lambda loaded, rows: peers.batched_square(loaded, rows, batch_size=settings.batch_size),
                lambda loaded, sums: diagonal.DiagonalQuadratic(sums, lora_weights(loaded.model)),
                strength,
            )
        case "delta":
            return PeerPenalty(
                lambda loaded, rows: peers.delta_diagonal(loaded, rows, settings, seed=seed),
                _delta_quadratic,
                strength,
            )
        case "kronecker_sketched":
            return PackagePenalty(settings, strength, seed=seed, share=1 / 8)
        case "kronecker_unsmoothed":
            return PackagePenalty(settings.model_copy(update={"smoothing": 0.0}), strength, seed=seed)
        case "diagonal":
            # The textbook's: each week weighs by the trace that was measured.
            return PackagePenalty(
                settings.model_copy(update={"structure": "diagonal"}), strength, seed=seed, alike=False
            )
    return PackagePenalty(settings, strength, seed=seed)


def _delta_quadratic(loaded: Loaded, sums: peers.Tensors) -> nn.Module:
    scaling = loaded.lora.alpha / loaded.lora.rank
    return peers.DeltaQuadratic(sums, lora_weights(loaded.model), scaling=scaling)


def _bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
