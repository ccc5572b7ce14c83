"""From a paper's figure functions to PNG files of a size that a repository can keep."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BYTES = 300_000
RESOLUTIONS = (160, 120, 90, 60, 40)

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def draw(function: Callable[[Records], Figure], records: Records) -> Figure:
    """Calls a paper's figure function in the common style, without touching the caller's."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return function(records)


def render(figure: Figure) -> bytes:
    """PNG of at most ``MAX_BYTES``: the finest of a few resolutions that fits.

    Raises:
        ValueError: when even the coarsest is larger.
    """
    for resolution in RESOLUTIONS:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=resolution)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    raise ValueError(
        f"a figure must fit in {MAX_BYTES} bytes, got {buffer.tell()} at {resolution} dpi."
    )


def close(figure: Figure) -> None:
    """Lets pyplot forget a figure, where pyplot made it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)
