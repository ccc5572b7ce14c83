"""CIFAR in all its versions: the same images from each, and no pickle that does anything."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import drawn, python2_batch, refusal, write_tree

from dlaccel.data.formats.cifar import CIFAR100, cifar
from dlaccel.data.unpickle import unpickle

PIXELS = [drawn(3, 3072, seed=k) for k in range(5)]
LABELS = [[k, 9, 0] for k in range(5)]
NAMES = [f"class{k}" for k in range(10)]
FOLDER = {"py": "cifar-10-batches-py", "bin": "cifar-10-batches-bin"}


def python2() -> dict[str, bytes]:
    files = {
        f"{FOLDER['py']}/data_batch_{k + 1}": python2_batch(PIXELS[k], LABELS[k]) for k in range(5)
    }
    return files | {f"{FOLDER['py']}/test_batch": python2_batch(PIXELS[0], LABELS[0])}


def python3(protocol: int) -> dict[str, bytes]:
    def batch(k: int) -> bytes:
        return pickle.dumps({"data": PIXELS[k], "labels": LABELS[k]}, protocol)

    return {f"{FOLDER['py']}/data_batch_{k + 1}": batch(k) for k in range(5)} | {
        f"{FOLDER['py']}/batches.meta": pickle.dumps({"label_names": NAMES}, protocol)
    }


def binary() -> dict[str, bytes]:
    def batch(k: int) -> bytes:
        rows = zip(LABELS[k], PIXELS[k], strict=True)
        return b"".join(bytes([label]) + pixels.tobytes() for label, pixels in rows)

    names = "\n".join(NAMES).encode() + b"\n\n"
    files = {f"{FOLDER['bin']}/data_batch_{k + 1}.bin": batch(k) for k in range(5)}
    return files | {f"{FOLDER['bin']}/batches.meta.txt": names}


VERSIONS = {
    "python2": (python2(), "py", ".tar.gz"),
    "python2 in a tar": (python2(), "py", ".tar"),
    "python2 extracted": (python2(), "py", ""),
    "python3": (python3(2), "py", ".tar.gz"),
    "python3 protocol 4": (python3(4), "py", ""),
    "binary": (binary(), "bin", ".tar.gz"),
    "binary extracted": (binary(), "bin", ""),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_same(version: str, tmp_path: Path) -> None:
    files, _, suffix = VERSIONS[version]
    found = cifar(write_tree(tmp_path / f"cifar{suffix}", files)).read()
    assert torch.equal(found.images, torch.from_numpy(np.concatenate(PIXELS)).view(15, 3, 32, 32))
    assert found.labels.tolist() == [label for batch in LABELS for label in batch]
    named = "python2" not in version
    assert found.class_names == (tuple(NAMES) if named else tuple("0123456789"))


def test_test_split(tmp_path: Path) -> None:
    found = cifar(write_tree(tmp_path / "cifar", python2()), "test").read()
    assert found.labels.tolist() == LABELS[0]


@pytest.mark.parametrize("version", ["python", "binary"])
def test_cifar100_has_superclasses(version: str, tmp_path: Path) -> None:
    coarse, fine = [4, 19, 0], [99, 0, 41]
    if version == "python":
        batch = {"data": PIXELS[0], "coarse_labels": coarse, "fine_labels": fine}
        files = {"cifar-100-python/train": pickle.dumps(batch, 2)}
    else:
        rows = zip(coarse, fine, PIXELS[0], strict=True)
        data = b"".join(bytes([c, f]) + pixels.tobytes() for c, f, pixels in rows)
        files = {"cifar-100-binary/train.bin": data}
    found = cifar(write_tree(tmp_path / "c.tar.gz", files), "train", CIFAR100).read()
    assert torch.equal(found.images.flatten(1), torch.from_numpy(PIXELS[0]))
    assert found.labels.tolist() == fine
    assert found.groups["superclass"].tolist() == coarse
    assert found.num_classes == 100


def test_a_missing_batch(tmp_path: Path) -> None:
    files = binary()
    del files[f"{FOLDER['bin']}/data_batch_3.bin"]
    path = write_tree(tmp_path / "cifar.tar", files)
    wanted = ", ".join(f"data_batch_{k}.bin" for k in range(1, 6))
    assert refusal(lambda: cifar(path)) == f"{path} must hold {wanted}, got no data_batch_3.bin."


def test_a_record_cut_short(tmp_path: Path) -> None:
    files = binary()
    name = f"{FOLDER['bin']}/data_batch_2.bin"
    files[name] = files[name][:-1]
    path = write_tree(tmp_path / "cifar", files)
    assert refusal(lambda: cifar(path)) == (
        f"{path}/{name} must hold whole records of 3073 bytes, got 9218 bytes."
    )


def test_a_label_that_names_no_class(tmp_path: Path) -> None:
    files = python2()
    files[f"{FOLDER['py']}/data_batch_2"] = python2_batch(PIXELS[1], [1, 2, 10])
    path = write_tree(tmp_path / "cifar", files)
    assert refusal(lambda: cifar(path)) == f"labels of {path} must lie in [0, 10), got 10 at 5."
    files[f"{FOLDER['py']}/data_batch_2"] = python2_batch(PIXELS[1], [1, -2, 3])
    write_tree(path, files)
    assert refusal(lambda: cifar(path)) == (
        f"{path}/{FOLDER['py']}/data_batch_2 must hold labels in [0, 256), got -2 at 1."
    )


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"labels": [1]}, "hold data as an array (N, 3072), got NoneType."),
        ({"data": PIXELS[0][:, 1:]}, "hold data as an array (N, 3072), got (3, 3071)."),
        ({"data": PIXELS[0]}, "hold labels as a list of integers, got NoneType."),
        ({"data": PIXELS[0], "labels": ["1"]}, "hold labels as a list of integers, got list."),
        (
            {"data": PIXELS[0], "labels": [1]},
            "hold a label in labels for each of 3 images, got 1.",
        ),
        ([1, 2], "hold a pickled dictionary, got list."),
        (
            {"data": PIXELS[0].astype(np.int64)},
            "hold a pickle of plain data and uint8 arrays alone, got an array of 'i8'.",
        ),
        (
            {"data": np.array([[1], None], object)},
            "hold a pickle of plain data and uint8 arrays alone, got an array of 'O8'.",
        ),
    ],
)
def test_foreign_batches(batch: object, sentence: str, tmp_path: Path) -> None:
    files = python3(2) | {f"{FOLDER['py']}/data_batch_1": pickle.dumps(batch, 2)}
    path = write_tree(tmp_path / "cifar", files)
    source = f"{path}/{FOLDER['py']}/data_batch_1"
    assert refusal(lambda: cifar(path)) == f"{source} must {sentence}"


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


RULE = "batch must hold a pickle of plain data and uint8 arrays alone, got"


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    for protocol in range(6):
        data = pickle.dumps({"data": Harmful(tmp_path / "made")}, protocol)
        sentence = refusal(lambda data=data: unpickle("batch", data))  # type: ignore[misc]
        assert sentence in {f"{RULE} posix.mkdir.", f"{RULE} nt.mkdir."}
    assert not (tmp_path / "made").exists()
    pickle.loads(data)
    assert (tmp_path / "made").exists()  # the pickle was a harmful one


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"c__builtin__\ngetattr\n.", "__builtin__.getattr"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "the memo's place 2147483647"),
        (b"(i__main__\nC\n.", "the operation INST"),
        (b"\x80\x02\x82\x01.", "the operation EXT1"),
        (b"\x80\x02U\x01xQ.", "the operation BINPERSID"),
        (b"\x80\x02}q\x01", "a damaged one"),
        (b"", "a damaged one"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "the codec b'zip'"),
        (b"\x80\x02c_codecs\nencode\n}b.", "a state for a codec"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "a damaged one"),
        (b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.", "a damaged one"),
    ],
)
def test_other_operations_and_names(data: bytes, got: str) -> None:
    assert refusal(lambda: unpickle("batch", data)) == f"{RULE} {got}."


def test_an_array_with_too_few_bytes() -> None:
    data = python2_batch(PIXELS[0], [1, 2, 3])
    grown = data.replace(b"J" + struct.pack("<i", 3072), b"J" + struct.pack("<i", 3073), 1)
    assert refusal(lambda: unpickle("batch", grown)) == (
        f"{RULE} 9216 bytes for an array of shape (3, 3073)."
    )
