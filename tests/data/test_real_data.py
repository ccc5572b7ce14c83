"""The real sets below DLACCEL_DATA: published counts, balances and pixels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dlaccel import data
from dlaccel.data.finding import find
from dlaccel.data.outside import NotFoundError
from dlaccel.data.sets import SETS

ROOT = os.environ.get("DLACCEL_DATA", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="DLACCEL_DATA names no folder")

SPLITS = [(name, split) for name, entry in SETS.items() for split in entry.sizes]


def load(name: str, split: str = "train") -> data.Images:
    try:
        return data.load(name, split)
    except NotFoundError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_what_is_there_fits_its_published_counts(name: str, split: str) -> None:
    try:
        found = find(name, split)
    except NotFoundError as missing:
        pytest.skip(str(missing))
    whole = len(found.labels) == SETS[name].sizes[split]
    assert whole == (" images" not in found.note)
    assert "published" not in found.note
    assert Path(found.source).exists() or name == "digits"


def test_mnist_is_mnist() -> None:
    train = load("mnist")
    assert train.images.shape == (60000, 1, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    mean, std = data.channel_moments(train)
    assert (round(mean[0], 4), round(std[0], 4)) == (0.1307, 0.3081)  # as everyone standardises it
    assert load("mnist", "test").labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_fashion_mnist_is_fashion_mnist() -> None:
    """Also of a prefix: the official order starts alike."""
    train = load("fashion_mnist")
    assert train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert train.class_names[0] == "T-shirt/top"
    prefix = {8226: [766, 873, 828, 832, 787, 819, 836, 841, 816, 828], 60000: [6000] * 10}
    assert train.counts().tolist() == prefix[len(train)]


def test_cifar10_lossless_and_jpeg_agree() -> None:
    """The JPEG copy, put back into the original order, has the labels and nearly the pixels."""
    exact, known = load("cifar10"), find("cifar10_jpeg")
    assert torch.equal(known.labels[: len(exact)], exact.labels)
    if len(exact) == 4000:
        counts = [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
        assert exact.counts().tolist() == counts
    exact, jpeg = load("cifar10", "test"), load("cifar10_jpeg", "test")
    assert jpeg.images.shape == (10000, 3, 32, 32)
    by_class = exact.subset(exact.labels.argsort(stable=True))  # as the copy's test images are
    for c in range(10):
        pixels, copies = by_class.of_classes([c]).images, jpeg.of_classes([c]).images
        error = (copies[: len(pixels)].double() - pixels.double()).square().mean((1, 2, 3))
        # published with the copy: 65 on average; another image of the class is off by thousands
        assert 40 < error.mean() < 90
        assert error.max() < 1000


def test_omniglot_is_whole_and_both_sizes_agree() -> None:
    small, full = load("omniglot_28", "test"), load("omniglot", "test")
    background = find("omniglot")
    assert (len(background.class_names), full.num_classes) == (964, 659)
    for found, alphabets in ((background, 30), (full, 20)):
        assert int(found.groups["alphabet"].max()) + 1 == alphabets
        assert found.labels.bincount().unique().tolist() == [20]
        pairs = found.labels * 20 + found.groups["drawer"]
        assert torch.equal(pairs, torch.arange(len(pairs)))
        names = [found.class_names[k].split("/")[0] for k in found.labels[::20].tolist()]
        assert names == sorted(names)
    assert set(full.images[::97].unique().tolist()) == {0, 255}
    assert torch.equal(small.labels, full.labels)
    assert small.class_names == full.class_names
    some = full.subset(slice(0, None, 101))
    assert torch.equal(data.resize(some, 28).images, small.images[::101])
    assert full.images.double().mean() < 40  # ink is the small part


def test_one_shot_runs_are_evaluation_images() -> None:
    try:
        runs = data.one_shot_runs()
    except NotFoundError as missing:
        pytest.skip(str(missing))
    assert runs.training.shape == runs.test.shape == (20, 20, 1, 105, 105)
    assert torch.equal(runs.labels.sort(1).values, torch.arange(20).expand(20, 20))
    found = load("omniglot", "test")
    place = {image.numpy().tobytes(): k for k, image in enumerate(found.images)}
    training = [place[image.numpy().tobytes()] for image in runs.training.flatten(0, 1)]
    test = [place[image.numpy().tobytes()] for image in runs.test.flatten(0, 1)]
    named = found.labels[training].view(20, 20).gather(1, runs.labels)
    assert torch.equal(found.labels[test].view(20, 20), named)
    alphabets = found.groups["alphabet"][training].view(20, 20)
    assert torch.equal(alphabets.amin(1), alphabets.amax(1))  # a run stays in one alphabet


def test_tiny_imagenet() -> None:
    val = load("tiny_imagenet", "val")
    assert val.images.shape[1:] == (3, 64, 64)
    assert val.num_classes == 200
    assert val.class_names[0] == "goldfish, Carassius auratus"
    assert val.counts().unique().tolist() in ([10], [50])
    grey = (val.images == val.images[:, :1]).flatten(1).all(1).double().mean()
    assert 0 < grey < 0.05  # about one in a hundred is grey
