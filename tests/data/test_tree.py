"""Folders, zips and tars as one thing; what lies outside them, and bombs."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from image_files import refusal, write, write_tree

from dlaccel.data import tree as trees
from dlaccel.data.tree import open_tree

FILES = {"top/b/2.txt": b"two", "top/a/1.txt": b"one", "top/a/10.txt": b""}
KINDS = ["x.zip", "x.tar", "x.tar.gz", "x"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_files_from_each(kind: str, tmp_path: Path) -> None:
    hidden = {"__MACOSX/top/a/1.txt": b"", "top/.DS_Store": b"", "top/a/._1.txt": b""}
    tree = open_tree(write_tree(tmp_path / kind, FILES | hidden))
    assert tree.sizes == {"top/a/1.txt": 3, "top/a/10.txt": 0, "top/b/2.txt": 3}
    names = ["top/b/2.txt", "top/a/1.txt"]
    contents = [b"two", b"one"]
    assert list(tree.read(names)) == [
        (f"{tree.path}/{name}", data) for name, data in zip(names, contents, strict=True)
    ]
    assert tree.one("top/a/10.txt") == b""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_above_the_limit(kind: str, tmp_path: Path) -> None:
    tree = open_tree(write_tree(tmp_path / kind, FILES))
    assert refusal(lambda: list(tree.read(["top/a/1.txt"], limit=2))) == (
        f"{tree.path}/top/a/1.txt must unpack to at most 2 bytes, got 3."
    )


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_names_that_point_outside_are_not_there(kind: str, tmp_path: Path) -> None:
    tree = open_tree(write_tree(tmp_path / kind, {"../out.txt": b"", "a/../../b": b"", "c": b""}))
    assert list(tree.sizes) == ["c"]


def test_links_in_a_tar_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"link{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("plain"), io.BytesIO())
    assert list(open_tree(path).sizes) == ["plain"]


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_damage(kind: str, tmp_path: Path) -> None:
    files = {"a": bytes(range(256)) * 40, "b": b"b" * 5000}
    path = write_tree(tmp_path / kind, files)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    # a zip's list stands at its end, without which it is not known for a zip
    got = "must be a folder, a zip or a tar, got another file."
    if kind != "x.zip":
        got = "must be a whole tar, got " + (
            "one that ends too soon." if kind == "x.tar.gz" else "damaged data."
        )
    assert refusal(lambda: list(open_tree(path).read(["a"]))) == f"{path} {got}"


def test_a_flipped_byte_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"the content")
    path.write_bytes(path.read_bytes().replace(b"the content", b"she content"))
    assert refusal(lambda: open_tree(path).one("a")) == (
        f"{path} must be a whole zip, got damaged data."
    )


def test_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "x.rar", b"Rar!")
    assert refusal(lambda: open_tree(path)) == (
        f"{path} must be a folder, a zip or a tar, got another file."
    )
    path = tmp_path / "none"
    assert refusal(lambda: open_tree(path)) == (
        f"{path} must be a readable file, got No such file or directory."
    )


def test_a_zip_that_claims_more_than_it_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 1000)
    sizes = struct.pack("<I", 1000)
    data = path.read_bytes().replace(sizes, struct.pack("<I", 2**31))
    path.write_bytes(data)
    packed = zipfile.ZipFile(path).infolist()[0].compress_size
    assert refusal(lambda: open_tree(path)) == (
        f"{path}/a must unpack to at most {packed * 1032} bytes, as {packed} packed ones can, "
        "got 2147483648."
    )


def test_a_name_cannot_break_the_sentence(tmp_path: Path) -> None:
    tree = open_tree(write_tree(tmp_path / "x.zip", {"a\n\x1b[2J": b"abc"}))
    assert refusal(lambda: tree.one("a\n\x1b[2J", limit=2)) == (
        f"{tree.path}/a??[2J must unpack to at most 2 bytes, got 3."
    )


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "x.zip", {"a": b"abc"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flags of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and of the list
    path.write_bytes(data)
    assert refusal(lambda: open_tree(path)) == (
        f"{path}/a must be readable without a password, got an encrypted one."
    )


def test_a_tar_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is counted while it is unpacked, whatever its headers say."""
    monkeypatch.setattr(trees, "TAR_LIMIT", 10**5)
    plain = write_tree(tmp_path / "x.tar", {"zeros": b"\0" * 10**6})
    path = write(tmp_path / "x.tar.gz", gzip.compress(plain.read_bytes()))
    assert path.stat().st_size < 10**4
    sentence = refusal(lambda: open_tree(path))
    assert sentence.startswith(f"{path} must unpack to at most 100000 bytes, got 1")
