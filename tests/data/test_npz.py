"""The npz layouts, and headers that say another size than the file has."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import drawn, png, refusal
from PIL import Image

from dlaccel.data import npz
from dlaccel.data.arrays import Arrays

GREY, COLOUR = drawn(6, 5, 4), drawn(6, 5, 4, 3)
LABELS = np.array([2, 0, 1, 2, 0, 1], np.uint8)
NAMES = np.array(["ant", "bee", "cat"])


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def jpeg_arrays(files: list[bytes], split: str = "train") -> dict[str, Any]:
    return {
        f"{split}_jpeg_bytes": np.frombuffer(b"".join(files), np.uint8),
        f"{split}_offsets": np.cumsum([0, *map(len, files)]),
    }


@pytest.mark.parametrize("names", ["{}_images {}_labels", "x_{} y_{}"])
@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_raw_arrays(names: str, split: str, tmp_path: Path) -> None:
    images, labels = names.format(split, split).split()
    path = save(tmp_path / "x.npz", **{images: COLOUR, labels: LABELS, "class_names": NAMES})
    found = npz(path, split)
    assert torch.equal(found.images, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    assert found.labels.tolist() == LABELS.tolist()
    assert found.class_names == ("ant", "bee", "cat")


def test_raw_grey(tmp_path: Path) -> None:
    found = npz(save(tmp_path / "x.npz", train_images=GREY, train_labels=LABELS))
    assert torch.equal(found.images, torch.from_numpy(GREY).unsqueeze(1))
    assert found.class_names == ("0", "1", "2")


def test_jpeg_bytes(tmp_path: Path) -> None:
    files = [png(image, form="JPEG") for image in COLOUR]
    arrays = {"train_labels": LABELS, "words": NAMES, **jpeg_arrays(files)}
    found = npz(save(tmp_path / "x.npz", **arrays))
    for image, file in zip(found.images, files, strict=True):
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(io.BytesIO(file))))
    assert found.class_names == ("ant", "bee", "cat")


def test_original_order_is_restored(tmp_path: Path) -> None:
    by_class = np.argsort(LABELS, kind="stable")
    path = save(
        tmp_path / "x.npz",
        train_images=GREY[by_class],
        train_labels=LABELS[by_class],
        original_order_train_labels=LABELS,
    )
    found = npz(path)
    assert torch.equal(found.images[:, 0], torch.from_numpy(GREY))
    assert found.labels.tolist() == LABELS.tolist()


def omniglot_arrays() -> dict[str, Any]:
    return {
        "class_id": np.array([0, 0, 1, 2, 2, 3], np.int16),
        "alphabet_id": np.array([0, 0, 0, 1, 1, 2], np.int8),
        "drawer": np.array([0, 1, 0, 0, 1, 0], np.int8),
        "split": np.array([0, 0, 0, 1, 1, 1], np.int8),
        "class_names": np.array(["A/1", "A/2", "B/1", "C/1"]),
        "alphabet_names": np.array(["A", "B", "C"]),
    }


@pytest.mark.parametrize("packed", [False, True])
def test_one_table_for_all_splits(packed: bool, tmp_path: Path) -> None:
    images = (drawn(6, 5, 5) > 99).astype(np.uint8) * 255
    pixels = (
        {"ink_bits": np.packbits(images.reshape(6, 25) > 0, axis=1)}
        if packed
        else {"images": images}
    )
    path = save(tmp_path / "x.npz", **pixels, **omniglot_arrays())
    found = npz(path, "test")
    assert torch.equal(found.images[:, 0], torch.from_numpy(images[3:]))
    assert found.labels.tolist() == [0, 0, 1]
    assert found.class_names == ("B/1", "C/1")
    assert {key: group.tolist() for key, group in found.groups.items()} == {
        "alphabet": [0, 0, 1],
        "drawer": [0, 1, 0],
    }


def test_further_groups(tmp_path: Path) -> None:
    writers = np.array([4, 4, 5, 5, 6, 6])
    path = save(tmp_path / "x.npz", images=GREY, labels=LABELS, group_writer=writers)
    assert npz(path).groups["writer"].tolist() == writers.tolist()


RAW = {"train_images": GREY, "train_labels": LABELS}
JPEG = {
    "train_labels": LABELS[:2],
    **jpeg_arrays([png(COLOUR[0], form="JPEG"), png(COLOUR[1], form="JPEG")]),
}
LENGTH = len(JPEG["train_jpeg_bytes"])
BITS = {"ink_bits": drawn(6, 4), **omniglot_arrays()}
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": (
        {"train_images": GREY},
        "hold labels for split 'train' (train_labels, y_train, labels, class_id), "
        "got only train_images.",
    ),
    "no images": (
        {"train_labels": LABELS},
        "hold images (train_images, x_train, images, train_jpeg_bytes, jpeg_bytes, "
        "train_ink_bits, ink_bits), got only train_labels.",
    ),
    "floats": (
        RAW | {"train_images": GREY / 255},
        "hold train_images as uint8 (N, H, W) or (N, H, W, c) with c 1 or 3, "
        "got float64 of shape (6, 5, 4).",
    ),
    "channels first": (
        RAW | {"train_images": drawn(6, 3, 5, 4)},
        "hold train_images as uint8 (N, H, W) or (N, H, W, c) with c 1 or 3, "
        "got uint8 of shape (6, 3, 5, 4).",
    ),
    "counts": (
        RAW | {"train_labels": LABELS[:5]},
        "hold 5 rows in train_images, as its labels say, got 6.",
    ),
    "labels of floats": (
        RAW | {"train_labels": LABELS / 2},
        "hold train_labels as a column of integers, got float64 of shape (6,).",
    ),
    "one-hot labels": (
        RAW | {"train_labels": np.eye(6, dtype=int)},
        "hold train_labels as a column of integers, got int64 of shape (6, 6).",
    ),
    "huge labels": (
        RAW | {"train_labels": np.array([0, 1, 2, 3, 4, 2**63 + 1], np.uint64)},
        "hold train_labels below 2^63, got 9223372036854775809.",
    ),
    "names that are no text": (
        RAW | {"class_names": np.arange(3)},
        "hold class_names as a column of text, got int64 of shape (3,).",
    ),
    "offsets that fall": (
        JPEG | {"train_offsets": np.array([0, LENGTH + 1, LENGTH])},
        f"hold train_offsets that rise from 0 to {LENGTH}, the length of train_jpeg_bytes, "
        "got some that fall.",
    ),
    "offsets that stop early": (
        JPEG | {"train_offsets": np.array([0, 9, LENGTH - 1])},
        f"hold train_offsets that rise from 0 to {LENGTH}, the length of train_jpeg_bytes, "
        f"got 0 to {LENGTH - 1}.",
    ),
    "too few offsets": (
        JPEG | {"train_offsets": np.array([0, LENGTH])},
        "hold 3 rows in train_offsets, as its labels say, got 2.",
    ),
    "no offsets": (
        {key: JPEG[key] for key in ("train_labels", "train_jpeg_bytes")},
        "hold an array 'train_offsets', got only train_labels, train_jpeg_bytes.",
    ),
    "bits of no square": (
        BITS | {"ink_bits": drawn(6, 6)},
        "hold square images in ink_bits, padded to whole bytes, got 48 bits a row.",
    ),
    "another order": (
        RAW | {"original_order_train_labels": np.zeros(6, np.uint8)},
        "hold in original_order_train_labels the labels of train_labels, got others.",
    ),
    "groups": (
        RAW | {"group_writer": np.arange(5)},
        "hold 6 rows in group_writer, as its labels say, got 5.",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_arrays_that_do_not_fit(name: str, tmp_path: Path) -> None:
    arrays, sentence = MISFITS[name]
    path = save(tmp_path / "x.npz", **arrays)
    assert refusal(lambda: npz(path)) == f"{path} must {sentence}"


def test_labels_and_names(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", **RAW, class_names=NAMES[:2])
    assert refusal(lambda: npz(path)) == f"labels of {path} must lie in [0, 2), got 2 at 0."
    path = save(tmp_path / "y.npz", **RAW | {"train_labels": np.array([0, 1, -1, 0, 0, 0])})
    assert refusal(lambda: npz(path)) == f"labels of {path} must lie in [0, 2), got -1 at 2."
    path = save(tmp_path / "z.npz", **RAW | {"train_labels": np.arange(6) * 10**12})
    assert refusal(lambda: npz(path)) == (
        f"labels of {path} must be less than 1048576, got 5000000000000."
    )


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", images=GREY, labels=LABELS)
    assert refusal(lambda: npz(path, "test")) == (
        f"{path} must hold a column 'split' to tell 'test', got only images, labels."
    )
    assert refusal(lambda: npz(path, "val")) == (
        f"{path} must be asked for split 'train' or 'test', got 'val'."
    )


def test_a_damaged_jpeg_is_named(tmp_path: Path) -> None:
    data = JPEG["train_jpeg_bytes"].copy()
    data[int(JPEG["train_offsets"][1]) :][:2] = 0
    path = save(tmp_path / "x.npz", **JPEG | {"train_jpeg_bytes": data})
    assert refusal(lambda: npz(path)) == (
        f"image 1 of {path} must be an image (PNG, JPEG, BMP, PPM, WEBP), got another file."
    )


def member(path: Path, data: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", data)
    return path


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADERS = {
    "more than there is": (
        header("(1000000000000,)"),
        "x.npy of {} must hold 1000000000128 bytes, as its header (uint8, (1000000000000,)) says, "
        "got 128.",
    ),
    "less than there is": (
        header("(3,)") + b"abcd",
        "x.npy of {} must hold 131 bytes, as its header (uint8, (3,)) says, got 132.",
    ),
    "negative": (
        header("(-1, -4)") + b"abcd",
        "x.npy of {} must hold 132 bytes, as its header (uint8, (-1, -4)) says, got 132.",
    ),
    "objects": (
        header("(1,)", "|O") + b"12345678",
        "x.npy of {} must hold numbers or text, got Python objects.",
    ),
    "foreign": (b"GIF89a" * 9, "x.npy of {} must start with a header of NumPy's, got another one."),
    "code": (
        header("__import__('os').getpid()"),
        "x.npy of {} must start with a header of NumPy's, got another one.",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str, tmp_path: Path) -> None:
    data, sentence = HEADERS[name]
    path = member(tmp_path / "x.npz", data)
    assert refusal(lambda: Arrays(path)["x"]) == sentence.format(path)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"no archive")
    assert refusal(lambda: npz(path)) == f"{path} must be a whole npz file, got damaged data."


def test_cut_and_flipped_archives(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", **RAW)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(lambda: npz(path)) == f"{path} must be a whole npz file, got damaged data."
    path = member(tmp_path / "y.npz", header("(4,)") + b"abcd")
    path.write_bytes(path.read_bytes().replace(b"abcd", b"abce"))
    assert refusal(lambda: Arrays(path)["x"]) == (
        f"{path} must be a whole npz file, got damaged data."
    )


def test_other_packings(tmp_path: Path) -> None:
    path = member(tmp_path / "x.npz", header("(4,)") + b"abcd", zipfile.ZIP_LZMA)
    assert refusal(lambda: Arrays(path)["x"]) == (
        f"{path}/x.npy must be stored or packed by deflate, got method 14."
    )
