r"""Classifiers that few-shot episodes try on frozen features.

Each takes features (N, D), support (E, k, n) and query (E, k, q), rows of the features, and a
regularisation ``alpha``, and gives predictions (E, k, q) in [0, k) and hits (E, k), how many of a
class's q are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..ops.episode_hits import PROCEDURE as HITS
from ..solve import ridge_regression

Guesses = tuple[Tensor, Tensor]
Head = Callable[[Tensor, Tensor, Tensor, float], Guesses]
TILE = 1 << 20
"""Numbers of gathered features that a batch of episodes may have: 8 MB of float64."""

# What the two routes to the nearest centre cost, in nanoseconds on one AVX-512 core at 2.6 GHz;
# only the ratios matter. Measured with 1,000 episodes of 5 and 20 ways, 1 to 20 shots, 64 to 5120
# features: a feature compared with a centre; a multiply-add of a float64 matrix product; a row of
# inner products that a query looks up, and each entry of it.
COMPARED, MULTIPLIED, ROW, ENTRY = 0.07, 0.04, 80.0, 3.0
MOST_GRAM_ROWS = 4096
"""128 MB of inner products; in larger matrices every entry is a cache miss."""


def nearest_centre(features: Tensor, support: Tensor, query: Tensor, alpha: float) -> Guesses:
    """The class whose support has the nearest mean; ``alpha`` has no part in it.

    Directly from the features or, where that costs less, from the matrix of inner products of all N
    rows, whose cost for an episode does not depend on D.
    """
    predictions, hits = query.new_empty(query.shape), query.new_empty(query.shape[:2])
    if prefers_gram(features.shape, support.shape, query.shape):
        rows = about_the_middle(features)
        if rows.isfinite().all():  # else one bad row would spoil all
            HITS(predictions, hits, rows @ rows.T, support, query, 1)
            return predictions, hits
    HITS(predictions, hits, features, support, query, 0)
    return predictions, hits


def about_the_middle(features: Tensor) -> Tensor:
    """(N, D) float64, less the row that is nearest to the mean.

    So inner products are no larger than the spread asks for, and those of integers are exact.
    """
    rows = features.double()
    return rows - rows[(rows - rows.mean(0)).square().sum(1).argmin()]


def prefers_gram(features: torch.Size, support: torch.Size, query: torch.Size) -> bool:
    """Whether inner products of all rows cost less than comparing features."""
    samples, width = features
    episodes, ways, shots = support
    queries = query[2]
    if samples > MOST_GRAM_ROWS:
        return False
    compared = episodes * ways * (shots + ways * queries) * width
    looked_up = episodes * ways * (shots + queries)
    products = samples * samples * width * MULTIPLIED
    return products + looked_up * (ROW + ways * shots * ENTRY) < compared * COMPARED


def ridge(features: Tensor, support: Tensor, query: Tensor, alpha: float) -> Guesses:
    r"""Least squares on one-hot targets, :math:`\lambda = \alpha \sqrt n` on the weights alone.

    The bias bears no penalty, which is the same as features about the mean :math:`\bar f` of the
    support. With F the support's kn rows about it and Y their targets, a query's scores are

    .. math:: \langle f - \bar f, F^T (F F^T + \lambda I)^{-1} Y \rangle,

    or its primal form where that is smaller, float64. Source: arXiv 2112.15121, with
    :math:`\lambda` as recalled there.
    """
    ways, shots = support.shape[1:]
    one_hot = torch.eye(ways, dtype=torch.float64, device=features.device)
    targets = one_hot.repeat_interleave(shots, 0)
    found = []
    for rows, asked in _tiles(features, support, query):
        mean = rows.mean(1, keepdim=True)
        wanted = targets.expand(len(rows), -1, -1)
        weights = ridge_regression(rows - mean, wanted, alpha * math.sqrt(shots))
        found.append(((asked - mean) @ weights).argmax(2))
    return _scored(torch.cat(found).view(query.shape))


def logistic(features: Tensor, support: Tensor, query: Tensor, alpha: float) -> Guesses:
    r"""scikit-learn's logistic regression, the head of RFS, episode by episode on the CPU.

    It minimises the summed cross-entropy of the support and :math:`\frac{\alpha}{2} \|W\|^2`, with
    a bias that bears no penalty. Source: Tian et al. 2020, arXiv 2003.11539, where alpha is 1.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    ways, shots = support.shape[1:]
    labels = torch.arange(ways).repeat_interleave(shots).numpy()
    found = torch.empty(query.shape, dtype=torch.int64)
    episode = 0
    with threadpool_limits(1):  # an episode is too small to share
        for rows, asked in _tiles(features, support, query):
            for known, unknown in zip(rows.cpu().numpy(), asked.cpu().numpy(), strict=True):
                model = LogisticRegression(C=1 / alpha, max_iter=1000).fit(known, labels)
                found[episode] = torch.from_numpy(model.predict(unknown)).view(ways, -1)
                episode += 1
    return _scored(found.to(query.device))


def _scored(predictions: Tensor) -> Guesses:
    right = torch.arange(predictions.shape[1], device=predictions.device)[:, None]
    return predictions, (predictions == right).sum(2)


def _tiles(features: Tensor, support: Tensor, query: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Support (T, kn, D) and query (T, kq, D) in float64, some episodes at a time."""
    known, asked = support.flatten(1), query.flatten(1)
    numbers = (known.shape[1] + asked.shape[1]) * features.shape[1]
    some = max(1, TILE // max(1, numbers))
    for first in range(0, len(known), some):
        part = slice(first, first + some)
        yield features[known[part]].double(), features[asked[part]].double()


HEADS: dict[str, Head] = {"ncc": nearest_centre, "ridge": ridge, "logistic": logistic}
