r"""The moments of labelled features, class by class, in one pass about a shift.

For class c with shift :math:`s_c`, over its samples :math:`x_i` of weight :math:`w_i`:

.. math:: n_c = \sum w_i, \quad S_c = \sum w_i (x_i - s_c), \quad Q_c = \sum w_i \|x_i - s_c\|^2,

beside the number of samples, and from them the mean :math:`s_c + S_c / n_c` and the trace of the
covariance :math:`Q_c / n_c - \|S_c / n_c\|^2`. With a shift inside the class nothing cancels:
Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance".

Labels of -1 and weights of 0 leave a sample out. With ``adopt``, a class without samples first
takes its first sample as shift, and a common shift, (1, D), that nobody has used yet the first of
all; an entry that is not finite stays 0 there, so that such a sample spoils its own class alone.

A wrong label or weight is refused on the CPU. A kernel on a GPU, whose values the host does not
wait for, notes the first in ``fault``: row, label and the bits of the float64 weight, -1 where
there is none. While a fault stands, nothing is added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check, _core
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "class_moments"


def reference(
    counts: Tensor,
    samples: Tensor,
    sums: Tensor,
    squares: Tensor,
    shifts: Tensor,
    fault: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    adopt: int,
) -> None:
    """Adds ``features`` to the state; ``check`` has seen the arguments."""
    labels = labels.long()
    weights = torch.ones_like(labels, dtype=torch.float64) if weight is None else weight.double()
    if _has_fault(fault, labels, weights, len(counts)):
        return
    used = (labels >= 0) & (weights > 0)
    rows, labels, weights = features[used].double(), labels[used], weights[used]
    if adopt:
        _adopt(counts, shifts, rows, labels)
    shifted = rows - (shifts[labels] if len(shifts) == len(counts) > 1 else shifts[:1])
    counts.index_add_(0, labels, weights)
    samples.index_add_(0, labels, torch.ones_like(weights))
    sums.index_add_(0, labels, shifted * weights[:, None])
    squares.index_add_(0, labels, shifted.square().sum(1) * weights)


def _has_fault(fault: Tensor, labels: Tensor, weights: Tensor, classes: int) -> bool:
    """Notes the first wrong label or weight, if none was noted before."""
    wrong = (labels < -1) | (labels >= classes) | ~(weights >= 0) | weights.isinf()
    if bool(wrong.any()) and fault[0] < 0:
        place = wrong.nonzero()[0]
        fault.copy_(torch.cat([place, labels[place], weights[place].view(torch.int64)]))
    return bool(fault[0] >= 0)


def _adopt(counts: Tensor, shifts: Tensor, rows: Tensor, labels: Tensor) -> None:
    """Shifts not yet in use become the first sample of their class or, if common, of all."""
    if len(shifts) != len(counts):
        labels, counts = torch.zeros_like(labels), counts.sum(0, keepdim=True)
    places = torch.arange(len(labels), device=labels.device)
    first = torch.full((len(shifts),), len(labels), device=labels.device)
    first.scatter_reduce_(0, labels, places, "amin")
    new = (first < len(labels)) & (counts == 0)
    shifts[new] = rows[first[new]].nan_to_num(0.0, 0.0, 0.0)


def check(
    counts: Tensor,
    samples: Tensor,
    sums: Tensor,
    squares: Tensor,
    shifts: Tensor,
    fault: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    adopt: int,
) -> None:
    """Refuses what the kernel must not see. On a GPU the kernel itself looks at the labels."""
    inputs = {"features": features, "labels": labels}
    weights = {} if weight is None else {"weight": weight}
    _check.tensors(NAME, inputs | weights)
    _check.floating(NAME, {"features": features} | weights)
    if features.ndim != 2 or features.shape[1] != sums.shape[1]:
        rule = f"have shape (N, {sums.shape[1]})"
        _check.refuse(NAME, "features", rule, tuple(features.shape), ValueError)
    _check.labels(NAME, labels, len(features), len(counts))
    for name, value in (inputs | weights).items():
        if value.device != sums.device:
            _check.refuse(NAME, name, f"be on device {sums.device}", value.device, ValueError)
    if weight is not None:
        _check.weights(NAME, weight, len(features))


class _ClassMoments(Procedure):
    """CUDA's kernels sort the rows first, in room that is allocated beside them."""

    def _launch(self, kernel: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if arguments[0].is_cuda or _core.ISA == "cuda_host":
            room = scratch(arguments[0], arguments[6])
            super()._launch(lambda lane, *given: kernel(lane, *given, *room), arguments)
        else:
            super()._launch(kernel, arguments)


def scratch(counts: Tensor, features: Tensor) -> tuple[Tensor, ...]:
    """Places, starts, order, edges and runs of ``csrc/ops/class_moments/class_moments.cu``.

    How many chunks and pieces the rows are cut into fixes the order of the sums: it follows from
    the shapes alone. A piece is summed by a block for each 128 columns.
    """
    classes, (samples, width) = len(counts), features.shape
    chunks = max(1, min(samples // 256, 2**22 // (classes + 1), 1024))
    pieces = max(1, min(samples // 64, 2**17 // max(width, 1), 1024))
    tiles = max(1, -(-width // 128))
    return (
        counts.new_empty((chunks, classes + 1), dtype=torch.int32),
        counts.new_empty(classes + 1, dtype=torch.int32),
        counts.new_empty(samples, dtype=torch.int32),
        counts.new_empty((pieces, 2, width)),
        counts.new_empty((classes + pieces, tiles + 1)),
    )


PROCEDURE = _ClassMoments(
    name=NAME,
    schema="Tensor(a!) counts, Tensor(b!) samples, Tensor(c!) sums, Tensor(d!) squares, "
    "Tensor(e!) shifts, Tensor(f!) fault, Tensor features, Tensor labels, Tensor? weight, "
    "int adopt",
    reference=reference,
    check=check,
)

CLASSES = 5


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Class 3 stays empty, class 1 has a state already, some labels are -1."""
    rows, width = size
    features = make(rows, width)
    where = features.device
    counts, samples, squares = torch.zeros(3, CLASSES, dtype=torch.float64, device=where)
    sums = torch.zeros(CLASSES, width, dtype=torch.float64, device=where)
    counts[1], samples[1], squares[1] = 3, 4, 12 * width
    sums[1] = torch.linspace(-1, 2, width)
    labels = torch.arange(rows, device=where) * 7 % 11 % (CLASSES + 1) - 1
    labels[labels == 3] = 4
    fault = torch.full((3,), -1, device=where)
    shifts = torch.zeros_like(sums)
    return counts, samples, sums, squares, shifts, fault, features, labels, None, 1


def _weighted(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    *state, features, labels, _, adopt = arguments
    weight = torch.arange(len(features), device=features.device) % 4 * 0.25
    return (*state, features, labels.int(), weight.to(features.dtype), adopt)


def _common(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    *state, shifts, fault = (torch.zeros_like(a) for a in arguments[:6])
    return (*state, shifts[:1].clone(), fault - 1, *arguments[6:])


def _given(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    *state, shifts, fault, features, labels, weight, _ = arguments
    shift = torch.linspace(-1, 1, shifts.shape[1], dtype=torch.float64, device=shifts.device)
    return (*state, shift[None], fault, features, labels, weight, 0)


_with = replacing(PROCEDURE, lambda make: _sample((4, 3), make))


def _labels(*values: float) -> Callable[[Make], Tensor]:
    return lambda make: torch.tensor(values, device=make(1).device)


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={
        "own shifts": lambda a: a,
        "weighted": _weighted,
        "common shift": _common,
        "given shift": _given,
    },
    writes=6,
    sizes=((0, 5), (1, 1), (37, 13), (150, 1100), (5000, 96)),
    roundings=6,  # the shifted value, its square, the weight, each sum, on both sides
    reduces=lambda size: max(1, size[0] * size[1]),
    source="Chan, Golub, LeVeque 1983; CDNV: Galanti, Gyorgy, Hutter 2022, arXiv 2112.15121",
    bad={
        "features' width": Bad(
            _with(6, lambda make: make(4, 2)),
            ValueError,
            "dlaccel.class_moments: features must have shape (N, 3), got (4, 2).",
        ),
        "labels' dtype": Bad(
            _with(7, _labels(0.0, 1.0, 2.0, 0.0)),
            TypeError,
            "dlaccel.class_moments: labels must have dtype int64 or int32, got float32.",
        ),
        "labels' length": Bad(
            _with(7, _labels(0, 1, 2)),
            ValueError,
            "dlaccel.class_moments: labels must have shape (4,), got (3,).",
        ),
        "weight's length": Bad(
            _with(8, lambda make: make(3)),
            ValueError,
            "dlaccel.class_moments: weight must have shape (4,), got (3,).",
        ),
    },
)
