r"""The hyperkernel, and covariances that its second network can start from.

A hypernetwork :math:`h(x, z) = g(z; f(x))` of two infinitely wide networks is a Gaussian process,
and trains linearly under a tangent kernel of its own. With s the covariance of f's outputs, and
:math:`\kappa_1`, :math:`\kappa_0` the arc-cosine kernels,

.. math::
    A^l = \kappa_1(s A^{l-1}), \qquad
    \Theta_g = \sum_{l=1}^{H} A^{l-1} \prod_{k=l}^{H-1} s \, \kappa_0(s A^{k-1}), \qquad
    K = s A^{H-1}, \quad K_h = \Theta_f \, \Theta_g.

It is no product of two finished kernels: the second factor depends on s.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .. import _check
from ..ops.hyperkernel_recursion import PROCEDURE
from ._activations import RECTIFIERS, ABRelu, resolve
from ._correlations import PANEL
from ._kernels import Kernels
from ._points import check_inputs
from .infinite import infinite

OP = "ntk.hyperkernel"


@torch.no_grad()
def hyperkernel(
    x_covariance: Kernels,
    z1: Tensor | Kernels,
    z2: Tensor | None = None,
    *,
    depth: int,
    activation: str | ABRelu = "relu",
    backward_scale: bool = True,
    grid: Literal["paired", "product"] = "paired",
) -> Kernels:
    r"""NNGP and tangent kernel of a hypernetwork, both of whose networks are infinitely wide.

    Args:
        x_covariance: Kernels of the network f on the inputs x, as :func:`infinite` gives them; with
            ``gap=True`` near-duplicate inputs lose nothing. f's read-out without a factor of its
            own, ``weight_std=2**0.5, readout_weight_std=1``, is that of the paper.
        z1: Inputs of the generated network g, (N, m), whose covariance is :math:`z z' / m`; or that
            covariance :math:`A^0` as kernels, from :func:`fourier_covariance` say.
        z2: Others, (M, m); ``z1`` itself where None.
        depth: Hidden layers of g, H - 1 of H generated weight layers.
        activation: Of g, a rectifier, scaled to keep norms (ReLU times the root of 2).
        backward_scale: False leaves the factor s out of the products in :math:`\Theta_g`, as the
            released code does.
        grid: ``"paired"``: point i is :math:`(x_i, z_i)`, kernels are (N, M). ``"product"``: every
            x with every z, z the faster: kernels are (N_x N_z, M_x M_z).

    Returns:
        Float64 where a covariance is, else float32. No gradient flows through it.

    Raises:
        TypeError: ``x_covariance`` is not ``Kernels``, or z is neither tensor nor ``Kernels``.
        ValueError: Shapes do not fit, or a number or word is not one of those allowed.

    Source: Littwin, Galanti, Wolf, Yang 2020 (arXiv 2003.12193).
    """
    _check.choice(OP, "grid", grid, ("paired", "product"))
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        _check.refuse(OP, "depth", "be an integer and not negative", depth, ValueError)
    if not isinstance(x_covariance, Kernels):
        rule, got = "be Kernels", type(x_covariance).__name__
        _check.refuse(OP, "x_covariance", rule, got, TypeError)
    rectifier = resolve(OP, activation)
    if not isinstance(rectifier, ABRelu):
        words = ", ".join(RECTIFIERS)
        _check.refuse(OP, "activation", f"be {words} or an ABRelu", activation, ValueError)
    if isinstance(z1, Tensor):
        inputs = infinite(z1, z2, depth=0, weight_std=1.0, gap=True)
    elif isinstance(z1, Kernels) and z2 is None:
        inputs = z1
    else:
        rule = "be a tensor, or Kernels without z2"
        _check.refuse(OP, "z1", rule, type(z1).__name__, TypeError)
    shapes = tuple(x_covariance.nngp.shape), tuple(inputs.nngp.shape)
    if grid == "paired" and shapes[0] != shapes[1]:
        _check.refuse(OP, "z1", f"have a covariance of shape {shapes[0]}", shapes[1], ValueError)
    if inputs.nngp.device != x_covariance.nngp.device:
        rule = f"be on x_covariance's device {x_covariance.nngp.device}"
        _check.refuse(OP, "z1", rule, inputs.nngp.device, ValueError)
    return _evaluate(x_covariance, inputs, depth, rectifier, backward_scale, grid == "product")


def _evaluate(
    x: Kernels, z: Kernels, depth: int, rectifier: ABRelu, backward_scale: bool, product: bool
) -> Kernels:
    dtype = torch.promote_types(x.nngp.dtype, z.nngp.dtype)
    left, right = (
        _deviations(*sides, depth, product)
        for sides in ((x.variances1, z.variances1), (x.variances2, z.variances2))
    )
    shape = (*left.shape, *right.shape)
    nngp, tangent = (torch.empty(shape, dtype=dtype, device=left.device) for _ in range(2))
    whole = correlations(z) if product else None
    height = max(1, PANEL // max(nngp[:1].numel(), 1))
    for rows in (slice(i, i + height) for i in range(0, len(left), height)):
        part = _rows(x, rows)
        over = _inverse(part.variances1)[:, None] * _inverse(part.variances2)
        cosine, gap = correlations(part)
        factor, first = cosine if backward_scale else over, part.ntk * over
        inputs = whole or correlations(_rows(z, rows))
        operands = [cosine, gap, *inputs, factor, first]
        if product:
            operands = [
                t[None, :, None, :] if place in (2, 3) else t[:, None, :, None]
                for place, t in enumerate(operands)
            ]
        operands += [left[rows].view(*left[rows].shape, *[1] * right.ndim), right]
        views = (t.to(dtype).expand(nngp[rows].shape) for t in operands)
        PROCEDURE(nngp[rows], tangent[rows], *views, depth, rectifier.contrast)
    matrix = (left.numel(), right.numel())
    variances1, variances2 = (side.square().flatten().to(dtype) for side in (left, right))
    return Kernels(nngp.view(matrix), tangent.view(matrix), variances1, variances2)


def _deviations(of_x: Tensor, of_z: Tensor, depth: int, product: bool) -> Tensor:
    """Of g's output at every point, float64; of every (x, z) of a product."""
    own = of_x.double() ** ((depth + 1) / 2)
    return (own[:, None] if product else own) * of_z.double().sqrt()


def _rows(kernels: Kernels, rows: slice) -> Kernels:
    gap = None if kernels.gap is None else kernels.gap[rows]
    own = (kernels.nngp[rows], kernels.ntk[rows], kernels.variances1[rows])
    return Kernels(*own, kernels.variances2, gap)


def correlations(kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Correlations and their gaps, float64; from the kernels' own digits where no gap is kept."""
    sides = (kernels.variances1.double(), kernels.variances2.double())
    size = sides[0].sqrt()[:, None] * sides[1].sqrt()
    cosine = torch.where(size == 0, 0.0, kernels.nngp / size).clamp(-1, 1)
    gap = 1 - cosine.abs() if kernels.gap is None else kernels.gap.double()
    return cosine, gap


def _inverse(variances: Tensor) -> Tensor:
    return torch.where(variances == 0, 0.0, variances.double().rsqrt())


@torch.no_grad()
def fourier_covariance(z1: Tensor, z2: Tensor | None = None, bandwidth: float = 1.0) -> Kernels:
    r"""The covariance of infinitely many random Fourier features of coordinates.

    .. math:: A^0(z, z') = \exp(-\|z - z'\|^2 / (2 h^2)),

    the limit of :math:`\frac{2}{m} \sum_i \cos(w_i z + p_i) \cos(w_i z' + p_i)` for m frequencies w
    of variance :math:`1 / h^2` and uniform phases p. The tangent kernel of a linear read-out of
    them is the same.

    Args:
        z1: Coordinates, (N, k).
        z2: Others, (M, k); ``z1`` itself where None.
        bandwidth: h, positive, in the coordinates' units.

    Returns:
        Kernels with their gap; float64 where a coordinate is, else float32.

    Raises:
        TypeError: The coordinates are no floating tensor.
        ValueError: Shapes or devices do not fit, or ``bandwidth`` is not positive.

    Source: Rahimi and Recht 2007, "Random features for large-scale kernel machines".
    """
    op = "ntk.fourier_covariance"
    check_inputs(op, z1, z2, 2, "(N, k)")
    if not bandwidth > 0:
        _check.refuse(op, "bandwidth", "be positive", bandwidth, ValueError)
    others = z1 if z2 is None else z2
    wide = torch.promote_types(z1.dtype, others.dtype) == torch.float64
    dtype = torch.float64 if wide else torch.float32
    mine, theirs = z1.double(), others.double()
    nngp = mine.new_empty(len(z1), len(others), dtype=dtype)
    gap = torch.empty_like(nngp)
    height = max(1, PANEL // max(len(others), 1))
    for rows in (slice(i, i + height) for i in range(0, len(z1), height)):
        # by differences: a product would lose the small distances
        away = torch.cdist(mine[rows], theirs, compute_mode="donot_use_mm_for_euclid_dist")
        exponent = away.square_().div_(-2 * bandwidth**2)
        nngp[rows], gap[rows] = exponent.exp(), -torch.expm1(exponent)
    return Kernels(nngp, nngp, nngp.new_ones(len(z1)), nngp.new_ones(len(others)), gap)
