"""Watching a network train: what is recorded, when, and what a training loop may do beside it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from small_networks import CLASSES, Backwards, Lambda, batches, clusters, outputs
from torch import Tensor, nn

from dlaccel.collapse.network import measure
from dlaccel.collapse.watching import watch
from dlaccel.models import MLP


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()  # or earlier tests use up the number of compilations


def small() -> MLP:
    return MLP(2, 8, 6, CLASSES)


def train(model: nn.Module, recorded: Any = None) -> list[Tensor]:
    """Two epochs; returns the parameters at the end."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for x, y in batches(*clusters()):
            if recorded is None:
                loss = nn.functional.cross_entropy(model(x), y)
            else:
                with recorded.labels(y):
                    loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_frozen_weights_give_what_measure_gives() -> None:
    model = small().eval()
    expected = measure(model, batches(*clusters()))
    with watch(model, num_classes=CLASSES) as watched:
        for x, y in batches(*clusters()):
            with watched.labels(y):
                model(x)
    found = watched.compute()
    assert list(found) == [row.name for row in expected]
    for row in expected:
        assert torch.equal(found[row.name].means, row.geometry.means)
        assert torch.equal(found[row.name].variances, row.geometry.variances)
    assert float(found["layers.1.linear"].cdnv().mean) == expected[1].cdnv


def test_training_is_the_same_when_watched() -> None:
    alone, beside = small(), small()
    beside.load_state_dict(alone.state_dict())
    plain = train(alone)
    with watch(beside, num_classes=CLASSES) as watched:
        seen = train(beside, watched)
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))
    counts = watched.compute()["layers.0.linear"].counts
    assert counts.tolist() == [2 * int((clusters()[1] == c).sum()) for c in range(CLASSES)]
    assert not watched.compute()["layers.0.linear"].means.requires_grad


def test_nothing_is_recorded_outside_and_after() -> None:
    model = small()
    x, y = clusters()
    watched = watch(model, layers="layers.0.linear", num_classes=CLASSES)
    model(x)
    assert watched.compute() == {}
    with watched.labels(y):
        model(x)
    model(x + 100)
    counts = watched.compute()["layers.0.linear"].counts
    assert int(counts.sum()) == len(y)
    watched.reset()
    assert watched.compute() == {}
    with watched.labels(y):
        model(x)
    watched.remove()
    watched.remove()
    model(x)
    assert int(watched.compute()["layers.0.linear"].counts.sum()) == len(y)
    assert not model.layers[0].linear._forward_hooks


def test_labels_of_minus_one_and_two_watches_at_once() -> None:
    model = small().eval()
    x, y = clusters()
    first = watch(model, layers="layers.*.linear", num_classes=CLASSES)
    second = watch(model, layers="head", num_classes=CLASSES)
    hidden = torch.where(y == 2, -1, y)
    with first.labels(y), second.labels(hidden):
        model(x)
    assert set(first.compute()) == {"layers.0.linear", "layers.1.linear"}
    assert second.compute()["head"].counts.tolist()[2] == 0
    rows = outputs(model, x, ("head",))["head"]
    torch.testing.assert_close(
        second.compute()["head"].means[0], rows[y == 0].mean(0), rtol=1e-12, atol=1e-12
    )


def test_statistics_merge() -> None:
    model = small().eval()
    parts = [watch(model, num_classes=CLASSES) for _ in range(2)]
    for (x, y), part in zip(batches(*clusters(), 30), parts, strict=True):
        with part.labels(y):
            model(x)
    both = parts[0].statistics["layers.0.linear"].merge(parts[1].statistics["layers.0.linear"])
    whole = measure(model, batches(*clusters()))[0].geometry
    torch.testing.assert_close(both.compute().means, whole.means, rtol=1e-12, atol=1e-12)


def test_autocast_and_no_grad() -> None:
    model = small()
    x, y = clusters()
    watched = watch(model, num_classes=CLASSES)
    seen: list[Tensor] = []
    model.layers[0].linear.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.autocast("cpu", torch.bfloat16), watched.labels(y):
        model(x)
    assert seen[0].dtype == torch.bfloat16
    with torch.no_grad(), watched.labels(y):
        model(x)
    geometry = watched.compute()["layers.0.linear"]
    assert geometry.means.dtype == torch.float64
    both = torch.cat([out.detach().double() for out in seen])
    expected = both[torch.cat([y, y]) == 0].mean(0)
    torch.testing.assert_close(geometry.means[0], expected, rtol=1e-12, atol=1e-12)


# Dynamo looks at .grad of what crosses a break of its graph; it hides the warning but in tests.
HIDDEN = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@HIDDEN
@pytest.mark.parametrize("inside", [False, True])
def test_a_model_that_is_compiled_after_it_is_watched(inside: bool) -> None:
    model = small()
    compiled: Any = model
    watched = watch(model, num_classes=CLASSES)
    if inside:
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    x, y = clusters()
    compiled.eval()
    plain = measure(model, [(x, y)])
    for _ in range(3):
        compiled(x).sum().backward()
        with watched.labels(y):
            compiled(x).sum().backward()
    for row in plain:
        geometry = watched.compute()[row.name]
        assert int(geometry.counts.sum()) == 3 * len(y)
        torch.testing.assert_close(geometry.means, row.geometry.means, rtol=1e-6, atol=1e-6)


@HIDDEN
def test_a_model_that_was_compiled_before_is_refused() -> None:
    model = small()
    compiled = torch.compile(model, backend="eager")
    x, y = clusters()
    compiled(x)
    watched = watch(compiled, num_classes=CLASSES)
    with (
        pytest.raises(ValueError, match="has to be watched before its first call"),
        watched.labels(y),
    ):
        compiled(x)


@pytest.mark.cuda
def test_no_hook_waits_for_the_gpu() -> None:
    model = small().cuda()
    x, y = (part.cuda() for part in clusters())
    watched = watch(model, num_classes=CLASSES)
    with watched.labels(y):
        model(x)  # the first call may allocate and load
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            with watched.labels(y):
                model(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(watched.compute()["layers.0.linear"].counts.sum()) == 4 * len(y)


def test_refusals() -> None:
    def says(sentence: str, kind: type[Exception] = ValueError) -> Any:
        return pytest.raises(kind, match=re.escape(f"dlaccel.watch: {sentence}"))

    x, y = clusters()
    model = small()
    with says("model must be a torch.nn.Module, got str.", TypeError):
        watch("model", num_classes=CLASSES)
    with says("layers must name modules of the model"):
        watch(model, layers="conv*", num_classes=CLASSES)
    watched = watch(model, num_classes=CLASSES)
    with says("labels must be a torch.Tensor, got list.", TypeError), watched.labels([0, 1]):
        model(x)
    with says("labels must have one axis, got (60, 1)."), watched.labels(y[:, None]):
        model(x)
    with says("layers must be called in every forward, got none of"), watched.labels(y):
        pass
    twice = "layer 'layers.0.linear' must be called once in a forward, got a second call."
    with says(twice), watched.labels(y):
        model(x)
        model(x)
    inner = says("one forward must end before another begins.", RuntimeError)
    with inner, watched.labels(y), watched.labels(y):
        model(x)
    rows = "layer 'layers.0.linear' must give a row for each of the 30 labels, got shape (60, 8)."
    with says(rows), watched.labels(y[:30]):
        model(x)
    strange = nn.Sequential(nn.Linear(6, 3), Lambda(lambda z: {"z": z}))
    recorded = watch(strange, num_classes=CLASSES)
    kind = says(
        "layer '1' must give a tensor or a tuple that begins with one, got dict.", TypeError
    )
    with kind, recorded.labels(y):
        strange(x)
    shared = Backwards("bottom", "middle", "middle", "top")
    recorded = watch(shared, layers="middle", num_classes=CLASSES)
    with says("layer 'middle' must be called once in a forward"), recorded.labels(y):
        shared(x)


def test_an_error_in_the_forward_is_the_users_own() -> None:
    model = small()
    x, y = clusters()
    watched = watch(model, num_classes=CLASSES)
    with pytest.raises(ValueError, match="MLP: x must have 6 numbers"), watched.labels(y):
        model(x[:, :4])
    with watched.labels(y):
        model(x)
    assert int(watched.compute()["layers.0.linear"].counts.sum()) == len(y)
