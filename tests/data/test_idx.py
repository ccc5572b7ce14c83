"""IDX files: both packings, and the sentence for each kind of damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import drawn, idx_bytes, refusal, write, write_idx

from dlaccel.data.formats.idx import idx, read_array

IMAGES = drawn(7, 5, 4)
LABELS = np.array([3, 1, 0, 2, 3, 3, 1], np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_both_packings(packed: bool, tmp_path: Path) -> None:
    found = idx(write_idx(tmp_path, "train", IMAGES, LABELS, packed)).read()
    assert torch.equal(found.images, torch.from_numpy(IMAGES).unsqueeze(1))
    assert found.labels.tolist() == LABELS.tolist()
    assert found.class_names == ("0", "1", "2", "3")
    assert found.counts().tolist() == [1, 2, 1, 3]


def test_packing_is_told_by_the_content(tmp_path: Path) -> None:
    images = write(tmp_path / "t-images-idx3-ubyte", idx_bytes(IMAGES), packed=True)
    write(tmp_path / "t-labels-idx1-ubyte.gz", idx_bytes(LABELS))
    assert len(idx(images).read()) == 7


def test_no_image_at_all(tmp_path: Path) -> None:
    found = idx(write_idx(tmp_path, "train", IMAGES[:0], LABELS[:0])).read()
    assert (len(found), found.num_classes) == (0, 0)


DAMAGE = {
    "foreign": (
        b"P5 4 5 255 " + IMAGES.tobytes(),
        "be an IDX file of unsigned bytes with 3 axes (it starts with 00000803), got 50352034.",
    ),
    "labels instead of images": (
        idx_bytes(LABELS),
        "be an IDX file of unsigned bytes with 3 axes (it starts with 00000803), got 00000801.",
    ),
    "empty": (
        b"",
        "be an IDX file of unsigned bytes with 3 axes (it starts with 00000803), "
        "got an empty file.",
    ),
    "no sizes": (idx_bytes(IMAGES)[:10], "hold an IDX header of 16 bytes, got 10."),
    "one byte short": (
        idx_bytes(IMAGES)[:-1],
        "hold 156 bytes, as its header (7, 5, 4) says, got 155.",
    ),
    "one byte more": (
        idx_bytes(IMAGES) + b"\0",
        "hold 156 bytes, as its header (7, 5, 4) says, got 157.",
    ),
    "a count that would fill the memory": (
        struct.pack(">HBB3I", 0, 8, 3, *(2**32 - 1,) * 3),
        "hold 79228162458924105385300197391 bytes, as its header "
        "(4294967295, 4294967295, 4294967295) says, got 16.",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(name: str, tmp_path: Path) -> None:
    data, sentence = DAMAGE[name]
    path = write(tmp_path / "x-images-idx3-ubyte", data)
    assert refusal(lambda: read_array(path, 3)) == f"{path} must {sentence}"


PACKED_DAMAGE = {
    "ends inside": (
        lambda z: z[: len(z) // 2],
        "hold 140 bytes after its header, as (7, 5, 4) says, got fewer.",
    ),
    "ends inside the header": (
        lambda z: z[:12],
        "be a whole IDX file, got one that ends too soon.",
    ),
    "flipped byte": (
        lambda z: z[:40] + bytes([z[40] ^ 255]) + z[41:],
        "be a whole IDX file, got damaged data.",
    ),
}


@pytest.mark.parametrize("name", PACKED_DAMAGE)
def test_damage_when_packed(name: str, tmp_path: Path) -> None:
    damage, sentence = PACKED_DAMAGE[name]
    path = write(tmp_path / "x-images-idx3-ubyte.gz", idx_bytes(IMAGES), packed=True)
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(lambda: read_array(path, 3)) == f"{path} must {sentence}"


def test_packed_file_holds_what_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "x-images-idx3-ubyte.gz"
    rule = f"{path} must hold 140 bytes after its header, as (7, 5, 4) says, got"
    write(path, idx_bytes(IMAGES)[:-1], packed=True)
    assert refusal(lambda: read_array(path, 3)) == f"{rule} fewer."
    write(path, idx_bytes(IMAGES) + b"\0", packed=True)
    assert refusal(lambda: read_array(path, 3)) == f"{rule} more."


def test_packed_bytes_cannot_hold_what_the_header_says(tmp_path: Path) -> None:
    """Deflate packs 1032 to 1, so no more is ever allocated; here 10 GB are claimed."""
    claimed = struct.pack(">HBB3I", 0, 8, 3, 10**7, 10, 100)
    path = write(tmp_path / "x-images-idx3-ubyte.gz", claimed, packed=True)
    size = path.stat().st_size
    assert refusal(lambda: read_array(path, 3)) == (
        f"{path} must hold 10000000016 bytes when unpacked, as its header (10000000, 10, 100) "
        f"says, got {size} packed ones."
    )


def test_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x-images-idx3-ubyte"
    head = struct.pack(">HBB3I", 0, 8, 3, 2**23, 32, 33)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(2**23 * 32 * 33 + 16)  # a hole: takes no room on the disk
    assert refusal(lambda: read_array(path, 3)) == (
        f"{path} must unpack to at most 8589934592 bytes, got 8858370064."
    )


def test_labels_fit_the_images(tmp_path: Path) -> None:
    images = write_idx(tmp_path, "train", IMAGES, LABELS[:5])
    labels = tmp_path / "train-labels-idx1-ubyte"
    assert refusal(lambda: idx(images)) == (
        f"{labels} must hold a label for each of 7 images in {images.name}, got 5."
    )
    labels.unlink()
    assert refusal(lambda: idx(images)) == (
        f"{images} must have {labels.name} or {labels.name}.gz beside it, got none."
    )


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refusal(lambda: read_array(path, 3)) == (
        f"{path} must be a readable file, got No such file or directory."
    )
