"""The 1797 handwritten digits of 8x8 pixels (UCI, Alpaydin and Kaynak) that scikit-learn has."""

from __future__ import annotations

import numpy as np
import torch

from ..images import Unread
from ..outside import need, refuse

TRAIN = 1280
LEVELS = 16


def digits(split: str = "train") -> Unread:
    """A fixed random split: 1280 images to train on, 517 to test.

    The 17 levels become round(255/16 level), so that 0..255 is filled as by any other set.

    Raises:
        DataError: for another split.
        ModuleNotFoundError: without scikit-learn.
    """
    need("sklearn", "scikit-learn")
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    rows = {"train": order[:TRAIN], "test": order[TRAIN:]}.get(split)
    if rows is None:
        refuse("digits", "be asked for split 'train' or 'test'", repr(split))
    levels = torch.from_numpy(found.images[rows])
    return Unread(
        labels=torch.from_numpy(found.target[rows].astype(np.int64)),
        class_names=tuple("0123456789"),
        pixels=lambda: (levels * (255 / LEVELS)).round().to(torch.uint8).unsqueeze(1),
        source="scikit-learn's load_digits",
    )
