"""What the two papers on transfer share: tasks, networks, checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, nn

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from PIL import Image

from dlaccel.collapse import ClassStatistics
from dlaccel.data import DataError
from dlaccel.papers import _source_training as shared
from dlaccel.papers._source_training.network import Shape
from dlaccel.papers._source_training.records import fall, log_slope, rank_correlation
from dlaccel.papers._source_training.training import SourceNetwork, rounded


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> shared.Task:
    return shared.load_task("digits", generator())


# Tasks


def test_digits_are_six_under_eight_symmetries_and_four_under_four_rotations(
    digits: shared.Task,
) -> None:
    assert (digits.source.num_classes, digits.target.num_classes) == (48, 16)
    kinds = [
        {name.partition(",")[0] for name in images.class_names}
        for images in (digits.source, digits.target)
    ]
    assert (len(kinds[0]), len(kinds[1]), len(kinds[0] & kinds[1])) == (6, 4, 0)
    assert len(digits.source) == 8 * len(digits.source.images[::8])
    # No held-out image is a training image, under any symmetry: they are other drawings.
    trained = {image.numpy().tobytes() for image in digits.source.images[~digits.held_out]}
    held = {image.numpy().tobytes() for image in digits.source.images[digits.held_out]}
    assert len(trained & held) <= 0.001 * len(held)


def test_another_generator_draws_other_digits(digits: shared.Task) -> None:
    again = shared.load_task("digits", generator())
    other = shared.load_task("digits", generator(5))
    assert again.source.class_names == digits.source.class_names
    assert other.source.class_names != digits.source.class_names


def test_sources_are_nested_in_l_and_disjoint_from_their_tests(digits: shared.Task) -> None:
    few, many = (shared.draw_source(digits, number, None, generator(3)) for number in (5, 12))
    assert few.train.class_names == many.train.class_names[:5] == many.test.class_names[:5]
    assert few.train.labels.unique().tolist() == list(range(5))
    rows = torch.nonzero(many.train.labels < 5)[:, 0]
    assert torch.equal(many.train.images[rows], few.train.images)
    limited = shared.draw_source(digits, 5, 20, generator(3))
    assert limited.train.counts().tolist() == [20] * 5
    assert limited.train.class_names == few.train.class_names
    assert torch.equal(limited.test.images, few.test.images)


def test_more_classes_than_there_are_stand_for_all(digits: shared.Task) -> None:
    assert shared.resolved_classes(digits, (10, 300, 5, 964)) == (5, 10, 48)


def test_a_probe_keeps_labels_of_the_source_and_draws_the_target(digits: shared.Task) -> None:
    source = shared.draw_source(digits, 12, None, generator())
    probe = shared.probe_of(digits, source, 7, 20, generator())
    assert list(probe.images) == ["train", "test", "target"]
    assert [images.num_classes for images in probe.images.values()] == [7, 7, 7]
    assert probe.images["train"].class_names == source.train.class_names[:7]
    assert set(probe.images["target"].class_names) < set(digits.target.class_names)
    for name, rows in probe.matched.items():
        assert probe.images[name].subset(rows).counts().tolist() == [20] * 7
    # More than the source test has of a class: its set is left out, not made smaller.
    assert set(shared.probe_of(digits, source, 7, 90, generator()).matched) == {"train", "target"}


def picture(path: Path, label: int, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), 10 * label + number, np.uint8)
    Image.fromarray(pixels).save(path)


def test_users_folders_of_disjoint_classes_are_the_split(tmp_path: Path) -> None:
    for split, labels in {"train": (0, 1, 2), "val": (3, 4), "test": (5, 6)}.items():
        for label in labels:
            for number in range(6):
                picture(tmp_path / split / f"class{label}" / f"{number}.png", label, number)
    task = shared.load_task(str(tmp_path), generator())
    assert task.validation is not None
    parts = (task.source, task.validation, task.target)
    assert [part.class_names for part in parts] == [
        ("class0", "class1", "class2"),
        ("class3", "class4"),
        ("class5", "class6"),
    ]
    assert task.held_out.sum() == 3  # one in six of each class
    assert task.augment


def test_users_npz_is_split_by_class(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (25 * 12, 8, 8), dtype=np.uint8)
    labels = np.repeat(np.arange(25), 12)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    task = shared.load_task(str(tmp_path / "own.npz"), generator())
    assert task.validation is not None
    parts = (task.source, task.validation, task.target)
    assert [part.num_classes for part in parts] == [16, 4, 5]
    assert len({name for part in parts for name in part.class_names}) == 25
    assert int(task.held_out.sum()) == 16 * 2
    again = shared.load_task(str(tmp_path / "own.npz"), generator(1))
    assert again.target.class_names == task.target.class_names  # the same for all seeds


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        shared.load_task("./nowhere.npz", generator())


# Networks


@pytest.mark.parametrize(
    ("name", "width"), [("mlp-2-24", 24), ("conv4-8", 8), ("wrn-10-1", 64), ("plain-10-2", 128)]
)
def test_networks_by_name_give_features_and_logits(name: str, width: int) -> None:
    network = shared.make_network(name, Shape(1, 16, 7), generator())
    made = SourceNetwork(network, (0.2,), (0.5,))
    images = shared.tasks.Images(
        torch.randint(0, 256, (11, 1, 16, 16), dtype=torch.uint8, generator=generator()),
        torch.arange(11) % 7,
        tuple("abcdefg"),
    )
    embedded = shared.embed(made, images, torch.device("cpu"))
    assert embedded.features.shape == (11, width)
    assert embedded.logits is not None
    head = network.get_submodule("head")
    torch.testing.assert_close(head(embedded.features), embedded.logits)


@pytest.mark.parametrize("name", ["wrn-28-4", "plain-28-4", "plain-16-2"])
def test_the_papers_networks_take_a_step(name: str) -> None:
    network = shared.make_network(name, Shape(3, 32, 64), generator())
    optimizer = torch.optim.SGD(network.parameters(), 2**-4, 0.9)
    x, labels = torch.randn(4, 3, 32, 32, generator=generator()), torch.arange(4)
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", ["mlp-3", "conv4", "wrn-28", "wrn-12-4", "vgg-11", "mlp-0-5", ""])
def test_other_names_are_no_networks(name: str) -> None:
    assert not shared.is_network(name)


def test_spectral_norms_are_those_of_the_layers_as_matrices() -> None:
    network = nn.Sequential()
    convolution = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular", bias=False)
    norm = nn.BatchNorm2d(3).eval()
    nn.init.uniform_(norm.weight, -2, 2, generator=generator())
    norm.running_var = torch.tensor([0.5, 2.0, 1.0])
    network.add_module("convolution", convolution)
    network.add_module("norm", norm)
    network.add_module("linear", nn.Linear(4, 6))
    network.add_module("head", nn.Linear(6, 2))
    found = shared.spectral_norms(network)
    # On a 16 x 16 torus the frequencies of the grid are all there are.
    basis = torch.eye(2 * 256).reshape(512, 2, 16, 16)
    with torch.no_grad():
        matrix = convolution(basis).flatten(1).double()
    assert found["convolution"] == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), 1e-5)
    factors = norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
    assert found["norm"] == pytest.approx(float(factors.max()))
    assert list(found) == ["convolution", "norm", "linear"]


# Numbers of a set


def test_numbers_of_a_set_are_those_of_its_definitions() -> None:
    features = torch.randn(60, 5, generator=generator()) + 3
    labels = torch.arange(60) % 4
    embedded = shared.Embedded(features, labels, 4)
    few = torch.arange(60) < 20
    numbers = shared.set_numbers("target", embedded, shared.geometry_of(embedded), few)
    part = shared.Embedded(features[few], labels[few], 4)
    assert numbers["matched_target"] == float(shared.geometry_of(part).cdnv().mean)
    x = features.double()
    means = torch.stack([x[labels == c].mean(0) for c in range(4)])
    spread = [((x[labels == c] - means[c]) ** 2).sum(1).mean() for c in range(4)]
    pairs, along, distances = [], [], []
    for i in range(4):
        for j in range(4):
            if i != j:
                line = means[j] - means[i]
                pairs.append(float((spread[i] + spread[j]) / (2 * line @ line)))
                inside = (x[labels == i] - means[i]) @ line
                along.append(float(inside.square().mean() / (line @ line) ** 2))
                distances.append(float(line.norm()))
    expected = {
        "cdnv": np.mean(pairs),
        "median": np.median(pairs),
        "directional": np.mean(along),
        "min_distance": min(distances),
        "mean_distance": np.mean(distances),
    }
    for name, value in expected.items():
        # float32 features, sums in float64: the same numbers up to the order of sums.
        assert numbers[f"{name}_target"] == pytest.approx(value, rel=1e-10), name


def test_rounding_keeps_eight_digits_of_floats_alone() -> None:
    numbers: dict[str, Any] = {"a": 1 / 3, "b": 7, "c": None, "d": "word", "e": float("inf")}
    assert rounded(numbers) == {**numbers, "a": 0.33333333}


def test_trends() -> None:
    assert fall(4.0, 1.0) == 0.75
    assert rank_correlation([1, 2, 3], [0.1, 0.2, 5]) == pytest.approx(1)
    assert log_slope([1, 4, 16], [8, 4, 2]) == pytest.approx(-0.5)


def test_training_samples_alone_give_mean_and_deviation(digits: shared.Task) -> None:
    trial = SimpleNamespace(generator=lambda *key: generator())
    made: SourceNetwork = shared.start(trial, digits, 5, "mlp-1-8")  # type: ignore[arg-type]
    x = made.inputs(digits.source.images[~digits.held_out])
    statistics = ClassStatistics(1)
    statistics.update(x.flatten()[:, None], torch.zeros(x.numel(), dtype=torch.int64))
    geometry = statistics.compute()
    # float32 pixels: each is off by at most 2^-24 of its size, about 3.
    assert float(geometry.means) == pytest.approx(0, abs=1e-6)
    assert float(geometry.variances) == pytest.approx(1, abs=1e-6)
