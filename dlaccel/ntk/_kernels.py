"""What an infinitely wide network's kernels are handed over in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Kernels:
    """Kernels of N points with M others.

    Attributes:
        nngp: Covariances of the network's output at initialisation, (N, M).
        ntk: The neural tangent kernel, (N, M).
        variances1: The output's variance at each of the N points.
        variances2: The same at the M others.
        gap: :math:`1 - |c|` of the NNGP's correlations c, (N, M), where it was asked for. Near 0 it
            holds digits that ``nngp`` does not; :func:`hyperkernel` uses it.
    """

    nngp: Tensor
    ntk: Tensor
    variances1: Tensor
    variances2: Tensor
    gap: Tensor | None = None
