"""What rectifiers do to correlations, in plain torch: the reference of ``core/arc_cosine.h``."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rectify(cosine: Tensor, gap: Tensor, contrast: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""The correlation of :math:`\phi(u), \phi(v)`, its gap, and :math:`E \phi'(u) \phi'(v)`.

    Args:
        cosine: The correlation c of the Gaussian u, v.
        gap: :math:`1 - |c|`, with digits of its own.
        contrast: :math:`k = (a - b)^2 / (a^2 + b^2)` of
            :math:`\phi(x) = a \min(x, 0) + b \max(x, 0)`.

    Returns:
        All relative to their values at c = 1.

    Source: Cho and Saul 2009, "Kernel methods for deep learning".
    """
    acute = 2 * torch.asin((gap / 2).sqrt())
    segment = (acute.sin() - acute * acute.cos()) * (contrast / math.pi)
    obtuse, size, arc = cosine < 0, cosine.abs(), acute * (contrast / math.pi)
    folded = (contrast - 1) * size + segment
    past = torch.where(
        folded < 0,
        contrast + (1 - contrast) * gap + segment,
        (2 - contrast) - (1 - contrast) * gap - segment,
    )
    return (
        torch.where(obtuse, folded, size + segment),
        torch.where(obtuse, past, gap - segment),
        torch.where(obtuse, 1 - contrast + arc, 1 - arc),
    )
