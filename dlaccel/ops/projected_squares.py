r"""Squared projections of deviations on the lines between centres, summed by class.

For a sample of class i and axes :math:`a_k`, ``deviation_products`` writes
:math:`Q_{nk} = \langle x_n - \mu_i, a_k \rangle`: the deviations, in float64, are formed on the way
into the product. Elsewhere than on a CPU its reference runs, whose product is torch's.

From :math:`P_{nj} = \langle x_n - \mu_i, \tilde\mu_j \rangle`, the products with the centred means,
``projected_squares`` adds for each n of class i

.. math:: n_i \mathrel{+}= 1, \qquad
          S_{ij} \mathrel{+}= (P_{nj} - P_{ni})^2 = \langle x_n - \mu_i, \mu_j - \mu_i \rangle^2,

whence the variance along the line, :math:`S_{ij} / (n_i \|\mu_j - \mu_i\|^2)`. The formula is that
of the directional CDNV, arXiv 2603.03530.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "projected_squares"
DEVIATIONS = "deviation_products"


def reference(counts: Tensor, squares: Tensor, products: Tensor, labels: Tensor) -> None:
    """Adds a tile to the state; ``check`` has seen the arguments. Labels outside are nobody's."""
    used = (labels >= 0) & (labels < len(counts))
    own = labels.long().where(used, 0)
    along = products - products.gather(1, own[:, None])
    counts.index_add_(0, own, used.double())
    squares.index_add_(0, own, along.square().masked_fill(~used[:, None], 0))


def check(counts: Tensor, squares: Tensor, products: Tensor, labels: Tensor) -> None:
    """Refuses what the kernel must not see. On a GPU the numbers of the labels stay unseen."""
    _check.tensors(NAME, {"products": products, "labels": labels})
    classes = len(counts)
    _check.dtype(NAME, {"products": products}, torch.float64)
    if products.ndim != 2 or products.shape[1] != classes:
        rule = f"have shape (n, {classes})"
        _check.refuse(NAME, "products", rule, tuple(products.shape), ValueError)
    _check.labels(NAME, labels, len(products), classes)
    for name, value in {"products": products, "labels": labels}.items():
        if value.device != counts.device:
            _check.refuse(NAME, name, f"be on device {counts.device}", value.device, ValueError)


def deviation_reference(
    products: Tensor, features: Tensor, labels: Tensor, means: Tensor, axes: Tensor
) -> None:
    """Writes the products, 0 for a row without a class; ``check`` has seen the arguments."""
    own = labels.clamp(min=0)
    deviations = features.double().contiguous() - means.index_select(0, own)
    deviations.masked_fill_((labels < 0)[:, None], 0)
    products.copy_(deviations @ axes.contiguous().T)


def deviation_check(
    products: Tensor, features: Tensor, labels: Tensor, means: Tensor, axes: Tensor
) -> None:
    """Refuses what the kernel must not see. A GPU's labels must lie in the classes, or be -1."""
    inputs = {"features": features, "labels": labels, "means": means, "axes": axes}
    _check.tensors(DEVIATIONS, inputs)
    _check.floating(DEVIATIONS, {"features": features})
    _check.dtype(DEVIATIONS, {"means": means, "axes": axes}, torch.float64)
    width = means.shape[1]
    if features.ndim != 2 or features.shape[1] != width:
        rule = f"have shape (n, {width})"
        _check.refuse(DEVIATIONS, "features", rule, tuple(features.shape), ValueError)
    if axes.shape != (products.shape[1], width):
        rule = f"have shape ({products.shape[1]}, {width})"
        _check.refuse(DEVIATIONS, "axes", rule, tuple(axes.shape), ValueError)
    _check.labels(DEVIATIONS, labels, len(features), len(means))
    for name, value in inputs.items():
        if value.device != products.device:
            rule = f"be on device {products.device}"
            _check.refuse(DEVIATIONS, name, rule, value.device, ValueError)


PROJECTED_SQUARES = Procedure(
    name=NAME,
    schema="Tensor(a!) counts, Tensor(b!) squares, Tensor products, Tensor labels",
    reference=reference,
    check=check,
)


DEVIATION_PRODUCTS = Procedure(
    name=DEVIATIONS,
    schema="Tensor(a!) products, Tensor features, Tensor labels, Tensor means, Tensor axes",
    reference=deviation_reference,
    check=deviation_check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Some labels are -1, the state is not empty."""
    rows, classes = size
    products = make(rows, classes).double()
    where = products.device
    counts = torch.arange(classes, dtype=torch.float64, device=where)
    squares = torch.linspace(0, 3, classes * classes, dtype=torch.float64, device=where)
    labels = torch.arange(rows, device=where) * 7 % 11 % (classes + 1) - 1
    return counts, squares.view(classes, classes), products, labels


def _deviation_sample(size: Shape, make: Make) -> tuple[Any, ...]:
    rows, columns, width = size
    features = make(rows, width)
    labels = torch.arange(rows, device=features.device) * 7 % 11 % 6 - 1
    products = torch.full((rows, columns), -7, dtype=torch.float64, device=features.device)
    return products, features, labels, make(5, width).double(), make(columns, width).double()


def _with_labels(change: Callable[[Tensor], Tensor]) -> Callable[[Make], None]:
    def call(make: Make) -> None:
        *others, labels = _sample((4, 3), make)
        PROJECTED_SQUARES(*others, change(labels))

    return call


def _with_products(products: Callable[[Make], Tensor]) -> Callable[[Make], None]:
    def call(make: Make) -> None:
        counts, squares, _, labels = _sample((4, 3), make)
        PROJECTED_SQUARES(counts, squares, products(make), labels)

    return call


_with_deviations = replacing(DEVIATION_PRODUCTS, lambda make: _deviation_sample((4, 3, 6), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROJECTED_SQUARES,
    reference=reference,
    sample=_sample,
    variants={"int64": lambda a: a, "int32": lambda a: (*a[:3], a[3].int())},
    writes=2,
    sizes=((0, 5), (1, 1), (37, 13), (300, 39), (90, 71)),
    roundings=3,  # the difference, its square, the sum
    reduces=lambda size: max(1, size[0]),
    source="directional CDNV: arXiv 2603.03530",
    bad={
        "products' dtype": Bad(
            _with_products(lambda make: make(4, 3).float()),
            TypeError,
            "dlaccel.projected_squares: products must have dtype float64, got float32.",
        ),
        "products' width": Bad(
            _with_products(lambda make: make(4, 2).double()),
            ValueError,
            "dlaccel.projected_squares: products must have shape (n, 3), got (4, 2).",
        ),
        "labels' dtype": Bad(
            _with_labels(lambda labels: labels.double()),
            TypeError,
            "dlaccel.projected_squares: labels must have dtype int64 or int32, got float64.",
        ),
        "labels' length": Bad(
            _with_labels(lambda labels: labels[:3]),
            ValueError,
            "dlaccel.projected_squares: labels must have shape (4,), got (3,).",
        ),
    },
)
DEVIATION_SPEC = ProcedureSpec(
    name=DEVIATIONS,
    procedure=DEVIATION_PRODUCTS,
    reference=deviation_reference,
    sample=_deviation_sample,
    variants={"int64": lambda a: a, "int32": lambda a: (*a[:2], a[2].int(), *a[3:])},
    writes=1,
    sizes=((0, 5, 3), (1, 1, 1), (37, 13, 9), (130, 17, 33), (101, 71, 523)),
    roundings=4,  # the difference, the product and the sum, on two sides
    reduces=lambda size: max(1, size[2]),
    source="directional CDNV: arXiv 2603.03530",
    bad={
        "features' width": Bad(
            _with_deviations(1, lambda make: make(4, 5)),
            ValueError,
            "dlaccel.deviation_products: features must have shape (n, 6), got (4, 5).",
        ),
        "axes' shape": Bad(
            _with_deviations(4, lambda make: make(2, 6).double()),
            ValueError,
            "dlaccel.deviation_products: axes must have shape (3, 6), got (2, 6).",
        ),
        "means' dtype": Bad(
            _with_deviations(3, lambda make: make(5, 6).float()),
            TypeError,
            "dlaccel.deviation_products: means must have dtype float64, got float32.",
        ),
        "labels' length": Bad(
            _with_deviations(2, lambda make: torch.zeros(3, device=make(1).device).int()),
            ValueError,
            "dlaccel.deviation_products: labels must have shape (4,), got (3,).",
        ),
    },
)
SPECS = (SPEC, DEVIATION_SPEC)
