r"""The nearest class centre in every few-shot episode, and how often it is the right one.

With n support rows of each class, :math:`S_c` their sum and so :math:`S_c / n` the class centre, a
query row x is given to the first class of the episode that has the least

.. math:: n^2 \| x - S_c / n \|^2 = \| n x - S_c \|^2 = n^2 \|x\|^2 - 2 n \langle x, S_c \rangle
    + \langle S_c, S_c \rangle,

in float64: from the differences, where an offset common to float32 features costs nothing, or from
the matrix of all inner products, at a cost that does not depend on the number of features. Snell,
Swersky, Zemel 2017, "Prototypical networks for few-shot learning".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "episode_hits"


def reference(
    predictions: Tensor, hits: Tensor, values: Tensor, support: Tensor, query: Tensor, gram: int
) -> None:
    """Writes predictions (E, k, q) and hits (E, k); ``check`` has seen the arguments."""
    ways, shots = support.shape[1:]
    squares = _by_products if gram else _by_differences
    for episode, (s, q) in enumerate(zip(support, query, strict=True)):
        distances = squares(values, s, q.flatten(), shots)
        least, nearest = distances.where(distances.isfinite(), torch.inf).min(1)
        predictions[episode] = nearest.where(least < torch.inf, -1).view(q.shape)
    hits.copy_((predictions == torch.arange(ways, device=hits.device)[:, None]).sum(2))


def _by_differences(features: Tensor, support: Tensor, query: Tensor, shots: int) -> Tensor:
    sums = features[support].double().sum(1)
    scaled = shots * features[query].double()
    return torch.stack([(scaled - one).square().sum(1) for one in sums], 1)


def _by_products(gram: Tensor, support: Tensor, query: Tensor, shots: int) -> Tensor:
    within = torch.stack([gram[s][:, s].sum() for s in support])
    return within - 2 * shots * gram[query][:, support].sum(2)


def check(
    predictions: Tensor, hits: Tensor, values: Tensor, support: Tensor, query: Tensor, gram: int
) -> None:
    """Refuses what the kernel must not see. On a GPU the kernel itself looks at the rows."""
    name = "gram" if gram else "features"
    rows = {"support": support, "query": query}
    state = {"predictions": predictions, "hits": hits}
    _check.tensors(NAME, {name: values} | rows | state)
    _check.floating(NAME, {name: values})
    if values.ndim != 2 or (gram and values.shape[0] != values.shape[1]):
        rule = "be a square matrix" if gram else "be a matrix (N, D)"
        _check.refuse(NAME, name, rule, f"shape {tuple(values.shape)}", ValueError)
    if gram:
        _check.dtype(NAME, {name: values}, torch.float64)
    _check.dtype(NAME, rows | state, torch.int64)
    for argument, value in (rows | state).items():
        if value.device != values.device:
            rule = f"be on {name}'s device {values.device}"
            _check.refuse(NAME, argument, rule, value.device, ValueError)
    if support.ndim != 3 or support.shape[2] == 0:
        rule = "have shape (E, k, n) with n > 0"
        _check.refuse(NAME, "support", rule, tuple(support.shape), ValueError)
    if query.ndim != 3 or query.shape[:2] != support.shape[:2]:
        rule = f"have the first two axes of support {tuple(support.shape)}"
        _check.refuse(NAME, "query", rule, tuple(query.shape), ValueError)
    for argument, value, shape in (
        ("predictions", predictions, query.shape),
        ("hits", hits, query.shape[:2]),
    ):
        if value.shape != shape:
            rule = f"have shape {tuple(shape)}"
            _check.refuse(NAME, argument, rule, tuple(value.shape), ValueError)
    for argument, value in rows.items():
        _check_rows(argument, value, len(values))


def _check_rows(argument: str, rows: Tensor, samples: int) -> None:
    if not _check.has_values(rows):
        return
    wrong = (rows < 0) | (rows >= samples)
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        got = f"{int(rows[place])} at {place}"
        _check.refuse(NAME, argument, f"hold rows in [0, {samples})", got, ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) predictions, Tensor(b!) hits, Tensor values, Tensor support, Tensor query, "
    "int gram",
    reference=reference,
    check=check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Rows of an episode differ; an odd step leads from one to the next."""
    episodes, ways, shots, queries, width = size
    each = shots + queries
    samples = 2 * ways * each + 1
    features = make(samples, width)
    where = features.device
    place = torch.arange(ways * each, device=where).view(ways, each)
    rows = (2 * place + 3 * torch.arange(episodes, device=where)[:, None, None]) % samples
    predictions = torch.full((episodes, ways, queries), -7, device=where)
    hits = torch.full((episodes, ways), -7, device=where)
    return predictions, hits, features, rows[..., :shots], rows[..., shots:], 0


def _products(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    features = arguments[2].double()
    return (*arguments[:2], features @ features.T, *arguments[3:5], 1)


_with = replacing(PROCEDURE, lambda make: _sample((2, 3, 2, 4, 5), make))


def _rows(*shape: int) -> Callable[[Make], Tensor]:
    return lambda make: torch.zeros(shape, dtype=torch.int64, device=make(1).device)


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={"features": lambda a: a, "inner products": _products},
    writes=2,
    sizes=(
        (0, 2, 1, 3, 4),
        (1, 1, 1, 1, 1),
        (3, 5, 3, 7, 13),
        (7, 9, 5, 7, 67),
        (2, 5, 2, 3, 1100),
        (2, 3, 1, 45, 9),
    ),
    roundings=0,
    source="Snell, Swersky, Zemel 2017, arXiv 1703.05175; Galanti et al., arXiv 2112.15121",
    bad={
        "rows' dtype": Bad(
            _with(3, lambda make: make(2, 3, 2)),
            TypeError,
            "dlaccel.episode_hits: support must have dtype int64, got float32.",
        ),
        "no support": Bad(
            _with(3, _rows(2, 3, 0)),
            ValueError,
            "dlaccel.episode_hits: support must have shape (E, k, n) with n > 0, got (2, 3, 0).",
        ),
        "other episodes": Bad(
            _with(4, _rows(1, 3, 4)),
            ValueError,
            "dlaccel.episode_hits: query must have the first two axes of support (2, 3, 2), "
            "got (1, 3, 4).",
        ),
        "predictions": Bad(
            _with(0, _rows(2, 3, 1)),
            ValueError,
            "dlaccel.episode_hits: predictions must have shape (2, 3, 4), got (2, 3, 1).",
        ),
        "features' axes": Bad(
            _with(2, lambda make: make(4)),
            ValueError,
            "dlaccel.episode_hits: features must be a matrix (N, D), got shape (4,).",
        ),
        "half an inner product": Bad(
            _with(5, lambda make: 1),
            ValueError,
            "dlaccel.episode_hits: gram must be a square matrix, got shape (37, 5).",
        ),
    },
)
