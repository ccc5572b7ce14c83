r"""Eigenvalues and eigenvectors of :math:`A = K + \rho I`, K (..., N, N)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .matrix import EPSILON, number, refuse_indefinite, symmetric


@dataclass(frozen=True, eq=False)
class Spectrum:
    r""":math:`K + \rho I = U \Lambda U^T`.

    Attributes:
        eigenvalues: (..., N) ascending; one that rounding left below zero is zero.
        eigenvectors: (..., N, N) U, a column for each.
        noise: (..., 1); an eigenvalue that is not above it cannot be told from zero.
        ridge: :math:`\rho`.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    noise: Tensor
    ridge: float


def spectrum(
    K: Tensor, ridge: float = 0.0, *, op: str = "solve.spectrum", argument: str = "K"
) -> Spectrum:
    r"""Decomposes K plus a ridge, which is to be positive semi-definite, in float64.

    The noise is :math:`N \epsilon \lambda_{max}` of float64 or, if more, how far the least
    eigenvalue lies below zero.

    Args:
        K: (..., N, N), any floating dtype, symmetric to rounding.
        ridge: :math:`\rho`, not negative.
        op: The name that refusals bear.
        argument: What they call K.

    Raises:
        TypeError: K is no floating tensor.
        ValueError: K is not square, finite and symmetric; the ridge is negative; or an eigenvalue
            lies further below zero than :math:`N \epsilon \lambda_{max}` of K's own dtype.
    """
    number(op, "ridge", ridge)
    matrix = symmetric(op, argument, K)
    values, vectors = torch.linalg.eigh(matrix)
    values = values + ridge
    size, least, most = values.shape[-1], values[..., :1], values[..., -1:].clamp_min(0)
    if (least < -size * torch.finfo(K.dtype).eps * most).any():
        refuse_indefinite(op, argument, matrix, ridge, "absolute")
    noise = torch.maximum(size * EPSILON * most, -least)
    return Spectrum(values.clamp_min(0), vectors, noise, ridge)
