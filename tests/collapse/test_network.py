"""Measuring a network: against plain formulas, and everything that a user may bring."""

from __future__ import annotations

import math
import re
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_networks import CLASSES, Backwards, Lambda, Recurrent, batches, clusters, outputs
from torch import Tensor, nn

from dlaccel.collapse.figures import by_layer
from dlaccel.collapse.layers import Layer, Layers
from dlaccel.collapse.network import measure
from dlaccel.models import MLP, Conv

# Means of float32 features in float64: a formula in another order errs by some 1e-16 times the
# number of terms and of operations that follow, with differences of close numbers in between.
EXACT = {"rel": 1e-9, "abs": 1e-12}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small() -> MLP:
    return MLP(3, 8, 6, CLASSES)


def train_and_test() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    return batches(*clusters()), batches(*clusters(40, seed=1))


def moments(f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    means = torch.stack([f[y == c].mean(0) for c in range(CLASSES)])
    spreads = [(f[y == c] - means[c]).square().sum(1).mean() for c in range(CLASSES)]
    return means, torch.stack(spreads)


def cdnv(f: Tensor, y: Tensor) -> list[float]:
    m, v = moments(f, y)
    return [
        float((v[i] + v[j]) / (2 * (m[i] - m[j]).square().sum()))
        for i in range(CLASSES)
        for j in range(i)
    ]


def directional(f: Tensor, y: Tensor) -> list[float]:
    """Variance of class i along the line to the mean of j, over the squared distance."""
    m, _ = moments(f, y)
    values = []
    for i in range(CLASSES):
        for j in range(CLASSES):
            if i != j:
                line = m[j] - m[i]
                along = (f[y == i] - m[i]) @ line / line.norm()
                values.append(float(along.square().mean() / line.square().sum()))
    return values


def nc1(f: Tensor, y: Tensor) -> float:
    m, _ = moments(f, y)
    within = (f - m[y]).T @ (f - m[y]) / len(f)
    centred = m - m.mean(0)
    between = centred.T @ centred / CLASSES
    return float(torch.trace(within @ torch.linalg.pinv(between, rtol=1e-10)) / CLASSES)


def nearest(f: Tensor, means: Tensor) -> Tensor:
    return (f[:, None] - means).square().sum(2).argmin(1)


def share(hits: Tensor) -> float:
    return float(hits.double().mean())


def same(a: Layer, b: Layer) -> None:
    """Float64 features that were summed in another order, or by a product of another height."""
    first, second = a.to_json(), b.to_json()
    assert first.keys() == second.keys()
    for key, value in first.items():
        number = isinstance(value, float)
        assert second[key] == (pytest.approx(value, **EXACT) if number else value), key


def check(found: Layers, model: nn.Module, names: tuple[str, ...]) -> None:
    """Every number of ``found`` against a formula over stored features."""
    (x, y), (x2, y2) = clusters(), clusters(40, seed=1)
    train, test = outputs(model, x, names), outputs(model, x2, names)
    with torch.no_grad():
        own, own2 = model(x).argmax(1), model(x2).argmax(1)
    assert [row.name for row in found] == list(names)
    for row in found:
        f, f2 = train[row.name], test[row.name]
        m, v = moments(f, y)
        calls, calls2 = nearest(f, m), nearest(f2, m)
        expected = {
            "cdnv": sum(cdnv(f, y)) / 3,
            "cdnv_median": sorted(cdnv(f, y))[1],
            "cdnv_test": sum(cdnv(f2, y2)) / 3,
            "directional_cdnv": sum(directional(f, y)) / 6,
            "variance": float(v.mean()),
            "distance": float(torch.pdist(m).min()),
            "nc1": nc1(f, y),
            "ncc_train": share(calls == y),
            "ncc_test": share(calls2 == y2),
            "nc4_train": share(calls != own),
            "nc4_test": share(calls2 != own2),
        }
        assert row.width == f.shape[1]
        numbers = row.to_json()
        for name, value in expected.items():
            assert numbers[name] == pytest.approx(value, **EXACT), (row.name, name)
        torch.testing.assert_close(row.geometry.means, m, rtol=1e-12, atol=1e-12)
    assert found.accuracy_train == pytest.approx(share(own == y), **EXACT)
    assert found.accuracy_test == pytest.approx(share(own2 == y2), **EXACT)


def test_every_number_by_its_formula() -> None:
    model = small()
    train, test = train_and_test()
    found = measure(model, train, test=test)
    check(found, model, model.embeddings)
    assert found.num_classes == CLASSES
    assert found.errors == tuple(1 - row.ncc_train for row in found)
    assert found.penultimate is not None
    assert found.penultimate.name == model.penultimate


def test_convolutions_are_flattened() -> None:
    model = Conv(2, 4, CLASSES, image_size=8, in_channels=1)
    x, y = clusters(30, shape=(1, 8, 8))
    found = measure(model, batches(x, y))
    rows = outputs(model, x, model.embeddings)
    assert found.column("width") == (16, 16)
    for row in found:
        assert row.cdnv == pytest.approx(sum(cdnv(rows[row.name], y)) / 3, **EXACT)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_the_split_into_batches_changes_nothing(size: int) -> None:
    model = small().double()
    x, y = clusters()
    one = measure(model, batches(x.double(), y, 60))
    other = measure(model, batches(x.double(), y, size))
    for a, b in zip(one, other, strict=True):
        same(a, b)


def test_without_test_batches() -> None:
    found = measure(small(), train_and_test()[0])
    assert found.accuracy_test is None
    assert found.column("ncc_test") == found.column("cdnv_test") == (None,) * 3
    assert "test" not in found.table()


def test_a_model_that_names_nothing_is_measured_at_its_parameters() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES))
    found = measure(model, *train_and_test()[:1])
    assert [row.name for row in found] == ["0", "1", "3"]
    assert found.penultimate is None
    parts = OrderedDict(
        embeddings=nn.Linear(6, 4), penultimate=nn.Linear(4, 4), head=nn.Linear(4, 3)
    )
    layered = measure(nn.Sequential(parts), *train_and_test()[:1])
    assert [row.name for row in layered] == list(parts)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("layers.1.norm", ["layers.1.norm"]),
        (
            ["layers.2.*", "layers.0.linear"],
            ["layers.0.linear", "layers.2.linear", "layers.2.norm", "layers.2.activation"],
        ),
        (["head", "layers.?.linear", "head"], [*(f"layers.{i}.linear" for i in range(3)), "head"]),
    ],
)
def test_layers_by_name_and_pattern(layers: Any, names: list[str]) -> None:
    found = measure(small(), train_and_test()[0], layers=layers)
    assert [row.name for row in found] == names
    assert found.penultimate is None
    assert found["layers.0.linear" if len(names) > 1 else names[0]] is found[0]


def test_layers_stand_in_the_order_in_which_they_are_called() -> None:
    model = Backwards()
    found = measure(model, train_and_test()[0], layers=["top", "middle", "bottom"])
    assert [row.name for row in found] == ["bottom", "middle", "top"]


def test_tuples_and_vectors() -> None:
    found = measure(Recurrent(), train_and_test()[0])
    assert {row.name: row.width for row in found} == {"cell": 4, "mean": 1, "head": CLASSES}


def test_a_network_without_scores() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Lambda(lambda x: {"scores": x}))
    train = train_and_test()[0]
    found = measure(model, train, layers="0", num_classes=CLASSES, test=train)
    assert found.accuracy_train is found.accuracy_test is found[0].nc4_train is None
    assert found[0].ncc_train == found[0].ncc_test > 1 / CLASSES
    assert "NC4" not in found.table()


def test_labels_of_minus_one_are_left_out() -> None:
    x, y = clusters()
    hidden = y.clone()
    hidden[::3] = -1
    kept = hidden >= 0
    model = small().double()
    some = measure(model, batches(x.double(), hidden), test=batches(x.double(), hidden))
    rest = measure(
        model, batches(x.double()[kept], y[kept]), test=batches(x.double()[kept], y[kept])
    )
    for a, b in zip(some, rest, strict=True):
        same(a, b)
    assert some.accuracy_train == rest.accuracy_train


def test_a_class_without_samples_has_no_centre() -> None:
    x, y = clusters()
    kept = y != 1
    found = measure(small(), batches(x[kept], y[kept]), test=batches(x, y))
    assert bool(found[0].geometry.means[1].isnan().all())
    assert all(math.isfinite(row.cdnv) and row.ncc_train > 0.5 for row in found)
    # No test sample of class 1 can be called right.
    assert all(row.ncc_test <= share(kept) for row in found)


def test_modes_and_running_moments_are_as_before() -> None:
    model = small().train()
    model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, train_and_test()[0])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="labels"):
        measure(model, [(torch.randn(2, 6), torch.tensor([0, 9]))])
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


class Watched:
    """Batches that check, as each is asked for, that no earlier output of a layer lives on."""

    def __init__(self, model: nn.Module) -> None:
        self.outputs: list[weakref.ref[Tensor]] = []
        self.seen = 0
        for module in (*model.layers.modules(), model.head):
            module.register_forward_hook(lambda _, __, y: self.outputs.append(weakref.ref(y)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in train_and_test()[0]:
            # The last batch's logits may still be a local variable of the loop that asks.
            living = [ref() for ref in self.outputs if ref() is not None]
            assert all(y is not None and y.shape[1] == CLASSES for y in living)
            self.seen += 1
            yield batch


def test_no_features_are_kept() -> None:
    model = small()
    watched = Watched(model)
    measure(model, watched)
    assert watched.seen == 8
    assert len(watched.outputs) > 100


def test_a_data_loader() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    model = small().double()
    x, y = clusters()
    data = TensorDataset(x.double(), y)
    loader = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(3))
    plain = measure(model, batches(x.double(), y))
    for a, b in zip(plain, measure(model, loader), strict=True):
        same(a, b)


def test_test_batches_may_come_once() -> None:
    train, test = train_and_test()
    model = small()
    found = measure(model, train, test=iter(test))
    assert found.column("ncc_test") == measure(model, train, test=test).column("ncc_test")


@pytest.mark.parametrize("inside", [False, True])
def test_a_compiled_model(inside: bool) -> None:
    train = train_and_test()[0]
    model = small().eval()
    plain = measure(model, train)
    compiled: Any = model
    if inside:
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    compiled(train[0][0])  # hooks that come after this are not seen by compiled code
    found = measure(compiled, train)
    assert [row.to_json() for row in found] == [row.to_json() for row in plain]
    assert found.penultimate is not None


def test_under_autocast_and_inference_mode() -> None:
    model, train = small(), train_and_test()[0]
    plain = measure(model, train)
    with torch.inference_mode():
        inferred = measure(model, train)
    assert [row.to_json() for row in inferred] == [row.to_json() for row in plain]
    with torch.autocast("cpu", torch.bfloat16):
        half = measure(model, train)
    assert half[0].geometry.means.dtype == torch.float64
    assert half[0].cdnv != plain[0].cdnv
    # bfloat16 keeps 8 bits; the spread of the classes is of the order of their distance.
    assert half.column("cdnv") == pytest.approx(plain.column("cdnv"), rel=0.05)


def test_depth_table_and_names() -> None:
    train, test = train_and_test()
    found = measure(small(), train, test=test)
    assert found.effective_depth(1.0) == 1
    assert found.effective_depth((1.0, max(found.errors))) == (1, 1)
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["layer", "width", "CDNV"]
    assert [line.split()[0] for line in lines[2:]] == [row.name for row in found]
    assert len(found) == len(found[:]) == 3
    with pytest.raises(KeyError, match=re.escape("no layer 'x'; there are: layers.0.linear")):
        found["x"]
    with pytest.raises(ValueError, match="column must be one of 'name', 'width'"):
        found.column("ncc")


def test_figure() -> None:
    train, test = train_and_test()
    found = measure(small(), train, test=test)
    spread, calls = by_layer(found, epsilon=(1.0, 0.0)).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in spread.lines}
    assert curves["train"] == list(found.column("cdnv"))
    assert curves["test"] == list(found.column("cdnv_test"))
    assert spread.get_yscale() == "log"
    drawn = {line.get_label(): list(line.get_ydata()) for line in calls.lines}
    assert drawn["train"] == list(found.column("ncc_train"))
    assert drawn["network, test"] == [found.accuracy_test] * 2
    assert "1 at ε = 1" in calls.get_xlabel()
    assert [line.get_label() for line in by_layer(measure(small(), train)).axes[0].lines] == [
        "train"
    ]
