"""Small files of every format, written byte by byte, and the sentence with which one is refused."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dlaccel.data import DataError

Bytes = NDArray[np.uint8]


def drawn(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value).removeprefix("dlaccel.data: ")


def idx_bytes(array: Bytes) -> bytes:
    shape = array.shape
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + array.tobytes()


def write(path: Path, data: bytes, packed: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def write_idx(folder: Path, stem: str, images: Bytes, labels: Bytes, packed: bool = False) -> Path:
    """A pair named as MNIST's; gives the images file."""
    end = ".gz" if packed else ""
    write(folder / f"{stem}-labels-idx1-ubyte{end}", idx_bytes(labels), packed)
    return write(folder / f"{stem}-images-idx3-ubyte{end}", idx_bytes(images), packed)


def png(pixels: Bytes, mode: str | None = None, form: str = "PNG") -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form)
    return file.getvalue()


def write_tree(path: Path, files: Mapping[str, bytes]) -> Path:
    """The same files as a zip, a tar or a folder, as the path's name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif ".tar" in path.name:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in files.items():
            write(path / name, data)
    return path


def python2_batch(pixels: Bytes, labels: list[int]) -> bytes:
    """A CIFAR batch as Python 2 pickled it: protocol 2, text as byte strings."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
        b"(K\x01" + b"".join(b"J" + struct.pack("<i", n) for n in pixels.shape) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )
    numbers = b"".join(b"J" + struct.pack("<i", label) for label in labels)
    return b"\x80\x02}q\x01(U\x04dataq\x02" + array + b"U\x06labels](" + numbers + b"eu."
