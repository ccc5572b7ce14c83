"""Numbers of others, by layer, to lay over ours; no run is judged by them.

``FIGURE``: nearest-centre accuracy on the training samples of CONV-L-400 on CIFAR-10 after 500
epochs, read from the published figure, give or take .01. Layers above the last number of a row
were read as a range, .995 to .999, and are left out.

``PROTOTYPE``: the same of MLP-L-64 on digits, 1500 steps of 64 samples, means of two seeds of an
independent prototype in NumPy.
"""

from __future__ import annotations

FIGURE: dict[int, tuple[float, ...]] = {
    3: (0.36, 0.41, 0.84),
    5: (0.36, 0.46, 0.57, 0.70, 0.998),
    8: (0.36, 0.45, 0.56, 0.71, 0.93, 0.975, 0.96, 0.998),
    12: (0.36, 0.46, 0.58, 0.76, 0.93, 0.978, 0.99),
    16: (0.36, 0.45, 0.57, 0.75, 0.92, 0.976, 0.993),
    20: (0.36, 0.45, 0.57, 0.77, 0.92, 0.975, 0.992),
}

PROTOTYPE: dict[int, tuple[float, ...]] = {
    2: (0.9345, 1.0),
    3: (0.9355, 0.995, 1.0),
    5: (0.94, 0.986, 0.999, 1.0),
    8: (0.938, 0.988, 0.995, 1.0),
    12: (0.926, 0.9875, 0.997, 0.999),
}

SOURCES: dict[tuple[str, str], tuple[str, dict[int, tuple[float, ...]]]] = {
    ("CONV", "cifar10"): ("published, CONV-L-400", FIGURE),
    ("CONV", "cifar10_jpeg"): ("published, CONV-L-400", FIGURE),
    ("MLP", "digits"): ("prototype, MLP-L-64", PROTOTYPE),
}
"""By kind of network and data: whose numbers, and the numbers by depth L."""


def reference(network: str, data: str) -> tuple[str, dict[int, tuple[float, ...]]]:
    """Whose numbers stand beside those of a network such as ``CONV-50``, and the numbers."""
    return SOURCES.get((network.partition("-")[0], data), ("", {}))
