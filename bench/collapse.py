"""Class statistics: the acceptance lines, each against torch's own ways in one interleaved race.

Two threads, float32. Whatever is timed is compared with float64 first, ours and the peers alike;
a peer that is wrong at this accuracy (raw moments, say) is still a rival and is told of in a note.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dlaccel import collapse

from .lines import Calls, Lines
from .measure import Effort, Found
from .rows import OURS

THREADS = 2


def measure(effort: Effort) -> Found:
    """Measures every line, prints them, and gives a row for each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        made = Lines(effort)
        for classes in (10, 100, 1000):
            _moments(made, classes)
        _pairs(made)
        _directional(made)
        _nearest_centre(made)
        _episodes(made)
    finally:
        torch.set_num_threads(threads)
    return made.shown("class statistics")


def clusters(samples: int, width: int, classes: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Gaussian classes of unit spread about normal means; every class has a sample."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randperm(samples, generator=generator) % classes
    means = torch.randn(classes, width, generator=generator)
    return means[labels] + torch.randn(samples, width, generator=generator) + offset, labels


def exact_moments(x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Means and variances (trace) in float64, by two passes."""
    wide = x.double()
    counts = torch.bincount(labels, minlength=classes)
    means = wide.new_zeros(classes, x.shape[1]).index_add_(0, labels, wide) / counts[:, None]
    squares = (wide - means[labels]).square().sum(1)
    return means, wide.new_zeros(classes).index_add_(0, labels, squares) / counts


def _moments(made: Lines, classes: int) -> None:
    x, labels = clusters(50_000, 512, classes)
    order = labels.argsort(stable=True)
    starts = torch.bincount(labels, minlength=classes).cumsum(0).roll(1)
    starts[0] = 0

    def ours() -> collapse.ClassStatistics:
        statistics = collapse.ClassStatistics(classes, 512)
        statistics.update(x, labels)
        return statistics

    def two_passes() -> Tensor:
        sums = torch.zeros(classes, 512).index_add_(0, labels, x)
        means = sums / torch.bincount(labels, minlength=classes)[:, None]
        squares = (x - means[labels]).square().sum(1)
        return torch.zeros(classes).index_add_(0, labels, squares)

    def norms() -> Tensor:
        return torch.zeros(classes).index_add_(
            0, labels, torch.linalg.vector_norm(x, dim=1).square_()
        )

    def index_add() -> tuple[Tensor, Tensor]:
        return torch.zeros(classes, 512).index_add_(0, labels, x), norms()

    def one_hot() -> tuple[Tensor, Tensor]:
        return torch.nn.functional.one_hot(labels, classes).float().T @ x, norms()

    def embedding_bag() -> tuple[Tensor, Tensor]:
        bag = torch.nn.functional.embedding_bag
        return bag(order, x, starts, mode="sum"), norms()

    where = f"moments (50000, 512), {classes} classes"
    variances = exact_moments(x, labels, classes)[1]
    if not made.admits(where, ours().compute().variances, variances, 1e-9):
        return
    raw = {"index_add": index_add, "one-hot": one_hot, "embedding_bag": embedding_bag}
    result = made.race({OURS: ours, "sum": x.sum, "two passes": two_passes, **raw})
    made.add(f"{where}: ours over X.sum()", "at most", 2, result.ratio(OURS, "sum"))
    made.add(f"{where}: two passes over ours", "at least", 4, result.ratio("two passes", OURS))
    fastest = min(raw, key=lambda who: result.time(who).median)
    what = f"{where}: fastest raw form ({fastest}) over ours"
    made.add(what, "at least", 1.5, result.ratio(fastest, OURS))


def _pairs(made: Lines) -> None:
    classes, width = 1000, 512
    x, labels = clusters(4 * classes, width, classes)
    statistics = collapse.ClassStatistics(classes, width)
    statistics.update(x, labels)
    geometry = statistics.compute()
    means, variances = geometry.means, geometry.variances
    truth = (variances[:, None] + variances) / (2 * torch.cdist(means, means).square())
    off = ~torch.eye(classes, dtype=torch.bool)
    where = f"CDNV of all pairs of {classes} classes, D = {width}"
    if not made.admits(where, geometry.cdnv().pairs[off], truth[off], 1e-9):
        return
    single = means.float()
    calls: Calls = {
        OURS: geometry.cdnv,
        "float64 Gram": lambda: means @ means.T,
        "float32 Gram": lambda: single @ single.T,
    }
    result = made.race(calls)
    for gram in ("float64 Gram", "float32 Gram"):
        made.add(f"{where}: ours over the {gram}", "at most", 2, result.ratio(OURS, gram))


def _directional(made: Lines) -> None:
    classes, width = 100, 512
    x, labels = clusters(20_000, width, classes)
    statistics = collapse.ClassStatistics(classes, width)
    statistics.update(x, labels)
    geometry = statistics.compute()

    def ours() -> Tensor:
        projections = collapse.Projections(geometry)
        projections.update(x, labels)
        return projections.compute().cdnv.pairs

    def loop(rows: Tensor, means: Tensor) -> Tensor:
        pairs = rows.new_full((classes, classes), float("nan"))
        for i in range(classes):
            centred = rows[labels == i] - means[i]
            for j in range(classes):
                if i != j:
                    direction = means[j] - means[i]
                    length = direction.square().sum()
                    pairs[i, j] = (centred @ direction).square().mean() / length.square()
        return pairs

    off = ~torch.eye(classes, dtype=torch.bool)
    truth, means = loop(x.double(), geometry.means), geometry.means.float()
    where = f"directional CDNV, {classes} classes, (20000, {width})"
    if made.admits(where, ours()[off], truth[off], 1e-6):
        result = made.race({OURS: ours, "loop over pairs": partial(loop, x, means)})
        made.add(f"{where}: loop over ours", "at least", 5, result.ratio("loop over pairs", OURS))


def _nearest_centre(made: Lines) -> None:
    classes, width = 1000, 512
    for offset in (0.0, 1e4):
        x, labels = clusters(20_000, width, classes, offset)
        means, _ = exact_moments(x, labels, classes)
        centre = collapse.NearestCentre(means)
        distances = torch.cdist(x.double(), means, compute_mode="donot_use_mm_for_euclid_dist")
        wrong = int((centre.predict(x) != distances.argmin(1)).sum())
        where = f"nearest of {classes} centres, (20000, {width}), offset {offset:g}"
        if wrong:
            made.found.refused.append(f"{where}: {wrong} rows differ from float64.")
            continue
        product, single = torch.empty(len(x), classes), means.float()
        calls: Calls = {
            OURS: partial(centre.predict, x),
            "product": partial(torch.mm, x, single.T, out=product),
        }
        result = made.race(calls)
        ratio = result.ratio(OURS, "product")
        made.add(f"{where}: ours over the product alone", "at most", 1.1, ratio)


def _episodes(made: Lines) -> None:
    ways, shots, queries, width = 5, 5, 15, 640
    x, labels = clusters(12_000, width, 20)
    episodes = collapse.draw_episodes(
        labels, ways=ways, shots=shots, queries=queries, episodes=1000, seed=0
    )
    answers = torch.arange(ways).repeat_interleave(queries)

    def loop() -> Tensor:
        accuracies = []
        for support, query in zip(episodes.support, episodes.query, strict=True):
            centres = x[support].mean(1)
            nearest = torch.cdist(x[query.flatten()], centres).argmin(1)
            accuracies.append((nearest == answers).double().mean())
        return torch.stack(accuracies)

    def ours() -> Tensor:
        return collapse.few_shot(x, episodes).accuracy

    where = f"1000 episodes, {ways} ways, {shots} shots, {queries} queries, D = {width}"
    # A distance tie to the last bit may fall either way: one query in 75,000.
    if made.admits(where, ours(), loop(), 1e-4):
        result = made.race({OURS: ours, "loop": loop})
        made.add(f"{where}: loop over ours", "at least", 10, result.ratio("loop", OURS))
