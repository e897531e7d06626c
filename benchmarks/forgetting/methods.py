"""What keeps a chain of weeks from forgetting: a penalty, some old rows to train on again, or both."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import datasets
from torch import nn

from forgetting import peers
from learning_engine.config import sections
from learning_engine.learning import diagonal, ewc, fisher
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded, lora_weights

Guard = Literal["none", "diagonal", "batched", "delta", "kronecker", "kronecker_unsmoothed", "kronecker_sketched"]


@dataclass(frozen=True)
class Method:
    """`replay` rows of each week and `anchors` rows of the base's own are trained on again every week."""

    name: str
    guard: Guard = "none"
    replay: int = 0
    anchors: int = 0
    ewc_lambda: float = 0.0
    learning_rate: float = 0.0
    lambdas: tuple[float, ...] = ()

    def at(self, ewc_lambda: float, learning_rate: float) -> "Method":
        return replace(self, ewc_lambda=ewc_lambda, learning_rate=learning_rate)


class Memory(Protocol):
    """What is remembered of the weights' importance."""

    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        """Add what `loaded` now knows about `rows`."""
        ...

    def penalty(self, loaded: Loaded) -> ewc.Regulariser:
        """Zero at the weights that `loaded` has now."""
        ...


class Own:
    """This package's own: either structure, added up over the weeks, in `share` of its bytes."""

    def __init__(self, settings: sections.Fisher, ewc_lambda: float, *, seed: int, share: float = 1.0) -> None:
        self._settings, self._lambda, self._seed, self._share = settings, ewc_lambda, seed, share
        self._information: FisherInformation | None = None

    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        new = fisher.compute(loaded, rows, self._settings, seed=self._seed, guards="known")
        old, exact = self._information, sum(tensor.nbytes for tensor in new.tensors.values())
        both = new if old is None else fisher.accumulate(new, old, self._settings)
        if self._share < 1:
            both = fisher.fitted(both, self._settings.model_copy(update={"max_bytes": int(self._share * exact)}))
        self._information = both

    def penalty(self, loaded: Loaded) -> ewc.Regulariser:
        return ewc.around(loaded.model, self._information, self._lambda)


class Peer:
    """`measured(loaded, rows)` added up over the weeks, and λ times the quadratic form that is made of it."""

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

    def penalty(self, loaded: Loaded) -> ewc.Regulariser:
        return ewc.Penalty(self._quadratic(loaded, self._sums), self._lambda)


class Nothing:
    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:
        pass

    def penalty(self, loaded: Loaded) -> ewc.Regulariser:
        return ewc.around(loaded.model, None, 0.0)


def memory(method: Method, *, seed: int) -> Memory:
    settings, strength = sections.Fisher(batch_size=64), method.ewc_lambda
    match method.guard:
        case "none":
            return Nothing()
        case "batched":
            return Peer(
                lambda loaded, rows: peers.batched_square(loaded, rows, batch_size=settings.batch_size),
                lambda loaded, sums: diagonal.DiagonalQuadratic(sums, lora_weights(loaded.model)),
                strength,
            )
        case "delta":
            return Peer(
                lambda loaded, rows: peers.delta_diagonal(loaded, rows, settings, seed=seed),
                _delta_quadratic,
                strength,
            )
        case "kronecker_sketched":
            return Own(settings, strength, seed=seed, share=1 / 8)
        case "kronecker_unsmoothed":
            return Own(settings.model_copy(update={"smoothing": 0.0}), strength, seed=seed)
    return Own(settings.model_copy(update={"structure": method.guard}), strength, seed=seed)


def _delta_quadratic(loaded: Loaded, sums: peers.Tensors) -> nn.Module:
    scaling = loaded.lora.alpha / loaded.lora.rank
    return peers.DeltaQuadratic(sums, lora_weights(loaded.model), scaling=scaling)
