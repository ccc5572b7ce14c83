r"""Bounds on the test error from norms of the weights, for comparison (G5).

A trained MLP-L-H in evaluation mode, its batch norms folded into the linear maps before them, is
:math:`h(x) = A_k\, \sigma(A_{k-1} \dots \sigma(A_1 x))` with k = L + 1, the ReLU sigma, and each
bias a further column of its matrix. To carry the constant 1 upwards, all matrices but the last have
the further row (0, .., 0, 1). The margin of (x, y) is :math:`h_y - \max_{c \ne y} h_c`.

*Frobenius.* Golowich, Rakhlin, Shamir 2018 (arXiv 1712.06541, theorem 1): the Rademacher complexity
of one output over m samples is at most
:math:`B (\sqrt{2 k \ln 2} + 1) \prod_{j<k} \|A_j\|_F\, \|a_c\| / \sqrt m`, with B^2 the mean of
:math:`\|x\|^2` and a_c the row of A_k. The ramp loss of the margin is :math:`\sqrt 2 / \gamma`
Lipschitz in the outputs, so by Maurer's contraction (arXiv 1605.00251) its complexity is at most
:math:`2 / \gamma` times the sum over c. With probability 1 - delta,

.. math::
    err_P \le \hat{err}_\gamma + \frac{4 B}{\gamma \sqrt m} (\sqrt{2 k \ln 2} + 1)
        \prod_{j<k} \|A_j\|_F \sum_c \|a_c\| + 3 \sqrt{\ln(2 / \delta) / (2 m)},

where :math:`\hat{err}_\gamma` is the share of training samples with a margin below gamma.

*Spectral.* Bartlett, Foster, Telgarsky 2017 (arXiv 1706.08498, theorem 1.1): the excess over
:math:`\hat{err}_\gamma` is, up to constants and logarithms, which are left out here,

.. math::
    \frac{\sqrt{\sum \|x\|^2}}{\gamma m} \prod_j \|A_j\|_2
        \Big( \sum_j \big( \|A_j^T\|_{2,1} / \|A_j\|_2 \big)^{2/3} \Big)^{3/2}.

Both are taken at the network's own norms and at its best gamma; a union bound over norms and gammas
would only add to them.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from dlaccel.models import MLP

DELTA = 0.05
"""The bounds hold with probability 1 - DELTA."""

QUANTILES = torch.linspace(0, 0.5, 51, dtype=torch.float64)
"""Margins gamma that are tried: quantiles of the training margins."""


def chain(network: MLP) -> list[Tensor]:
    """A_1 .. A_k in float64, batch norms folded, biases as columns."""
    matrices = []
    for layer in network.layers:
        linear, norm = cast(nn.Linear, layer.linear), cast(nn.BatchNorm1d, layer.norm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        weight = scale[:, None] * linear.weight.double()
        shift = norm.bias.double() + scale * (linear.bias.double() - norm.running_mean.double())
        matrices.append(_augmented(weight, shift, carry=True))
    matrices.append(_augmented(network.head.weight.double(), network.head.bias.double()))
    return [matrix.detach() for matrix in matrices]


def _augmented(weight: Tensor, bias: Tensor, carry: bool = False) -> Tensor:
    matrix = torch.cat([weight, bias[:, None]], 1)
    if not carry:
        return matrix
    one = torch.zeros(1, matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    one[0, -1] = 1
    return torch.cat([matrix, one])


def forward(matrices: list[Tensor], x: Tensor) -> Tensor:
    """Outputs ``[m, C]`` for inputs ``[m, features]``."""
    h = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64, device=x.device)], 1)
    for matrix in matrices[:-1]:
        h = torch.relu(h @ matrix.T)
    return h @ matrices[-1].T


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """``[m]``."""
    right = outputs.gather(1, labels[:, None])[:, 0]
    others = outputs.scatter(1, labels[:, None], -math.inf).amax(1)
    return right - others


def norm_bounds(network: nn.Module, x: Tensor, labels: Tensor) -> dict[str, float | None]:
    """``frobenius`` and ``spectral``, as above; None for a network that is no MLP.

    Args:
        network: Trained.
        x: The samples that it was trained on, ``[m, ...]``.
        labels: Their labels.
    """
    if not isinstance(network, MLP):
        return {"frobenius": None, "spectral": None}
    matrices, x = chain(network), x.flatten(1)
    found = margins(forward(matrices, x), labels)
    m, k = len(x), len(matrices)
    energy = float(x.double().square().sum()) + m  # each sample has the 1 beside it
    confidence = 3 * math.sqrt(math.log(2 / DELTA) / (2 * m))

    product = math.prod(float(torch.linalg.matrix_norm(a)) for a in matrices[:-1])
    heads = float(matrices[-1].norm(dim=1).sum())
    frobenius = 4 * math.sqrt(energy) / m * (math.sqrt(2 * k * math.log(2)) + 1) * product * heads

    sizes = [float(torch.linalg.matrix_norm(a, 2)) for a in matrices]
    # ||A^T||_{2,1} is the sum of the norms of the rows of A.
    spread = sum(
        (float(a.norm(dim=1).sum()) / s) ** (2 / 3) for a, s in zip(matrices, sizes, strict=True)
    )
    spectral = math.sqrt(energy) / m * math.prod(sizes) * spread**1.5
    return {
        "frobenius": _best(found, frobenius) + confidence,
        "spectral": _best(found, spectral),
    }


def _best(found: Tensor, complexity: float) -> float:
    """Least ``share of margins below gamma + complexity / gamma`` over positive quantiles."""
    gammas = found.quantile(QUANTILES.to(found.device))
    gammas = gammas[gammas > 0]
    if len(gammas) == 0:
        return math.inf
    below = (found[:, None] < gammas).double().mean(0)
    return float((below + complexity / gammas).min())
