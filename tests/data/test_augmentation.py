"""Augmentation: which images can come out, how often, and the same ones for a seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from image_files import drawn
from torch import Tensor

from dlaccel.data import augment

BATCH = torch.from_numpy(drawn(5, 3, 6, 7))
NONE: dict[str, Any] = {"crop": 0, "flip": False, "rotate": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(image: Tensor, crop: int) -> dict[bytes, int]:
    """Every image that crop and flip can make, with its number."""
    padded = F.pad(image, (crop,) * 4)
    height, width = image.shape[1:]
    cuts = [
        padded[:, y : y + height, x : x + width]
        for y in range(2 * crop + 1)
        for x in range(2 * crop + 1)
    ]
    return {
        cut.contiguous().numpy().tobytes(): k
        for k, cut in enumerate(cuts + [cut.flip(2) for cut in cuts])
    }


def test_crop_and_flip_give_each_window_alike() -> None:
    """1800 draws of 18 windows: chi-square with 17 degrees is below 50 but for 1 in 20,000."""
    known = windows(BATCH[0], 1)
    batch = BATCH[:1].expand(1800, -1, -1, -1)
    out = augment(batch, seeded(), crop=1, flip=True, rotate=0.0)
    drawn_windows = torch.tensor([known[image.numpy().tobytes()] for image in out])
    counts = drawn_windows.bincount(minlength=18).double()
    assert ((counts - 100).square() / 100).sum() < 50


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_dtype_and_shape_stay(dtype: torch.dtype) -> None:
    batch = BATCH if dtype == torch.uint8 else (BATCH / 255).to(dtype)
    before = batch.clone()
    out = augment(batch, seeded(), jitter=(0.4, 0.4, 0.4))
    assert (out.dtype, out.shape) == (dtype, batch.shape)
    assert torch.equal(batch, before)
    assert not torch.equal(out, batch)
    assert torch.equal(out, augment(batch, seeded(), jitter=(0.4, 0.4, 0.4)))
    assert not torch.equal(out, augment(batch, seeded(1), jitter=(0.4, 0.4, 0.4)))


def test_nothing_asked_gives_a_copy() -> None:
    out = augment(BATCH, seeded(), **NONE)
    assert torch.equal(out, BATCH)
    assert out.data_ptr() != BATCH.data_ptr()
    assert augment(BATCH[:0], seeded()).shape == (0, 3, 6, 7)


def test_rotation_keeps_a_disc_and_turns_a_ray() -> None:
    """A ray from the centre comes out at the angle drawn, which fills [-rotate, rotate]."""
    side = 65
    offsets = torch.arange(side) - side // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    ray = ((x > 0) & (y.abs() <= 1)).float().expand(400, 1, side, side)
    out = augment(ray, seeded(), crop=0, flip=False, rotate=30.0)[:, 0]
    mass = out * (x.square() + y.square() < 30**2)
    angle = torch.rad2deg(torch.atan2((mass * y).sum((1, 2)), (mass * x).sum((1, 2))))
    # bilinear sampling moves the centre of mass by far less than a pixel in 15: half a degree
    assert angle.abs().max() < 30.5
    assert angle.min() < -28
    assert angle.max() > 28
    assert angle.mean().abs() < 30 / 3**0.5 / 400**0.5 * 4  # four standard errors of the mean
    disc = (x.square() + y.square() < 20**2).float().expand(9, 1, side, side)
    turned = augment(disc, seeded(), crop=0, flip=False, rotate=180.0)
    inside = x.square() + y.square() < 18**2
    outside = x.square() + y.square() > 22**2
    torch.testing.assert_close(turned[:, 0][:, inside], torch.ones(9, int(inside.sum())))
    assert not turned[:, 0][:, outside].any()


def test_rotation_of_an_oblong_keeps_lengths() -> None:
    """A Gaussian of deviations 5 and 1.5 pixels keeps its second moment, whatever the angle."""
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(61.0) - 30, indexing="ij")
    blob = torch.exp(-(x / 5).square() / 2 - (y / 1.5).square() / 2).expand(600, 1, 41, 61)
    out = augment(blob, seeded(), crop=0, flip=False, rotate=180.0)[:, 0]
    moment = (out * (x.square() + y.square())).sum((1, 2)) / out.sum((1, 2))
    # upright, four deviations fit: the tails cut off hold 1.1e-3 of 25. Bilinear sampling adds
    # t (1 - t) <= 1/4 along each axis
    assert moment.min() > 25 * (1 - 1.1e-3) + 1.5**2
    assert moment.max() < 25 + 1.5**2 + 2 / 4


def test_jitter_against_its_formulas() -> None:
    unit = BATCH[:1].double().expand(300, -1, -1, -1) / 255
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    bright = augment(unit / 2, seeded(), **NONE, jitter=(0.5, 0.0, 0.0))
    factor = bright.sum((1, 2, 3)) / (unit / 2).sum((1, 2, 3))
    torch.testing.assert_close(bright, unit / 2 * factor[:, None, None, None])
    assert 0.5 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5
    middle = unit / 4 + 0.4
    contrast = augment(middle, seeded(), **NONE, jitter=(0.0, 0.5, 0.0))
    mean = torch.einsum("nchw,c->n", middle, grey) / (6 * 7)
    centre = mean[:, None, None, None]
    factor = (contrast - centre).flatten(1).norm(dim=1) / (middle - centre).flatten(1).norm(dim=1)
    torch.testing.assert_close(contrast, centre + (middle - centre) * factor[:, None, None, None])
    dull = augment(middle, seeded(), **NONE, jitter=(0.0, 0.0, 1.0))
    luma = torch.einsum("nchw,c->nhw", middle, grey)
    torch.testing.assert_close(torch.einsum("nchw,c->nhw", dull, grey), luma)


def test_jitter_stays_in_range() -> None:
    out = augment((BATCH / 255).expand(5, 3, 6, 7), seeded(), **NONE, jitter=(1.0, 1.0, 1.0))
    assert 0 <= out.min() <= out.max() <= 1
    grey = augment(BATCH[:, :1], seeded(), jitter=(0.4, 0.4, 0.4))
    assert grey.shape == (5, 1, 6, 7)


@pytest.mark.cuda
def test_the_same_draws_on_every_device() -> None:
    out = augment(BATCH, seeded(), rotate=0.0)
    assert torch.equal(augment(BATCH.cuda(), seeded(), rotate=0.0).cpu(), out)


@pytest.mark.parametrize(
    ("batch", "options", "kind", "sentence"),
    [
        ([1], {}, TypeError, "batch must be a torch.Tensor, got list."),
        (BATCH.int(), {}, TypeError, "batch must be uint8 or floating, got torch.int32."),
        (
            BATCH[0],
            {},
            ValueError,
            "batch must have shape (N, c, H, W) with c 1 or 3, got (3, 6, 7).",
        ),
        (BATCH, {"crop": -1}, ValueError, "crop must be at least 0, got -1."),
        (BATCH, {"rotate": 181}, ValueError, "rotate must lie in [0, 180], got 181."),
        (
            BATCH,
            {"jitter": (0.4, 0.4)},
            ValueError,
            "jitter must be three numbers in [0, 1], got (0.4, 0.4).",
        ),
        (
            BATCH,
            {"jitter": (0.4, 2, 0)},
            ValueError,
            "jitter must be three numbers in [0, 1], got (0.4, 2, 0).",
        ),
    ],
)
def test_refusals(
    batch: Any, options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        augment(batch, seeded(), **options)
    assert str(caught.value) == f"dlaccel.data.augment: {sentence}"
