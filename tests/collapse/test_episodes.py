"""How few-shot episodes are drawn: the bits, the chances, the refusals."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from dlaccel.collapse.episodes import Episodes, draw_episodes
from dlaccel.ops.draw_episodes import philox

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
# Counter, key, output, as Random123 publishes them (kat_vectors, philox4x32 10).
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, 0x299F31D0_A4093822, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def words(counter: tuple[int, ...], key: int) -> tuple[int, ...]:
    a, b, c, d = (torch.tensor(word) for word in counter)
    return tuple(int(word) for word in philox((a, b, c, d), key))


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: int, output: tuple[int, ...]
) -> None:
    assert words(counter, key) == output


def shuffled(items: list[int], count: int, seed: int, episode: int, stream: int) -> list[int]:
    """A Fisher-Yates shuffle that stores what it swaps, in Python's integers."""
    items = list(items)
    for i in range(count):
        block = words((i // 2, stream, episode % 2**32, episode >> 32), seed)
        word = block[2 * (i % 2) + 1] << 32 | block[2 * (i % 2)]
        j = i + (word * (len(items) - i) >> 64)
        items[i], items[j] = items[j], items[i]
    return items[:count]


LABELS = torch.tensor([3, 0, -1, 0, 2, 3, 3, 5, 0, 2, 2, 5, 0, 5, 3, 5, -1, 5, 2, 0, 4])


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 11, 2**64 - 1])
def test_draws_are_the_shuffles_that_the_counters_name(seed: int, device: str) -> None:
    drawn = draw_episodes(LABELS.to(device), ways=3, shots=1, queries=3, episodes=5, seed=seed)
    assert drawn.seed == seed
    rows = {c: (c == LABELS).nonzero().flatten().tolist() for c in (0, 2, 3, 5)}
    for e in range(5):
        classes = shuffled(list(rows), 3, seed, e, 0)
        assert drawn.classes[e].tolist() == classes
        for a, c in enumerate(classes):
            samples = shuffled(rows[c], 4, seed, e, 1 + a)
            assert drawn.support[e, a].tolist() + drawn.query[e, a].tolist() == samples


def test_an_episode_is_the_same_however_much_is_asked_for(device: str) -> None:
    labels = torch.arange(300, device=device) % 6
    many = draw_episodes(labels, ways=4, shots=5, queries=9, episodes=70, seed=3)
    few = draw_episodes(labels.int(), ways=3, shots=2, queries=4, episodes=3, seed=3)
    assert torch.equal(many.classes[:3, :3], few.classes)
    both = torch.cat([many.support, many.query], 2)[:3, :3, :6]
    assert torch.equal(both, torch.cat([few.support, few.query], 2))
    other = draw_episodes(labels, ways=4, shots=5, queries=9, episodes=70, seed=4)
    assert not torch.equal(other.support, many.support)


def test_samples_are_of_their_class_and_all_different(device: str) -> None:
    labels = (torch.arange(400, device=device) * 7 % 11).clamp(max=8) - 1
    drawn = draw_episodes(labels, ways=5, shots=3, queries=30, episodes=40, seed=1)
    samples = torch.cat([drawn.support, drawn.query], 2)
    assert (labels[samples] == drawn.classes[..., None]).all()
    assert (samples.sort(2).values.diff(dim=2) > 0).all()
    assert (drawn.classes.sort(1).values.diff(dim=1) > 0).all()
    assert (drawn.classes >= 0).all()


def assert_uniform(outcomes: Tensor, cells: int) -> None:
    """Pearson's statistic of equally likely cells, against a bound that fails once in 1e9 seeds.

    A chi-square of d degrees passes d + 2 sqrt(d t) + 2 t with probability e^-t at most (Laurent
    and Massart 2000, lemma 1); the expected counts, 100 and more, are those of a chi-square.
    """
    expected = outcomes.numel() / cells
    assert expected >= 100
    counts = torch.bincount(outcomes.flatten(), minlength=cells).double()
    assert len(counts) == cells
    d, t = cells - 1, math.log(1e9)
    assert ((counts - expected) ** 2 / expected).sum() <= d + 2 * math.sqrt(d * t) + 2 * t


def test_draws_are_uniform_exchangeable_and_independent() -> None:
    """All ordered pairs of places, within a draw without replacement and across two."""
    classes, each = 7, 6
    labels = torch.arange(classes).repeat_interleave(each)
    drawn = draw_episodes(labels, ways=3, shots=2, queries=3, episodes=10_000, seed=11)
    samples = torch.cat([drawn.support, drawn.query], 2) % each

    def ordered_pairs(first: Tensor, second: Tensor, items: int) -> Tensor:
        assert (first != second).all()
        return first * (items - 1) + second - (second > first).long()

    for a in range(3):
        for b in range(3):
            if a != b:
                pairs = ordered_pairs(drawn.classes[:, a], drawn.classes[:, b], classes)
                assert_uniform(pairs, classes * (classes - 1))
                assert_uniform(samples[:, a, 0] * each + samples[:, b, 0], each * each)
    for i in range(5):
        assert_uniform(drawn.classes[:, 0] * each + samples[:, 0, i], classes * each)
        for j in range(5):
            if i != j:  # support and query alike
                pairs = ordered_pairs(samples[:, 1, i], samples[:, 1, j], each)
                assert_uniform(pairs, each * (each - 1))
    assert_uniform(samples[:-1, 0, 0] * each + samples[1:, 0, 0], each * each)


REFUSED = {
    "ways": (
        {"ways": 5},
        "dlaccel.draw_episodes: ways must be at most 4, the classes with shots + queries = 4 "
        "samples, got 5.",
    ),
    "one way": ({"ways": 1}, "dlaccel.draw_episodes: ways must be at least 2, got 1."),
    "shots": ({"shots": 0}, "dlaccel.draw_episodes: shots must be at least 1, got 0."),
    "queries": ({"queries": -1}, "dlaccel.draw_episodes: queries must be at least 0, got -1."),
    "samples": (
        {"queries": 5},
        "dlaccel.draw_episodes: ways must be at most 0, the classes with shots + queries = 6 "
        "samples, got 2.",
    ),
    "seed": ({"seed": 2**64}, f"dlaccel.draw_episodes: seed must be below 2^64, got {2**64}."),
    "labels' values": (
        {"labels": torch.tensor([0, 1, -2])},
        "dlaccel.draw_episodes: labels must be -1 or more, got -2 at 2.",
    ),
    "labels' shape": (
        {"labels": torch.zeros(2, 3, dtype=torch.int64)},
        "dlaccel.draw_episodes: labels must have shape (N,), got (2, 3).",
    ),
}


def refusal(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("changes", REFUSED)
def test_draws_that_cannot_be_are_refused(changes: str) -> None:
    asked = {"labels": LABELS, "ways": 2, "shots": 1, "queries": 3, "episodes": 2, "seed": 0}
    given, message = REFUSED[changes]
    call = partial(draw_episodes, **(asked | given))  # type: ignore[arg-type]
    assert refusal(ValueError, call) == message


def test_wrong_types_are_refused() -> None:
    draw = partial(draw_episodes, ways=2, queries=1, episodes=1, seed=0)
    assert refusal(TypeError, lambda: draw(LABELS.float(), shots=1)) == (
        "dlaccel.draw_episodes: labels must have dtype int64 or int32, got float32."
    )
    assert refusal(TypeError, lambda: draw(LABELS, shots=1.0)) == (  # type: ignore[arg-type]
        "dlaccel.draw_episodes: shots must be an integer, got 1.0."
    )


def test_given_episodes_must_agree() -> None:
    rows = torch.zeros(2, 3, 1, dtype=torch.int64)
    assert refusal(ValueError, lambda: Episodes(rows[..., 0], rows, rows[:1])) == (
        "dlaccel.Episodes: query must have the axes of classes (2, 3) and one more, got (1, 3, 1)."
    )
    assert refusal(ValueError, lambda: Episodes(rows, rows, rows)) == (
        "dlaccel.Episodes: classes must have shape (E, k), got (2, 3, 1)."
    )
    assert refusal(TypeError, lambda: Episodes(rows[..., 0], rows.int(), rows)) == (
        "dlaccel.Episodes: support must have dtype int64, got int32."
    )
