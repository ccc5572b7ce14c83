"""Image folders, Tiny ImageNet's own layout, and what the decoder refuses."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import drawn, png, refusal, write_tree
from PIL import Image

from dlaccel.data import decode as decoding
from dlaccel.data import folder
from dlaccel.data.decode import decode
from dlaccel.data.formats.tiny_imagenet import tiny_imagenet

PIXELS = [drawn(4, 5, 3, seed=k) for k in range(4)]
PHOTOS = {
    "dog/2.png": png(PIXELS[0]),
    "ant/b.PNG": png(PIXELS[1]),
    "ant/a.bmp": png(PIXELS[2], form="BMP"),
    "cat/x.png": png(PIXELS[3]),
    "ant/notes.txt": b"no image",
}


@pytest.mark.parametrize("place", ["x", "x.zip", "x.tar.gz"])
@pytest.mark.parametrize("above", ["", "photos/all/"])
def test_classes_are_folders(place: str, above: str, tmp_path: Path) -> None:
    files = {above + name: data for name, data in PHOTOS.items()}
    found = folder(write_tree(tmp_path / place, files))
    assert found.class_names == ("ant", "cat", "dog")
    assert found.labels.tolist() == [0, 0, 1, 2]
    rows = np.stack([PIXELS[k] for k in (2, 1, 3, 0)])
    assert torch.equal(found.images, torch.from_numpy(rows).permute(0, 3, 1, 2))


@pytest.mark.parametrize("word", ["test", "val", "valid"])
def test_splits_are_folders(word: str, tmp_path: Path) -> None:
    """Classes are those of all splits, so that a label means the same in each."""
    files = {f"train/{name}": data for name, data in PHOTOS.items()}
    path = write_tree(tmp_path / "x", files | {f"{word}/cat/9.png": png(PIXELS[0])})
    found = folder(path, "test")
    assert (found.class_names, found.labels.tolist()) == (("ant", "cat", "dog"), [1])
    assert folder(path).labels.tolist() == [0, 0, 1, 2]
    assert found.source == str(path / word)


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "x", PHOTOS)
    assert refusal(lambda: folder(path, "test")) == (
        f"{path} must have a folder for split 'test', got none."
    )
    assert refusal(lambda: folder(path, "all")) == (
        f"{path} must be asked for split train, test, val, got 'all'."
    )
    path = write_tree(tmp_path / "y", {f"train/{name}": data for name, data in PHOTOS.items()})
    assert refusal(lambda: folder(path, "val")) == (
        f"{path} must have a folder val or valid or validation, got train."
    )


def test_places_that_tell_no_class(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "x", PHOTOS | {"a/b/c.png": png(PIXELS[0])})
    rule = f"{path} must hold all images as CLASS/IMAGE or SPLIT/CLASS/IMAGE, got"
    assert refusal(lambda: folder(path)) == f"{rule} 'a/b/c.png'."
    path = write_tree(tmp_path / "y", {"1.png": b"", "2.png": b""})
    rule = f"{path} must hold all images as CLASS/IMAGE or SPLIT/CLASS/IMAGE, got"
    assert refusal(lambda: folder(path)) == f"{rule} '1.png'."
    path = write_tree(tmp_path / "z", {"a/1.txt": b""})
    suffixes = ".png, .jpg, .jpeg, .bmp, .pgm, .ppm, .webp"
    assert refusal(lambda: folder(path)) == f"{path} must hold images ({suffixes}), got none."


def test_sizes_must_agree_or_be_chosen(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "x", PHOTOS | {"cat/z.png": png(drawn(9, 7, 3))})
    assert refusal(lambda: folder(path)) == (
        f"{path}/cat/z.png must have the size of the first image 5x4, got 7x9."
    )
    assert folder(path, size=6).images.shape == (5, 3, 6, 6)


GREY = drawn(4, 5)


def test_grey_stays_grey_unless_one_has_colour() -> None:
    grey = [("a", png(GREY)), ("b", png(GREY))]
    assert torch.equal(decode(grey, 2)[1, 0], torch.from_numpy(GREY))
    mixed = decode([*grey, ("c", png(PIXELS[0]))], 3)
    assert torch.equal(mixed[1], torch.from_numpy(GREY).expand(3, 4, 5))
    assert torch.equal(mixed[2], torch.from_numpy(PIXELS[0]).permute(2, 0, 1))
    assert decode([], 0).shape == (0, 1, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA"])
def test_other_modes_become_colours(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    data = png(PIXELS[0], mode, form)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode([("x", data)], 1)[0].permute(1, 2, 0), expected)


def palette_with_transparency() -> bytes:
    image, file = Image.fromarray(PIXELS[0]).convert("P"), io.BytesIO()
    image.save(file, "PNG", transparency=bytes(range(256)))
    return file.getvalue()


def huge() -> bytes:
    """A header that claims 20000x20000 pixels."""
    data = bytearray(png(GREY))
    start = data.index(b"IHDR")
    data[start + 4 : start + 12] = (20000).to_bytes(4, "big") * 2
    crc = zlib.crc32(data[start : start + 17])
    data[start + 17 : start + 21] = crc.to_bytes(4, "big")
    return bytes(data)


WHOLE = png(PIXELS[0], form="JPEG")
DAMAGE = {
    "text": (b"hello", "be an image (PNG, JPEG, BMP, PPM, WEBP), got another file."),
    "gif": (
        png(GREY, form="GIF"),
        "be an image (PNG, JPEG, BMP, PPM, WEBP), got another file.",
    ),
    "cut png": (png(drawn(50, 50))[:-900], "be a whole image, got damaged data."),
    "cut jpeg": (WHOLE[:-40], "be a whole image, got damaged data."),
    "deep": (
        png(drawn(4, 5).astype(np.uint16) * 257),
        "have eight bits a channel, got mode I;16.",
    ),
    "400 million pixels": (huge(), "have at most 67108864 pixels, got far more."),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(name: str) -> None:
    data, sentence = DAMAGE[name]
    assert refusal(lambda: decode([("x.png", data)], 1)) == f"x.png must {sentence}"


def test_pillows_remarks_are_no_refusals() -> None:
    assert decode([("x", palette_with_transparency())], 1).shape == (1, 3, 4, 5)


def test_more_pixels_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PIXEL_LIMIT", 19)
    assert (
        refusal(lambda: decode([("x", png(GREY))], 1)) == "x must have at most 19 pixels, got 5x4."
    )


def test_more_images_than_fit_is_said_before_they_are_decoded() -> None:
    assert refusal(lambda: decode([("x", png(GREY))], 2**30)) == (
        "the images from x on must unpack to at most 8589934592 bytes, got 64424509440."
    )


def tiny_files() -> dict[str, bytes]:
    files = {
        "wnids.txt": b"n02\nn01\n",
        "words.txt": b"n00\tbird\nn01\tgoldfish, Carassius auratus\nn02\tbull\n",
        "val/val_annotations.txt": b"val_1.JPEG\tn02\t0\t0\t9\t9\nval_0.JPEG\tn01\t0\t0\t9\t9\n",
    }
    for wnid in ("n01", "n02"):
        for k in (2, 10):
            name = f"train/{wnid}/images/{wnid}_{k}.JPEG"
            files[name] = png(np.full((8, 8, 3), 10 * int(wnid[1:]) + k, np.uint8), form="JPEG")
    for k in (0, 1):
        files[f"val/images/val_{k}.JPEG"] = png(np.full((8, 8), 100 + k, np.uint8), form="JPEG")
    return {f"tiny-imagenet-200/{name}": data for name, data in files.items()}


@pytest.mark.parametrize("place", ["tiny-imagenet-200.zip", "x"])
def test_tiny_imagenet(place: str, tmp_path: Path) -> None:
    path = write_tree(tmp_path / place, tiny_files())
    train, val = tiny_imagenet(path).read(), tiny_imagenet(path, "val").read()
    assert train.class_names == ("goldfish, Carassius auratus", "bull")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.images[:, 0, 0, 0].tolist() == [12, 20, 22, 30]  # by number, 2 before 10
    assert val.labels.tolist() == [1, 0]
    assert val.images[:, 0, 0, 0].tolist() == [101, 100]  # as annotated


def test_tiny_imagenet_refuses(tmp_path: Path) -> None:
    files, top = tiny_files(), "tiny-imagenet-200"
    path = write_tree(tmp_path / "a", files)
    assert refusal(lambda: tiny_imagenet(path, "test")) == (
        f"{path} must be asked for split 'train' or 'val', got 'test'."
    )
    unknown = write_tree(tmp_path / "b", files | {f"{top}/wnids.txt": b"n01\n"})
    assert refusal(lambda: tiny_imagenet(unknown)) == (
        f"{unknown}/{top}/train/n02/images/n02_2.JPEG must belong to a class of wnids.txt, "
        "got 'n02'."
    )
    absent = write_tree(tmp_path / "c", files | {f"{top}/val/val_annotations.txt": b"v.JPEG\tn01"})
    assert refusal(lambda: tiny_imagenet(absent, "val")) == (
        f"{absent}/val/val_annotations.txt must name images of val/images, got 'v.JPEG'."
    )
    bare = write_tree(tmp_path / "d", {f"{top}/wnids.txt": b"n01\n"})
    assert refusal(lambda: tiny_imagenet(bare)) == (
        f"{bare} must hold images as train/WNID/images/NAME.JPEG, got none."
    )
    other = write_tree(tmp_path / "e", {"a.txt": b""})
    assert (
        refusal(lambda: tiny_imagenet(other)) == f"{other} must hold wnids.txt, got no such file."
    )
