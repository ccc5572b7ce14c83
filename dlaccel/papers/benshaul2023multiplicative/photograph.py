"""A photograph as a function of its coordinates, on [-1, 1]^2."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

THUMBNAIL = (96, 128)
"""Rows and columns, at most, of the part of a photograph that goes into the records."""


@dataclass(frozen=True)
class Photograph:
    """An image averaged down to ``[H, W, 3]``, values in [0, 1], float64."""

    pixels: Tensor

    @staticmethod
    def load(name: str, height: int, width: int) -> Photograph:
        """One of scikit-learn's two photographs, averaged over boxes."""
        raw = torch.from_numpy(np.array(load_sample_image(name))).permute(2, 0, 1)[None]
        pixels = torch.nn.functional.adaptive_avg_pool2d(raw.double() / 255, (height, width))
        return Photograph(pixels[0].permute(1, 2, 0).contiguous())

    @property
    def coordinates(self) -> Tensor:
        """Pixel centres (x, y), ``[H W, 2]`` in (-1, 1), row after row."""
        height, width, _ = self.pixels.shape
        y = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
        x = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)

    @property
    def colours(self) -> Tensor:
        """Values at the coordinates, ``[H W, 3]``."""
        return self.pixels.reshape(-1, 3)

    @property
    def grey(self) -> Tensor:
        """Mean of the three colours at the coordinates, ``[H W]``."""
        return self.colours.mean(1)

    @property
    def held_out(self) -> Tensor:
        """One pixel in four, of odd row and odd column, that no training sees: bool ``[H W]``."""
        height, width, _ = self.pixels.shape
        odd = torch.arange(max(height, width)) % 2 == 1
        return (odd[:height, None] & odd[:width]).reshape(-1)


def psnr(error: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of errors of values in [0, 1]: ``-10 log10 mean e^2``."""
    return -10 * math.log10(float(error.double().square().mean()))


def to_jpeg(pixels: Tensor) -> str:
    """The middle of ``[H, W, 3]`` at most ``THUMBNAIL`` large, as base64 of a JPEG."""
    height, width, _ = pixels.shape
    rows, columns = min(height, THUMBNAIL[0]), min(width, THUMBNAIL[1])
    top, left = (height - rows) // 2, (width - columns) // 2
    part = pixels[top : top + rows, left : left + columns]
    buffer = io.BytesIO()
    array = (part.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    Image.fromarray(array).save(buffer, format="JPEG", quality=92)
    return base64.b64encode(buffer.getvalue()).decode()


def from_jpeg(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The picture that ``to_jpeg`` wrote, uint8 ``[H, W, 3]``."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
