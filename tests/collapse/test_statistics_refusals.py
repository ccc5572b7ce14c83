"""What class statistics refuse, in which words, and that nothing has changed afterwards."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dlaccel.collapse import ClassStatistics, _room

X = torch.arange(12.0).view(4, 3)
Y = torch.tensor([0, 1, 1, -1])


def some(**options: Any) -> ClassStatistics:
    made = ClassStatistics(2, **options)
    made.update(X, Y)
    return made


def state(**changes: Any) -> dict[str, Any]:
    return some().state_dict() | changes


def tensors(**changes: Any) -> dict[str, Any]:
    return state(tensors=some().state_dict()["tensors"] | changes)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "classes": (
        lambda: ClassStatistics(0),
        ValueError,
        "ClassStatistics: num_classes must be a positive integer, got 0.",
    ),
    "dim": (
        lambda: ClassStatistics(2, True),
        ValueError,
        "ClassStatistics: dim must be a positive integer, got True.",
    ),
    "moments": (
        lambda: ClassStatistics(2, moments="mean"),  # type: ignore[arg-type]
        ValueError,
        "ClassStatistics: moments must be one of 'trace', 'pooled', 'full', got 'mean'.",
    ),
    "shift": (
        lambda: ClassStatistics(2, shift="last"),  # type: ignore[arg-type]
        ValueError,
        "ClassStatistics: shift must be one of 'first', 'common', got 'last'.",
    ),
    "shift's shape": (
        lambda: ClassStatistics(2, 3, shift=torch.zeros(4)),
        ValueError,
        "ClassStatistics: shift must have shape (3,), got (4,).",
    ),
    "shift's dtype": (
        lambda: ClassStatistics(2, shift=torch.zeros(4, dtype=torch.int64)),
        TypeError,
        "ClassStatistics: shift must have dtype float64, float32, bfloat16 or float16, got int64.",
    ),
    "shift's numbers": (
        lambda: ClassStatistics(2, shift=torch.tensor([0.0, torch.nan])),
        ValueError,
        "ClassStatistics: shift must be finite, got nan at 1.",
    ),
    "features": (
        lambda: some().update([1.0], Y),  # type: ignore[arg-type]
        TypeError,
        "ClassStatistics: features must be a torch.Tensor, got list.",
    ),
    "no axis": (
        lambda: some().update(torch.tensor(1.0), Y),
        ValueError,
        "ClassStatistics: features must have at least one axis, got a scalar tensor.",
    ),
    "features' dtype": (
        lambda: some().update(X.long(), Y),
        TypeError,
        "class_moments: features must have dtype float64, float32, bfloat16 or float16, got int64.",
    ),
    "width": (
        lambda: some().update(X[:, :2], Y),
        ValueError,
        "class_moments: features must have shape (N, 3), got (4, 2).",
    ),
    "label": (
        lambda: some().update(X, torch.tensor([0, 1, 17, 18])),
        ValueError,
        "class_moments: labels must lie in [0, 2) or be -1, got 17 at 2.",
    ),
    "negative label": (
        lambda: some().update(X, torch.tensor([0, -2, 17, 18], dtype=torch.int32)),
        ValueError,
        "class_moments: labels must lie in [0, 2) or be -1, got -2 at 1.",
    ),
    "labels' shape": (
        lambda: some().update(X, Y[:, None]),
        ValueError,
        "class_moments: labels must have shape (4,), got (4, 1).",
    ),
    "labels' dtype": (
        lambda: some().update(X, Y.to(torch.uint8)),
        TypeError,
        "class_moments: labels must have dtype int64 or int32, got uint8.",
    ),
    "weight": (
        lambda: some().update(X, Y, torch.tensor([0, 1, -0.5, 1])),
        ValueError,
        "class_moments: weight must be finite and not negative, got -0.5 at 2.",
    ),
    "weight's numbers": (
        lambda: some().update(X, Y, torch.tensor([0, torch.inf, torch.nan, 1])),
        ValueError,
        "class_moments: weight must be finite and not negative, got inf at 1.",
    ),
    "merge": (
        lambda: some().merge("other"),  # type: ignore[arg-type]
        TypeError,
        "ClassStatistics: other must be a ClassStatistics, got str.",
    ),
    "merge of other classes": (
        lambda: some().merge(ClassStatistics(3)),
        ValueError,
        "ClassStatistics: other.num_classes must be 2, got 3.",
    ),
    "merge of other moments": (
        lambda: some().merge(ClassStatistics(2, moments="full")),
        ValueError,
        "ClassStatistics: other.moments must be 'trace', got 'full'.",
    ),
    "merge of another shift": (
        lambda: some().merge(ClassStatistics(2, shift="common")),
        ValueError,
        "ClassStatistics: other.shift must be 'first', got 'common'.",
    ),
    "merge of another width": (
        lambda: some().merge(ClassStatistics(2, 4)),
        ValueError,
        "ClassStatistics: other.dim must be 3, got 4.",
    ),
    "state": (
        lambda: some().load_state_dict({"version": 1}),
        ValueError,
        "ClassStatistics: state must be a mapping of moments, num_classes, shift, tensors, "
        "version, got a mapping of version.",
    ),
    "state's type": (
        lambda: some().load_state_dict([1]),  # type: ignore[arg-type]
        ValueError,
        "ClassStatistics: state must be a mapping of moments, num_classes, shift, tensors, "
        "version, got list.",
    ),
    "state's version": (
        lambda: some().load_state_dict(state(version=2)),
        ValueError,
        "ClassStatistics: state['version'] must be 1, got 2.",
    ),
    "state's classes": (
        lambda: some().load_state_dict(state(num_classes=2.0)),
        ValueError,
        "ClassStatistics: state['num_classes'] must be 2, got 2.0.",
    ),
    "state's tensors": (
        lambda: some().load_state_dict(state(tensors={"counts": Y})),
        ValueError,
        "ClassStatistics: state['tensors'] must be a mapping of counts, samples, scatter, shifts, "
        "squares, sums, got a mapping of counts.",
    ),
    "a tensor's type": (
        lambda: some().load_state_dict(tensors(counts=[2.0, 1.0])),
        TypeError,
        "ClassStatistics: counts must be a torch.Tensor, got list.",
    ),
    "a tensor's dtype": (
        lambda: some().load_state_dict(tensors(counts=torch.zeros(2))),
        TypeError,
        "ClassStatistics: counts must have dtype float64, got float32.",
    ),
    "a tensor's shape": (
        lambda: some().load_state_dict(tensors(counts=torch.zeros(3).double())),
        ValueError,
        "ClassStatistics: counts must have shape (2,), got (3,).",
    ),
    "sums' axes": (
        lambda: some().load_state_dict(tensors(sums=torch.zeros(6).double())),
        ValueError,
        "ClassStatistics: sums must have shape (C, D), got (6,).",
    ),
    "shifts' shape": (
        lambda: some().load_state_dict(tensors(shifts=torch.zeros(1, 3).double())),
        ValueError,
        "ClassStatistics: shifts must have shape (2, 3), got (1, 3).",
    ),
    "shifts' numbers": (
        lambda: some().load_state_dict(tensors(shifts=torch.full((2, 3), torch.nan).double())),
        ValueError,
        "ClassStatistics: shifts must be finite, got nan at 0.",
    ),
    "state's width": (
        lambda: ClassStatistics(2, 4).load_state_dict(state()),
        ValueError,
        "ClassStatistics: the width of sums must be 4, got 3.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_sentences(name: str) -> None:
    call, error, sentence = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == f"dlaccel.{sentence}"


@pytest.mark.parametrize("moments", ["trace", "pooled", "full"])
@pytest.mark.parametrize(
    "wrong",
    [
        (X, torch.tensor([0, 1, 1, 2])),
        (X, Y, torch.tensor([1.0, 1, 1, -1])),
        (X[:, :2], Y),
        (X, Y[:3]),
        (X.long(), Y),
    ],
)
def test_a_refused_batch_leaves_everything_as_it_was(wrong: Any, moments: Any) -> None:
    statistics = some(moments=moments)
    before = statistics.state_dict()
    with pytest.raises((ValueError, TypeError)):
        statistics.update(*wrong)
    for name, tensor in statistics.state_dict()["tensors"].items():
        assert torch.equal(tensor, before["tensors"][name])
    if wrong[0].shape != X.shape:
        return  # without a width, these two columns would be right
    fresh = ClassStatistics(2, moments=moments)
    with pytest.raises((ValueError, TypeError)):
        fresh.update(*wrong)
    assert fresh.dim is None
    fresh.update(X, Y)
    assert torch.equal(fresh.compute().means, some().compute().means)


def faulty(row: int, label: int, weight: float, **options: Any) -> ClassStatistics:
    """As a GPU's kernel leaves it (tests/ops/test_class_moments.py runs that kernel)."""
    made = some(**options)
    assert made._state is not None
    (bits,) = struct.unpack("q", struct.pack("d", weight))
    made._state.fault.copy_(torch.tensor([row, label, bits]))
    return made


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ((2, 17, 1.0), "labels must lie in [0, 2) or be -1, got 17 at 2."),
        ((0, -2, 1.0), "labels must lie in [0, 2) or be -1, got -2 at 0."),
        ((1, 1, -0.5), "weight must be finite and not negative, got -0.5 at 1."),
        ((3, -1, torch.nan), "weight must be finite and not negative, got nan at 3."),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.compute(),
        lambda s: s.state_dict(),
        lambda s: s.merge(some()),
        lambda s: some().merge(s),
    ],
)
def test_a_gpus_fault_is_told_when_the_host_looks(
    use: Callable[[ClassStatistics], Any], fault: tuple[int, int, float], sentence: str
) -> None:
    statistics = faulty(*fault)
    with pytest.raises(ValueError, match=r".") as caught:
        use(statistics)
    assert str(caught.value) == f"dlaccel.class_moments: {sentence}"
    statistics.reset()
    statistics.update(X, Y)
    assert torch.equal(statistics.compute().means, some().compute().means)


def test_sizes_beyond_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(device: torch.device) -> int:
        return 4 * 10**9

    monkeypatch.setattr(_room, "memory_of", memory)
    ClassStatistics(1000, 400, device="cpu", moments="full")
    with pytest.raises(ValueError, match="moments") as caught:
        ClassStatistics(1000, 1024, moments="full")
    assert str(caught.value) == (
        "dlaccel.ClassStatistics: moments must take at most 2.0 GB, half of what cpu has, as "
        "'trace' (0.0 GB) and 'pooled' (0.0 GB) would, got 'full' with 8.4 GB for C = 1000, "
        "D = 1024."
    )
    late = ClassStatistics(10, moments="pooled")
    with pytest.raises(ValueError, match="moments") as caught:
        late.update(torch.zeros(2, 20_000), torch.tensor([0, 1]))
    assert str(caught.value) == (
        "dlaccel.ClassStatistics: moments must take at most 2.0 GB, half of what cpu has, as "
        "'trace' (0.0 GB) would, got 'pooled' with 3.2 GB for C = 10, D = 20000."
    )
    with pytest.raises(ValueError, match="moments") as caught:
        ClassStatistics(10**6, 10**4)
    assert str(caught.value) == (
        "dlaccel.ClassStatistics: moments must take at most 2.0 GB, half of what cpu has, got "
        "'trace' with 160.0 GB for C = 1000000, D = 10000."
    )


def test_a_saved_size_is_not_believed() -> None:
    """An expanded tensor of a few bytes that claims terabytes."""
    sums = torch.zeros(1, dtype=torch.float64).expand(2, 10**12)
    with pytest.raises(
        ValueError, match=r"moments must take at most .* got 'trace' with 32000\.0 GB"
    ):
        ClassStatistics(2).load_state_dict(tensors(sums=sums))


def test_memory_is_known() -> None:
    assert _room.memory_of(torch.device("cpu")) > 10**8


def test_features_that_share_memory_with_nothing_are_read_as_they_are() -> None:
    """A batch of one expanded row, all strides 0 along N."""
    row: Tensor = torch.arange(3.0)
    statistics = ClassStatistics(2)
    statistics.update(row.expand(4, 3), Y)
    assert statistics.compute().means.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert statistics.compute().variances[1] == 0
