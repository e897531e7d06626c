"""Low-memory sketches of Kronecker factors: the leading eigenvectors, and one curvature for all other directions.

S ≈ V diag(v) Vᵀ + ρ I, where V (d, m) holds the eigenvectors of the m largest eigenvalues, v (m,) those eigenvalues
minus ρ, and ρ is the mean of the other eigenvalues, so that the trace is exact. V is stored in bfloat16 (with m = d,
only its rounding is lost). The sketch stays positive semi-definite under rounding, which a factor rounded to bfloat16
does not.

Tensors: `<factor>.vectors` (d, m), `<factor>.values` (m,), `<factor>.rest` () instead of `<factor>` (d, d).
"""

from collections.abc import Mapping

import torch

from learning_engine.errors import FisherMismatch

Tensors = dict[str, torch.Tensor]
VECTORS, VALUES, REST = ".vectors", ".values", ".rest"


def fitted(tensors: Tensors, max_bytes: int) -> Tensors:
    """The dense factors unchanged if they take at most `max_bytes`, else sketches within that size.

    Raises FisherMismatch if one eigenvector of each factor does not fit.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= max_bytes:
        return tensors
    # bfloat16 vectors, float32 values; every factor keeps the same share of its directions.
    full = sum(tensor.numel() * 2 + len(tensor) * 4 for tensor in tensors.values())
    fixed = 4 * len(tensors)
    share = (max_bytes - fixed) / full
    least = fixed + sum(2 * len(tensor) + 4 for tensor in tensors.values())
    if max_bytes < least:
        raise FisherMismatch(
            f"Expected fisher.max_bytes of at least {least} to store one direction of each factor of this model, found "
            f"{max_bytes}: raise it, or set fisher.structure to diagonal"
        )
    sketched: Tensors = {}
    for name, tensor in tensors.items():
        sketched |= _sketch(name, tensor, kept=max(1, min(tensor.shape[-1], int(share * tensor.shape[-1]))))
    return sketched


def dense(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Every factor as a matrix in float32 or better. A leading axis is kept."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(VECTORS):
            factor = name.removesuffix(VECTORS)
            vectors, values, rest = tensor.float(), tensors[factor + VALUES], tensors[factor + REST]
            matrix = (vectors * values[..., None, :]) @ vectors.mT
            matrix.diagonal(dim1=-2, dim2=-1).add_(rest[..., None])
            found[factor] = matrix
        elif not name.endswith((VALUES, REST)):
            found[name] = tensor
    return found


def factor_of(name: str) -> str:
    """The factor that the tensor `name`, dense or of a sketch, belongs to."""
    return name.removesuffix(VECTORS).removesuffix(VALUES).removesuffix(REST)


def _sketch(name: str, factor: torch.Tensor, *, kept: int) -> Tensors:
    eigenvalues, vectors = torch.linalg.eigh(factor)
    eigenvalues = eigenvalues.clamp_min(0)
    others = len(factor) - kept
    rest = eigenvalues[:others].mean() if others else eigenvalues.new_zeros(())
    return {
        name + VECTORS: vectors[:, others:].to(torch.bfloat16).contiguous(),
        name + VALUES: (eigenvalues[others:] - rest).float(),
        name + REST: rest.float(),
    }
