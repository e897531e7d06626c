"""Kronecker factors in less memory: the leading eigenvectors of each, and one curvature for all other directions.

S ≈ V diag(v) Vᵀ + ρ I with V (d, m) the eigenvectors of the m greatest eigenvalues, v (m,) those less ρ, and ρ the mean
of the rest, so that the trace is exact. V is kept in bfloat16 (with m = d nothing but its rounding is lost), and what
it stands for is positive semi-definite whatever the rounding, which a factor rounded to bfloat16 itself is not.

Tensors: `<factor>.vectors` (d, m), `<factor>.values` (m,), `<factor>.rest` () in place of `<factor>` (d, d).
"""

from collections.abc import Mapping

import torch

from learning_engine.errors import FisherMismatch

Tensors = dict[str, torch.Tensor]
VECTORS, VALUES, REST = ".vectors", ".values", ".rest"


def fitted(tensors: Tensors, max_bytes: int) -> Tensors:
    """Dense factors as they are where they take at most `max_bytes`, else sketches of them that do.

    Raises FisherMismatch where one eigenvector of each is too much.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= max_bytes:
        return tensors
    # bfloat16 vectors, float32 values: all factors keep the same share of their directions.
    full = sum(tensor.numel() * 2 + len(tensor) * 4 for tensor in tensors.values())
    fixed = 4 * len(tensors)
    share = (max_bytes - fixed) / full
    least = fixed + sum(2 * len(tensor) + 4 for tensor in tensors.values())
    if max_bytes < least:
        raise FisherMismatch(
            f"Expected fisher.max_bytes of at least {least} for one direction of each factor of this model, found "
            f"{max_bytes}: raise it, or choose fisher.structure diagonal"
        )
    sketched: Tensors = {}
    for name, tensor in tensors.items():
        sketched |= _sketch(name, tensor, kept=max(1, min(tensor.shape[-1], int(share * tensor.shape[-1]))))
    return sketched


def dense(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Every factor as a matrix in float32 or better. A first axis before the matrix' own is kept."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(VECTORS):
            factor = name.removesuffix(VECTORS)
            vectors, values, rest = tensor.float(), tensors[factor + VALUES], tensors[factor + REST]
            matrix = (vectors * values[..., None, :]) @ vectors.mT
            found[factor] = matrix + rest[..., None, None] * torch.eye(matrix.shape[-1])
        elif not name.endswith((VALUES, REST)):
            found[name] = tensor
    return found


def _sketch(name: str, factor: torch.Tensor, *, kept: int) -> Tensors:
    eigenvalues, vectors = torch.linalg.eigh(factor)
    eigenvalues = eigenvalues.clamp_min(0)
    others = len(factor) - kept
    rest = eigenvalues[:others].mean() if others else torch.zeros(())
    return {
        name + VECTORS: vectors[:, others:].to(torch.bfloat16).contiguous(),
        name + VALUES: (eigenvalues[others:] - rest).float(),
        name + REST: rest.float(),
    }
