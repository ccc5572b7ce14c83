"""PNG, JPEG and their kind into uint8 tensors, through Pillow."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .outside import ARRAY_LIMIT, Bytes, limited, need, refuse

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
PIXEL_LIMIT = 2**26
GREY = ("1", "L")


def decode(encoded: Iterable[tuple[str, bytes]], count: int, size: int | None = None) -> Tensor:
    """(N, c, H, W) uint8; c is 1 when all images are grey, else 3.

    Args:
        encoded: name and bytes of each image.
        count: N.
        size: side to crop and resample every image to; None when all have one size already.

    Raises:
        DataError: when a file is no image or damaged, larger than 2^26 pixels, deeper than eight
            bits, or of another size than the first.
    """
    need("PIL", "Pillow")
    images: Bytes | None = None
    grey = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on metadata; sizes are checked here
        for place, (name, data) in enumerate(encoded):
            image = _open(name, data, size)
            grey = grey and image.mode == "L"
            width, height = image.size
            if images is None:
                limited(f"the images from {name} on", count * height * width * 3, ARRAY_LIMIT)
                images = np.empty((count, height, width, 3), np.uint8)
            if (height, width) != images.shape[1:3]:
                got = f"{width}x{height}"
                rule = f"have the size of the first image {images.shape[2]}x{images.shape[1]}"
                refuse(name, rule, got)
            pixels = np.asarray(image)
            images[place] = pixels[..., None] if pixels.ndim == 2 else pixels
    if images is None:
        return torch.empty(0, 1, 0, 0, dtype=torch.uint8)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    return (tensor[:, :1] if grey else tensor).contiguous()


def _open(name: str, data: bytes, size: int | None) -> Image:
    """A decoded image of mode L or RGB."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > PIXEL_LIMIT:
            got = f"{image.width}x{image.height}"
            refuse(name, f"have at most {PIXEL_LIMIT} pixels", got)
        if image.mode.startswith(("I", "F")):
            refuse(name, "have eight bits a channel", f"mode {image.mode}")
        image.load()
    except UnidentifiedImageError:
        refuse(name, f"be an image ({', '.join(FORMATS)})", "another file")
    except Image.DecompressionBombError:
        refuse(name, f"have at most {PIXEL_LIMIT} pixels", "far more")
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, IndexError):
        refuse(name, "be a whole image", "damaged data")
    if image.mode in GREY:
        image = image.convert("L")
    else:
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
    if size is None:
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
