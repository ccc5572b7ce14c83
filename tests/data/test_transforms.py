"""Transforms against their definitions, element by element."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from image_files import drawn
from PIL import Image

from dlaccel import data
from dlaccel.data import Images

SQUARE = Images(
    torch.from_numpy(drawn(3, 3, 4, 4)),
    torch.tensor([1, 0, 1]),
    ("a", "b"),
    {"drawer": torch.tensor([7, 8, 9])},
)


def test_symmetries_are_the_eight_of_the_square() -> None:
    found = data.symmetries(SQUARE)
    assert found.labels.tolist() == [8 * y + g for y in (1, 0, 1) for g in range(8)]
    assert found.groups["drawer"].tolist() == [7] * 8 + [8] * 8 + [9] * 8
    assert found.num_classes == 16
    assert found.class_names[0] == "a, 0 degrees"
    assert found.class_names[8 + 5] == "b, mirrored 90 degrees"
    for n, image in enumerate(SQUARE.images.numpy()):
        for g in range(8):
            start = image[:, :, ::-1] if g >= 4 else image
            assert np.array_equal(found.images[8 * n + g], np.rot90(start, g % 4, (1, 2)))
        assert len({found.images[8 * n + g].numpy().tobytes() for g in range(8)}) == 8


def test_symmetries_form_a_group() -> None:
    """Symmetries of a symmetry are the same eight images, in another order."""
    once = data.symmetries(SQUARE).subset(slice(0, 8))
    images = {image.numpy().tobytes() for image in once.images}
    for again in data.symmetries(once).images.split(8):
        assert {image.numpy().tobytes() for image in again} == images


def test_rotations_are_the_first_four() -> None:
    found, all_eight = data.rotations(SQUARE), data.symmetries(SQUARE)
    assert found.labels.tolist() == [4 * y + r for y in (1, 0, 1) for r in range(4)]
    assert torch.equal(found.images, all_eight.images.view(3, 8, 3, 4, 4)[:, :4].flatten(0, 1))
    # counterclockwise: the top right corner comes to the top left
    assert torch.equal(found.images[1, :, 0, 0], SQUARE.images[0, :, 0, 3])


def test_only_squares_turn() -> None:
    oblong = Images(torch.zeros(1, 1, 2, 3, dtype=torch.uint8), torch.tensor([0]), ("a",))
    for name in ("symmetries", "rotations"):
        with pytest.raises(ValueError, match="must") as caught:
            getattr(data, name)(oblong)
        assert str(caught.value) == f"dlaccel.data.{name}: images must be square, got (1, 1, 2, 3)."


def test_standardise() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = data.standardise(SQUARE, mean, std)
    pixels = SQUARE.images.numpy().astype(np.float64) / 255
    expected = (pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert found.dtype == torch.float32
    # three roundings of numbers up to 4: 3 * 2^-24 * 4
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=3 * 2**-22)
    assert torch.equal(data.standardise(SQUARE.images, mean, std), found)
    one = data.standardise(SQUARE, 0.0, 1.0)
    assert torch.equal(one, SQUARE.images / 255)


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        ((0.1, 0.2), 1.0, "mean must be one number or 3, got 2."),
        (0.1, (1.0, 1.0), "std must be one number or 3, got 2."),
        (0.1, (1.0, 0.0, 1.0), "std must be positive, got (1.0, 0.0, 1.0)."),
    ],
)
def test_standardise_refuses(mean: float, std: float, sentence: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        data.standardise(SQUARE, mean, std)
    assert str(caught.value) == f"dlaccel.data.standardise: {sentence}"
    with pytest.raises(TypeError, match=r"images must be uint8, got torch\.float32\."):
        data.standardise(SQUARE.images.float(), 0.0, 1.0)


def test_channel_moments() -> None:
    mean, std = data.channel_moments(SQUARE)
    pixels = SQUARE.images.numpy().astype(np.float64) / 255
    # 48 float64 numbers a channel; the sums of NumPy round too
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=48 * 2**-52)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=48 * 2**-52)
    standard = data.standardise(SQUARE, mean, std).double()
    # float32 numbers below 4, with the roundings above
    assert standard.mean((0, 2, 3)).abs().max() < 2**-20
    assert (standard.square().mean((0, 2, 3)) - 1).abs().max() < 2**-18


def test_resize() -> None:
    images = Images(torch.from_numpy(drawn(2, 3, 4, 6)), torch.tensor([0, 1]), ("a", "b"))
    small = data.resize(images, 2)
    blocks = images.images.view(2, 3, 2, 2, 2, 3).double().mean((3, 5))
    # Pillow rounds after each of its two passes
    assert (small.images - blocks).abs().max() <= 1
    assert small.labels.tolist() == [0, 1]
    large = data.resize(images, 12)
    grown = images.images.repeat_interleave(3, 2).repeat_interleave(2, 3)
    assert torch.equal(large.images, grown)
    grey = Images(images.images[:, :1], images.labels, images.class_names)
    bilinear = data.resize(grey, 9, "bilinear").images[0, 0].numpy()
    source = Image.open(io.BytesIO(_png(grey.images[0, 0].numpy())))
    assert np.array_equal(bilinear, np.asarray(source.resize((9, 9), Image.Resampling.BILINEAR)))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_resize_refuses() -> None:
    with pytest.raises(ValueError, match=r"data\.resize: size must be at least 1, got 0\."):
        data.resize(SQUARE, 0)
    with pytest.raises(ValueError, match=r"filter must be one of .*'box'.*, got 'sharp'\."):
        data.resize(SQUARE, 4, "sharp")


def test_split_classes() -> None:
    parts = data.split_classes(100, (64, 16, 20), seed=3)
    assert [len(part) for part in parts] == [64, 16, 20]
    assert torch.cat(parts).sort().values.tolist() == list(range(100))
    for part in parts:
        assert torch.equal(part, part.sort().values)
    again, other = data.split_classes(100, (64, 16, 20), 3), data.split_classes(100, (64,), 4)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0], other[0])
    # a smaller split of the same seed starts alike
    assert torch.equal(data.split_classes(100, (64,), 3)[0], parts[0])


def test_split_classes_refuses() -> None:
    with pytest.raises(ValueError, match="must") as caught:
        data.split_classes(10, (6, 5), 0)
    assert str(caught.value) == (
        "dlaccel.data.split_classes: sizes must add up to at most 10, got 11."
    )
    with pytest.raises(ValueError, match=r"sizes must be at least 1, got 0\."):
        data.split_classes(10, (6, 0), 0)
