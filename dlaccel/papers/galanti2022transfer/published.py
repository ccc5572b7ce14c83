"""Table 1 as it is remembered: numbers to look at beside ours, never to assert.

None of the paper's own rows could be verified. ``status`` says where a number comes from and, for
what is recalled from memory, how sure that memory is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Five-way accuracy of one method on one data set, in percent.

    Attributes:
        method: Row of the table.
        data: Data set.
        shots: n.
        accuracy: Percent.
        interval: Half of the 95 % interval, where it is given.
        status: ``seen``, or ``recalled, unverified`` with a confidence.
    """

    method: str
    data: str
    shots: int
    accuracy: float
    interval: float | None
    status: str


_MINI, _CIFAR, _FC = "mini-ImageNet", "CIFAR-FS", "FC-100"

# Method, data set, (1 shot, 5 shots), (their intervals), status.
_Two = tuple[float | None, float | None]
_ROWS: tuple[tuple[str, str, tuple[float, float], _Two, str], ...] = (
    ("WRN-28-4, simple", _MINI, (58.1, 72.0), (1.2, 1.0), "recalled, unverified (40 %)"),
    ("WRN-28-4, simple", _CIFAR, (68.8, 81.5), (1.2, 1.0), "recalled, unverified (40 %)"),
    ("WRN-28-4, simple", _FC, (45.0, 57.2), (1.1, 1.1), "recalled, unverified (40 %)"),
    ("WRN-28-4, rate schedule", _MINI, (60.4, 72.4), (1.3, 1.0), "recalled, unverified (35 %)"),
    ("WRN-28-4, rate schedule", _CIFAR, (70.0, 81.4), (1.3, 1.0), "recalled, unverified (35 %)"),
    ("RFS-simple, ResNet-12", _MINI, (62.02, 79.64), (0.63, 0.44), "seen"),
    ("RFS-simple, ResNet-12", _CIFAR, (71.5, 86.0), (0.8, 0.5), "recalled, unverified (90 %)"),
    ("RFS-simple, ResNet-12", _FC, (42.6, 59.1), (0.7, 0.6), "recalled, unverified (90 %)"),
    ("RFS-distill", _MINI, (64.82, 82.14), (None, None), "recalled, unverified (90 %)"),
    ("RFS-distill", _CIFAR, (73.9, 86.9), (None, None), "recalled, unverified (90 %)"),
    ("RFS-distill", _FC, (44.6, 60.9), (None, None), "recalled, unverified (90 %)"),
    ("MetaOptNet", _MINI, (62.64, 78.63), (None, None), "recalled, unverified (90 %)"),
    ("MetaOptNet", _CIFAR, (72.6, 84.3), (None, None), "recalled, unverified (90 %)"),
    ("MetaOptNet", _FC, (41.1, 55.5), (None, None), "recalled, unverified (90 %)"),
    ("ProtoNet, four blocks", _MINI, (49.42, 68.20), (None, None), "recalled, unverified (90 %)"),
    ("ProtoNet, four blocks", _CIFAR, (55.5, 72.0), (None, None), "seen"),
    ("ProtoNet, four blocks", _FC, (35.3, 48.6), (None, None), "recalled, unverified (90 %)"),
    ("MAML, four blocks", _MINI, (48.70, 63.11), (None, None), "recalled, unverified (95 %)"),
    ("MAML, four blocks", _CIFAR, (58.9, 71.5), (None, None), "seen"),
    ("R2D2", _MINI, (51.2, 68.8), (None, None), "recalled, unverified (90 %)"),
    ("R2D2", _CIFAR, (65.3, 79.4), (None, None), "recalled, unverified (90 %)"),
)

PUBLISHED = tuple(
    Published(method, data, shots, accuracy, interval, status)
    for method, data, accuracies, intervals, status in _ROWS
    for shots, accuracy, interval in zip((1, 5), accuracies, intervals, strict=True)
)
"""The rows whose values are remembered; those "with model selection" are not, to a point."""
