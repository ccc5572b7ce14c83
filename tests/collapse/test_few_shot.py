"""What few-shot episodes say: heads against scikit-learn and plain loops, and the intervals."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from samples import maker
from scipy import stats
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from dlaccel import _core
from dlaccel.collapse import heads
from dlaccel.collapse.accuracy import FewShot
from dlaccel.collapse.episodes import Episodes, draw_episodes, few_shot
from dlaccel.ops.episode_hits import PROCEDURE as HITS

CLASSES, EACH = 8, 12


def gaussian(device: str, width: int = 9, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Classes that overlap, so that a good part of the guesses is wrong."""
    make = maker(torch.float64, device)
    features = make(CLASSES, 1, width) + 1.5 * make(CLASSES, EACH, width)
    labels = torch.arange(CLASSES, device=device).repeat_interleave(EACH)
    return features.flatten(0, 1).to(dtype), labels


def drawn(labels: Tensor, ways: int = 5, shots: int = 3, episodes: int = 25) -> Episodes:
    return draw_episodes(labels, ways=ways, shots=shots, queries=6, episodes=episodes, seed=5)


def refusal(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def looped(features: Tensor, episodes: Episodes, model: object) -> Tensor:
    """Predictions (E, k, q) of a scikit-learn classifier, fitted for each episode."""
    found = torch.empty(episodes.query.shape, dtype=torch.int64)
    for e, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        labels = torch.arange(len(support)).repeat_interleave(support.shape[1])
        rows = features.cpu().double()
        model.fit(rows[support.flatten().cpu()].numpy(), labels.numpy())  # type: ignore[attr-defined]
        guess = model.predict(rows[query.flatten().cpu()].numpy())  # type: ignore[attr-defined]
        found[e] = torch.from_numpy(guess).view(query.shape)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shots", [2, 3])
def test_ncc_is_a_loop_over_nearest_centroids(shots: int, dtype: torch.dtype, device: str) -> None:
    features, labels = gaussian(device, dtype=dtype)
    episodes = drawn(labels, shots=shots)
    found = few_shot(features, episodes)
    predictions = looped(features, episodes, NearestCentroid())
    assert torch.equal(found.predictions.cpu(), predictions)
    right = (predictions == torch.arange(5)[:, None]).double()
    assert torch.equal(found.accuracy.cpu(), right.mean((1, 2)))
    assert 0.3 < found.mean < 0.9
    by_class = torch.stack([right[found.classes.cpu() == c].mean() for c in range(CLASSES)])
    torch.testing.assert_close(found.by_class.cpu(), by_class, rtol=1e-15, atol=0)


@pytest.mark.parametrize("shots", [1, 3])
def test_ncc_is_exact_at_a_great_offset(shots: int, device: str) -> None:
    """The differences of these very float32 numbers decide, to the last one."""
    features, labels = gaussian(device, width=200)
    episodes = drawn(labels, shots=shots)
    for moved in (features + 1e4, features.view(-1, 10, 20) - 1e4):
        rows = moved.double().flatten(1)
        centres = rows[episodes.support].mean(2)
        differences = rows[episodes.query].unsqueeze(3) - centres[:, None, None]
        exact = differences.square().sum(4).argmin(3)
        assert torch.equal(few_shot(moved, episodes).predictions, exact)


def test_inner_products_decide_as_differences_do(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = gaussian(device)
    episodes = drawn(labels)
    found = []
    for gram in (False, True):
        monkeypatch.setattr(heads, "prefers_gram", lambda *shapes, answer=gram: answer)
        found.append(few_shot(features + 1e4, episodes))
    assert torch.equal(found[0].predictions, found[1].predictions)
    assert torch.equal(found[0].hits, found[1].hits)


def test_inner_products_serve_many_episodes_of_few_wide_samples() -> None:
    def chosen(samples: int, width: int, episodes: int) -> bool:
        rows = torch.Size([episodes, 5, 5])
        return heads.prefers_gram(torch.Size([samples, width]), rows, torch.Size([episodes, 5, 15]))

    assert chosen(500, 640, 100_000)
    assert chosen(500, 25_600, 1000)
    assert not chosen(500, 640, 100)
    assert not chosen(500, 16, 100_000)
    assert not chosen(12_000, 640, 100_000)


def decided(x: Tensor, support: Tensor, query: Tensor, gram: int) -> tuple[list[int], list[int]]:
    """Predictions and hits of one episode, rows (k, n) and (k, q)."""
    values = (x @ x.T).double() if gram else x
    predictions, hits = torch.full_like(query[None], -7), torch.full_like(query[None, :, 0], -7)
    HITS(predictions, hits, values, support[None], query[None], gram)
    return predictions.flatten().tolist(), hits.flatten().tolist()


@pytest.mark.parametrize("gram", [0, 1])
def test_ties_go_to_the_first_class(gram: int, device: str) -> None:
    """Centres 11/3 and 19/3 are equally far from 5, though neither is a floating number."""
    x = torch.tensor([[0.0], [1], [10], [6], [6], [7], [5]], device=device)
    low, high = torch.tensor([[0, 1, 2], [3, 4, 5]], device=device)
    query = torch.tensor([[6], [6]], device=device)
    for support in (torch.stack([low, high]), torch.stack([high, low])):
        assert decided(x, support, query, gram) == ([0, 0], [1, 0])


@pytest.mark.parametrize("gram", [0, 1])
def test_what_is_not_finite_is_given_to_no_class(gram: int, device: str) -> None:
    x = torch.tensor([[0.0], [10], [9], [torch.nan], [torch.inf]], device=device)
    query = torch.tensor([[2, 3], [2, 4]], device=device)
    assert decided(x, query.new_tensor([[0], [1]]), query, gram) == ([1, -1, 1, -1], [0, 1])
    assert decided(x, query.new_tensor([[0], [3]]), query, gram) == ([0, -1, 0, -1], [1, 0])
    assert decided(x, query.new_tensor([[4], [3]]), query, gram)[1] == [0, 0]


@pytest.mark.parametrize(("ways", "alpha"), [(5, 1.0), (2, 30.0)])
def test_ridge_is_scikit_learns_with_its_bias(ways: int, alpha: float, device: str) -> None:
    features, labels = gaussian(device)
    episodes = drawn(labels, ways)
    found = few_shot(features, episodes, head="ridge", alpha=alpha)
    model = RidgeClassifier(alpha=alpha * math.sqrt(3), solver="cholesky")
    assert torch.equal(found.predictions.cpu(), looped(features, episodes, model))


def test_logistic_is_scikit_learns(device: str) -> None:
    features, labels = gaussian(device)
    episodes = drawn(labels, episodes=4)
    found = few_shot(features, episodes, head="logistic", alpha=0.5)
    model = LogisticRegression(C=2, max_iter=1000)
    assert torch.equal(found.predictions.cpu(), looped(features, episodes, model))


@pytest.mark.parametrize("head", ["ncc", "ridge"])
def test_normalize_divides_rows_by_their_norm(head: str, device: str) -> None:
    features, labels = gaussian(device)
    features *= torch.linspace(0.2, 5, len(features), device=device)[:, None]
    episodes = drawn(labels)
    found = few_shot(features, episodes, head=head, normalize=True)  # type: ignore[arg-type]
    again = few_shot(F.normalize(features), episodes, head=head)  # type: ignore[arg-type]
    assert torch.equal(found.predictions, again.predictions)
    assert found.mean != few_shot(features, episodes, head=head).mean  # type: ignore[arg-type]


def test_tiles_change_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = gaussian(device)
    episodes = drawn(labels)
    whole = few_shot(features, episodes, head="ridge")
    monkeypatch.setattr(heads, "TILE", 1000)
    assert torch.equal(few_shot(features, episodes, head="ridge").predictions, whole.predictions)


def test_given_episodes_are_guessed_and_wrong_ones_refused() -> None:
    features = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    rows = torch.tensor([[[0], [2]]])
    found = few_shot(features, Episodes(torch.tensor([[4, 7]]), rows, rows + 1))
    assert (found.mean, found.by_class[[4, 7]].tolist()) == (1.0, [1.0, 1.0])
    assert found.by_class.isnan().sum() == 6
    for wrong, head, alpha, message in [
        (rows + 2, "ncc", 1.0, "query must name rows of features in [0, 4), got 4."),
        (rows[..., :0], "ncc", 1.0, "query must hold rows, got shape (1, 2, 0)."),
        (rows, "svm", 1.0, "head must be one of 'ncc', 'ridge', 'logistic', got 'svm'."),
        (rows, "ridge", 0.0, "alpha must be positive and finite, got 0.0."),
    ]:
        given = Episodes(rows[..., 0], rows, wrong)
        call = partial(few_shot, features, given, head=head, alpha=alpha)
        assert refusal(ValueError, call) == f"dlaccel.few_shot: {message}"
    features[1] = torch.nan
    given = Episodes(rows[..., 0], rows, rows)
    assert refusal(ValueError, lambda: few_shot(features, given, head="ridge")) == (
        "dlaccel.few_shot: features must be finite for head 'ridge', got another number in row 1."
    )


@pytest.mark.parametrize("gram", [0, 1])
def test_rows_that_do_not_exist_are_not_read(gram: int, device: str) -> None:
    """The CPU refuses them before it writes; a GPU, which nobody waits for, gives them no class."""
    x = torch.eye(3, device=device, dtype=torch.float64)
    support, query = torch.tensor([[[[0], [1]]], [[[0], [2**40]]]], device=device)
    predictions, hits = torch.full_like(query, -7), torch.full_like(query[..., 0], -7)
    if device == "cuda" or _core.ISA == "cuda_host":
        HITS(predictions, hits, x, support, query, gram)
        assert (predictions.tolist(), hits.tolist()) == ([[[0], [-1]]], [[1, 0]])
        HITS(predictions, hits, x, query, support, gram)
        assert (predictions.tolist(), hits.tolist()) == ([[[0], [0]]], [[1, 0]])
    else:
        call = partial(HITS, predictions, hits, x, support, query, gram)
        assert refusal(ValueError, call) == (
            f"dlaccel.episode_hits: query must hold rows in [0, 3), got {2**40} at (0, 1, 0)."
        )
        assert (predictions == -7).all()


def test_the_interval_is_students(device: str) -> None:
    features, labels = gaussian(device)
    found = few_shot(features, drawn(labels))
    accuracy = found.accuracy.cpu().numpy()
    for level in (0.5, 0.95):
        mine = stats.t.interval(level, 24, accuracy.mean(), stats.sem(accuracy))
        assert found.interval(level) == pytest.approx(mine, rel=1e-12)
    single = few_shot(features, drawn(labels, episodes=1))
    assert all(math.isnan(end) for end in single.interval())
    for interval in (found.interval, found.interval_over_classes):
        assert refusal(ValueError, partial(interval, 1.0)) == (
            "dlaccel.FewShot: level must be between 0 and 1, got 1.0."
        )


def easy_and_hard(generator: torch.Generator, classes: int, episodes: int) -> FewShot:
    """Every class has an accuracy of its own, uniform, and its 100 queries hit just that often."""
    hits = torch.randint(0, 101, (classes,), generator=generator)
    members = torch.rand(episodes, classes, generator=generator).argsort(1)[:, :5]
    return FewShot(members, torch.zeros(episodes, 5, 100, dtype=torch.int64), hits[members])


def test_the_interval_over_classes_holds_the_mean_over_all_classes() -> None:
    """Nominal 90 %, from 15 classes: 170 of 200 sets at least is asked.

    If the chance were 90 %, fewer would be held once in 60 seeds of this test, whose seed is fixed;
    the interval over episodes does not know of other classes at all.
    """
    generator = torch.Generator().manual_seed(3)
    held = {"classes": 0, "episodes": 0}
    for _ in range(200):
        found = easy_and_hard(generator, classes=15, episodes=60)
        low, high = found.interval_over_classes(0.9)
        held["classes"] += low <= 0.5 <= high
        low, high = found.interval(0.9)
        held["episodes"] += low <= 0.5 <= high
    assert held["classes"] >= 170
    assert held["episodes"] <= 120


def test_the_interval_over_classes_leaves_one_out_at_a_time() -> None:
    found = easy_and_hard(torch.Generator().manual_seed(0), classes=9, episodes=50)
    accuracy = found.accuracy
    kept = [~(found.classes == c).any(1) for c in range(9)]
    without = torch.stack([accuracy[k].mean() for k in kept])
    error = math.sqrt(8 / 9 * float((without - without.mean()).square().sum()))
    expected = stats.t.interval(0.8, 8, found.mean, error)
    assert found.interval_over_classes(0.8) == pytest.approx(expected, rel=1e-12)
    gaps = FewShot(3 * found.classes + 2, found.predictions, found.hits)
    assert gaps.interval_over_classes(0.8) == found.interval_over_classes(0.8)
    every = easy_and_hard(torch.Generator().manual_seed(0), classes=5, episodes=50)
    assert all(math.isnan(end) for end in every.interval_over_classes())
