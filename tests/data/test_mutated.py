"""Files changed at random: they are read, or refused in one sentence; nothing else happens."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import drawn, png, python2_batch, write_idx, write_tree

from dlaccel.data import DataError, folder, npz
from dlaccel.data.formats.cifar import cifar
from dlaccel.data.formats.idx import idx

CHANGES = 60
LABELS = np.array([0, 1, 2, 1], np.uint8)


def idx_file(root: Path) -> Path:
    return write_idx(root, "train", drawn(4, 5, 5), LABELS)


def packed_idx_file(root: Path) -> Path:
    return write_idx(root, "train", drawn(4, 5, 5), LABELS, packed=True)


def cifar_tar(root: Path) -> Path:
    files = {f"data_batch_{k}": python2_batch(drawn(2, 3072), [k, 3]) for k in range(1, 6)}
    return write_tree(root / "cifar-10-python.tar.gz", files)


def raw_npz(root: Path) -> Path:
    np.savez(root / "x.npz", train_images=drawn(4, 5, 5, 3), train_labels=LABELS)
    return root / "x.npz"


def jpeg_npz(root: Path) -> Path:
    files = [png(drawn(8, 8, 3, seed=k), form="JPEG") for k in range(4)]
    np.savez_compressed(
        root / "x.npz",
        train_jpeg_bytes=np.frombuffer(b"".join(files), np.uint8),
        train_offsets=np.cumsum([0, *map(len, files)]),
        train_labels=LABELS,
    )
    return root / "x.npz"


def photos(root: Path) -> Path:
    forms = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "webp": "WEBP"}
    files = {f"{c}/x.{end}": png(drawn(7, 7, 3), form=f) for c in "ab" for end, f in forms.items()}
    return write_tree(root / "photos.zip", files)


def change(data: bytes, draw: random.Random) -> bytes:
    """Cut, cut out, append, or set some bytes, more often in the header than elsewhere."""
    place = draw.randrange(draw.choice([min(len(data), 40), len(data)]))
    match draw.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place + draw.randrange(1, 9) :]
        case 2:
            return data + draw.randbytes(draw.randrange(1, 20))
    out = bytearray(data)
    for _ in range(draw.choice([1, 2, 8])):
        out[draw.randrange(place + 1)] = draw.choice([0, 1, 127, 128, 255])
    return bytes(out)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (idx_file, lambda path: idx(path).read()),
        (packed_idx_file, lambda path: idx(path).read()),
        (cifar_tar, lambda path: cifar(path).read()),
        (raw_npz, npz),
        (jpeg_npz, npz),
        (photos, folder),
    ],
)
def test_changed_files(
    writer: Callable[[Path], Path], reader: Callable[[Path], object], tmp_path: Path
) -> None:
    path, draw, refused = writer(tmp_path), random.Random(0), 0
    whole = path.read_bytes()
    reader(path)
    for _ in range(CHANGES):
        path.write_bytes(change(whole, draw))
        try:
            reader(path)
        except DataError as error:
            refused += 1
            sentence = str(error)
            assert sentence.startswith("dlaccel.data: ")
            assert sentence.endswith(".")
            assert sentence.isprintable()
    assert refused > 0
