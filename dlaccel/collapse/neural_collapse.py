r"""The measures of neural collapse, NC1 to NC3, from means and scatter of classes.

Symbols: :math:`m_c = \mu_c - \mu_G` the C class means about the global mean, as rows of M,
:math:`w_c` the rows of the last layer's weight W, :math:`\Sigma_W` and :math:`\Sigma_B` the
covariances within and between classes, :math:`E = (I - 1 1^T / C) / \sqrt{C - 1}` the Gram matrix
of a simplex of unit Frobenius norm. Sources: Papyan, Han, Donoho 2020, arXiv 2008.08186; Zhu et
al. 2021, arXiv 2105.02375.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .pairs import off_diagonal


def scatter_ratio(within: Tensor, between: Tensor, rank: int | None) -> Tensor:
    r"""NC1 with the pseudo-inverse.

    .. math:: \frac{1}{C} \mathrm{Tr}(\Sigma_W \Sigma_B^+)
        = \frac{1}{C} \sum_r v_r^T \Sigma_W v_r / \lambda_r

    Eigenvalues :math:`\lambda_r` and axes :math:`v_r` of :math:`\Sigma_B = B^T B` come from the
    thin SVD of its factor, on the smaller of its sides.

    Args:
        within: (D, D), :math:`\Sigma_W`.
        between: (C, D), B.
        rank: How many of the leading eigenvalues count. None: C - 1 (or D) of them, less those
            whose root is within rounding, :math:`\max(C, D)\,\epsilon` of the largest one, of 0.

    Returns:
        (): NaN where B is not finite, infinite where it is 0.
    """
    if not bool(between.isfinite().all()):
        return within.new_tensor(torch.nan)
    _, roots, axes = torch.linalg.svd(between, full_matrices=False)
    if rank is None:
        noise = max(between.shape) * torch.finfo(roots.dtype).eps * roots[:1].sum()
        rank = min(len(between) - 1, int((roots > noise).sum()))
    if rank <= 0:
        return within.trace() / 0
    spread = ((axes[:rank] @ within) * axes[:rank]).sum(1)
    ratio: Tensor = (spread / roots[:rank].square()).sum() / len(between)
    return ratio


@dataclass(frozen=True, eq=False)
class EqualAngles:
    r"""NC2: how far vectors are from a simplex with equal norms. All are 0 at collapse.

    Attributes:
        norms: :math:`\mathrm{Std}_c \|m_c\| / \mathrm{Avg}_c \|m_c\|` (Papyan et al. 2020).
        angles: :math:`\mathrm{Std}_{c \ne c'} \cos(m_c, m_{c'})` (Papyan et al. 2020).
        maximal: :math:`\mathrm{Avg}_{c \ne c'} |\cos(m_c, m_{c'}) + 1 / (C - 1)|` (the same).
        structure: :math:`\| M M^T / \|M M^T\|_F - E \|_F` (Zhu et al. 2021).
    """

    norms: Tensor
    angles: Tensor
    maximal: Tensor
    structure: Tensor


def equal_angles(rows: Tensor, *, ddof: int = 0) -> EqualAngles:
    """NC2 of the rows of (C, D): class means about their centre, or a classifier's weights.

    Angles need two rows; without them, as of a row of zeros, they are NaN.

    Args:
        rows: (C, D) floating; computed in float64.
        ddof: What the standard deviations take off the number of classes, or of ordered pairs.
    """
    rows = rows.detach().double()
    gram = rows @ rows.T
    norms = gram.diagonal().sqrt()
    cosines = off_diagonal(gram / norms[:, None] / norms, ordered=True)
    return EqualAngles(
        _deviation(norms, ddof) / norms.mean(),
        _deviation(cosines, ddof),
        (cosines + 1 / max(len(rows) - 1, 1)).abs().mean(),
        distance_from_simplex(gram),
    )


def _deviation(values: Tensor, ddof: int) -> Tensor:
    return values.std(correction=ddof) if len(values) > ddof else values.new_tensor(torch.nan)


@dataclass(frozen=True, eq=False)
class SelfDuality:
    r"""NC3: how far the last layer is from the class means. All are 0 at collapse.

    Attributes:
        distance: :math:`\| W / \|W\|_F - M / \|M\|_F \|_F^2` (Papyan et al. 2020).
        structure: :math:`\| W M^T / \|W M^T\|_F - E \|_F` (Zhu et al. 2021).
        bias: :math:`\| b + W \mu_G \|`, where a bias b was given (Zhu et al. 2021).
    """

    distance: Tensor
    structure: Tensor
    bias: Tensor | None


def distance_from_simplex(gram: Tensor) -> Tensor:
    r""":math:`\| G / \|G\|_F - E \|_F` of (C, C), E the Gram matrix of a simplex."""
    classes = len(gram)
    simplex = torch.eye(classes, dtype=gram.dtype, device=gram.device) - 1 / max(classes, 1)
    difference: Tensor = gram / gram.norm() - simplex / math.sqrt(max(classes - 1, 1))
    return difference.square().sum().sqrt()
