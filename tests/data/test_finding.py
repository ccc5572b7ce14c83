"""Sets by name: which file is taken, what is said about it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import (
    drawn,
    idx_bytes,
    png,
    python2_batch,
    refusal,
    write,
    write_idx,
    write_tree,
)

from dlaccel import data
from dlaccel.data.sets import SETS

IMAGES = drawn(20, 4, 4)
LABELS = np.arange(20, dtype=np.uint8)[::-1] % 10


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLACCEL_DATA", raising=False)


@pytest.fixture
def twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of ten classes count as complete with 20 images, two of each class."""
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar10_jpeg"):
        sizes = {"train": 20, "test": 20}
        monkeypatch.setitem(SETS, name, replace(SETS[name], sizes=sizes, counts={}))


def cifar_files(folder: str = "cifar-10-batches-py") -> dict[str, bytes]:
    batches = {
        f"{folder}/data_batch_{k + 1}": python2_batch(
            drawn(4, 3072, seed=k), [(4 * k + i) % 10 for i in range(4)]
        )
        for k in range(5)
    }
    return batches | {f"{folder}/test_batch": python2_batch(drawn(20, 3072), LABELS.tolist())}


@pytest.mark.parametrize("packed", [False, True])
def test_the_mnist_family_is_told_apart_by_folders(packed: bool, tmp_path: Path) -> None:
    places = {"MNIST/raw": 1, "FashionMNIST/raw": 2, "KMNIST/raw": 3, "deep/EMNIST/raw": 4}
    for place, seed in places.items():
        for stem in ("train", "t10k"):
            write_idx(tmp_path / place, stem, drawn(20, 4, 4, seed=seed), LABELS, packed)
    for name, seed in {"mnist": 1, "fashion_mnist": 2}.items():
        for split in ("train", "test"):
            found = data.load(name, split, tmp_path)
            assert torch.equal(found.images[:, 0], torch.from_numpy(drawn(20, 4, 4, seed=seed)))
    assert data.load("fashion_mnist", folder=tmp_path).class_names[9] == "Ankle boot"


def test_the_nearest_folder_tells_the_family(tmp_path: Path) -> None:
    write_idx(tmp_path / "fashion" / "mnist", "train", IMAGES, LABELS)
    assert len(data.load("mnist", folder=tmp_path / "fashion")) == 20
    with pytest.raises(data.DataError):
        data.load("fashion_mnist", folder=tmp_path)


@pytest.mark.parametrize(
    "stem",
    ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-first20-images-idx3-ubyte"],
)
def test_names_of_idx_files(stem: str, tmp_path: Path) -> None:
    write(tmp_path / stem, idx_bytes(IMAGES))
    labels = stem.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
    write(tmp_path / labels, idx_bytes(LABELS))
    found = data.load("mnist", folder=tmp_path)
    assert found.source == str(tmp_path / stem)
    assert found.note == "20 of 60000 images"


def test_npz_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=IMAGES, y_train=LABELS)
    assert len(data.load("mnist", folder=tmp_path)) == 20


@pytest.mark.usefixtures("twenty")
def test_the_complete_file_is_taken(tmp_path: Path) -> None:
    """The first complete one in the order of preference; without one, the largest."""
    part = {"train_images": drawn(9, 32, 32, 3), "train_labels": LABELS[:9]}
    np.savez(tmp_path / "cifar10_part.npz", **part)
    assert data.load("cifar10", folder=tmp_path).note == "9 of 20 images"
    larger = {"train_images": drawn(11, 32, 32, 3), "train_labels": LABELS[:11]}
    np.savez(tmp_path / "cifar10_zz.npz", **larger)
    assert data.load("cifar10", folder=tmp_path).source == str(tmp_path / "cifar10_zz.npz")
    whole = write_tree(tmp_path / "sub" / "cifar-10-batches-py", {})
    write_tree(tmp_path / "sub", cifar_files())
    found = data.load("cifar10", folder=tmp_path)
    assert (found.source, found.note, len(found)) == (str(whole), "", 20)
    archive = write_tree(tmp_path / "cifar-10-python.tar.gz", cifar_files())
    assert data.load("cifar10", folder=tmp_path).source == str(archive)


@pytest.mark.usefixtures("twenty")
def test_jpeg_and_lossless_are_never_mixed(tmp_path: Path) -> None:
    files = [png(image, form="JPEG") for image in drawn(20, 32, 32, 3)]
    np.savez(
        tmp_path / "cifar10_all_jpeg_bytes.npz",
        train_jpeg_bytes=np.frombuffer(b"".join(files), np.uint8),
        train_offsets=np.cumsum([0, *map(len, files)]),
        train_labels=np.sort(LABELS),
    )
    found = data.load("cifar10_jpeg", folder=tmp_path)
    assert found.note == "JPEG, lossy; sorted by class"
    assert found.class_names[:2] == ("airplane", "automobile")
    assert refusal(lambda: data.load("cifar10", folder=tmp_path)) == (
        f"cifar10 (train) is not below {tmp_path}: dlaccel data fetch cifar10 --folder {tmp_path}."
    )
    (tmp_path / "cifar10_all_jpeg_bytes.npz").unlink()
    write_tree(tmp_path / "cifar-10-python.tar.gz", cifar_files())
    assert refusal(lambda: data.load("cifar10_jpeg", folder=tmp_path)) == (
        f"cifar10_jpeg (train) is not below {tmp_path}: "
        "served nowhere with a known hash; docs/data.md describes its file."
    )


@pytest.mark.usefixtures("twenty")
def test_other_class_counts_are_noted(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[0] = 0
    write_idx(tmp_path, "train", IMAGES, labels)
    assert data.load("mnist", folder=tmp_path).note == "class counts are not the published ones"


def test_labels_are_checked_against_the_set(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[3] = 10
    images = write_idx(tmp_path, "train", IMAGES, labels)
    assert refusal(lambda: data.load("mnist", folder=tmp_path)) == (
        f"labels of {images} must lie in [0, 10), got 10 at 3."
    )


@pytest.mark.usefixtures("twenty")
def test_a_damaged_file_is_not_passed_over(tmp_path: Path) -> None:
    write_idx(tmp_path / "b", "train", IMAGES[:9], LABELS[:9])
    broken = write_idx(tmp_path / "a", "train", IMAGES, LABELS)
    broken.write_bytes(broken.read_bytes()[:-5])
    assert refusal(lambda: data.load("mnist", folder=tmp_path)) == (
        f"{broken} must hold 336 bytes, as its header (20, 4, 4) says, got 331."
    )


def characters(count: int) -> dict[str, bytes]:
    return {
        f"images_background/Greek/character0{c}/000{c}_0{d}.png": png(
            drawn(105, 105, seed=10 * c + d), "1"
        )
        for c in range(1, count + 1)
        for d in (1, 2)
    }


def test_omniglot_in_both_sizes(tmp_path: Path) -> None:
    write_tree(tmp_path / "images_background.zip", characters(3))
    write_tree(tmp_path / "images_background_small1.zip", characters(2))
    full, small = (data.load(name, folder=tmp_path) for name in ("omniglot", "omniglot_28"))
    assert full.images.shape == (6, 1, 105, 105)
    assert torch.equal(small.images, data.resize(full, 28).images)
    assert small.note == "box-filtered to 28x28; 6 of 19280 images; sorted by class"
    assert torch.equal(data.load("omniglot", "background", tmp_path).images, full.images)
    for split in ("small1", "background_small1"):
        assert len(data.load("omniglot", split, tmp_path)) == 4
    assert refusal(lambda: data.load("omniglot", "test", tmp_path)) == (
        f"omniglot (test) is not below {tmp_path}: dlaccel data fetch omniglot --folder {tmp_path}."
    )
    assert refusal(lambda: data.load("omniglot", "small2", tmp_path)) == (
        f"omniglot (small2) is not below {tmp_path}: "
        "images_background_small2.zip of github.com/brendenlake/omniglot goes there."
    )


def test_tiny_imagenet_says_val_to_test(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "tiny_imagenet_some.npz",
        **{"val_images": drawn(3, 8, 8, 3), "val_labels": [1, 0, 1], "words": ["a", "b"]},
    )
    for split in ("val", "test"):
        assert data.load("tiny_imagenet", split, tmp_path).labels.tolist() == [1, 0, 1]


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS)
    monkeypatch.setenv("DLACCEL_DATA", str(tmp_path))
    assert len(data.load("mnist")) == 20


def as_idx(path: Path) -> Path:
    return write_idx(path, "train", IMAGES, LABELS)


def as_idx_folder(path: Path) -> Path:
    return as_idx(path / "own").parent


def as_npz(path: Path) -> Path:
    np.savez(path / "own.npz", train_images=IMAGES, train_labels=LABELS)
    return path / "own.npz"


def as_photos(path: Path) -> Path:
    files = {f"{y}/{k:02}.png": png(x) for k, (x, y) in enumerate(zip(IMAGES, LABELS, strict=True))}
    return write_tree(path / "photos", files)


def as_zip(path: Path) -> Path:
    files = {f"{y}/{k:02}.png": png(x) for k, (x, y) in enumerate(zip(IMAGES, LABELS, strict=True))}
    return write_tree(path / "photos.zip", files)


def as_cifar(path: Path) -> Path:
    return write_tree(path, cifar_files("own")) / "own"


def as_archive(path: Path) -> Path:
    return write_tree(path / "cifar-10-python.tar.gz", cifar_files())


@pytest.mark.parametrize(
    "writer", [as_idx, as_idx_folder, as_npz, as_photos, as_zip, as_cifar, as_archive]
)
def test_a_path_is_known_by_what_it_holds(writer: Callable[[Path], Path], tmp_path: Path) -> None:
    found = data.load(str(writer(tmp_path)))
    assert found.counts().tolist() == [2] * 10
    if found.images.shape[1] == 1:
        by_class = np.argsort(LABELS, kind="stable")
        order = by_class if "photos" in found.source else np.arange(20)
        assert torch.equal(found.images[:, 0], torch.from_numpy(IMAGES[order]))


def test_a_path_holds_no_other_split(tmp_path: Path) -> None:
    images = as_idx(tmp_path)
    assert refusal(lambda: data.load(str(images), "test")) == (
        f"{images} must be named as split 'test', got '{images.name}'."
    )
    assert refusal(lambda: data.load(str(tmp_path), "test")) == (
        f"{tmp_path} must hold one IDX file of images for split 'test', got 0."
    )
    archive = as_archive(tmp_path)
    assert refusal(lambda: data.load(str(archive), "val")) == (
        f"{archive} must be asked for split 'train' or 'test', got 'val'."
    )
    assert len(data.load(str(archive), "test")) == 20


def test_folders_of_splits_are_not_entered(tmp_path: Path) -> None:
    write_idx(tmp_path / "photos" / "train", "train", IMAGES, LABELS)
    with pytest.raises(data.DataError):
        data.load("mnist", folder=tmp_path)
    write_idx(tmp_path / "a" / "b" / "c", "train", IMAGES, LABELS)
    assert len(data.load("mnist", folder=tmp_path)) == 20


def test_refusals(tmp_path: Path) -> None:
    names = ", ".join(data.NAMES)
    for name in ("minst", ""):
        assert refusal(lambda name=name: data.load(name)) == (  # type: ignore[misc]
            f"name must be one of {names}, or the path of a file or folder, got {name!r}."
        )
    assert refusal(lambda: data.load("mnist", "dev")) == (
        "mnist must be asked for one of the splits train, test, got 'dev'."
    )
    assert refusal(lambda: data.load("mnist")) == (
        "mnist needs a folder: set DLACCEL_DATA or pass one."
    )
    assert refusal(lambda: data.load("mnist", folder="nowhere")) == (
        "folder must exist, got 'nowhere'."
    )
    assert refusal(lambda: data.load("mnist", folder=tmp_path)) == (
        f"mnist (train) is not below {tmp_path}: dlaccel data fetch mnist --folder {tmp_path}."
    )
    assert refusal(data.one_shot_runs) == (
        "one_shot_runs needs a folder: set DLACCEL_DATA or pass one."
    )
    assert refusal(lambda: data.one_shot_runs(tmp_path)) == (
        f"all_runs.zip of Omniglot is not below {tmp_path}."
    )


def test_one_shot_runs_are_found(tmp_path: Path) -> None:
    image = png(drawn(5, 5), "1")
    files = {
        "run01/test/item01.png": image,
        "run01/training/class01.png": image,
        "run01/class_labels.txt": b"run01/test/item01.png run01/training/class01.png\n",
    }
    (tmp_path / "omniglot").mkdir()
    path = write_tree(tmp_path / "omniglot" / "one_shot_all_runs.zip", files)
    assert data.one_shot_runs(tmp_path).source == str(path)
    assert data.one_shot_runs(path).labels.tolist() == [[0]]


def test_digits_are_bundled() -> None:
    train, test = data.load("digits"), data.load("digits", "test")
    assert (len(train), len(test)) == (1280, 517)
    assert train.images.shape[1:] == (1, 8, 8)
    # the seeded split, as records of experiments rest on it
    assert train.counts().tolist() == [122, 128, 118, 141, 121, 127, 128, 137, 131, 127]
    from sklearn.datasets import load_digits

    levels = torch.cat([train.images, test.images]).double().squeeze(1) * 16 / 255
    rows = {tuple(row) for row in levels.round().long().flatten(1).tolist()}
    assert rows == {tuple(row) for row in load_digits().data.astype(int).tolist()}
    assert (levels - levels.round()).abs().max() <= 8 / 255  # half a step of 255, on the scale 16
