"""``dlaccel measure collapse``: options in, a table, a record and a figure out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..collapse.network import measure as measure_layers
from ..data import Images, load, standardise
from ..experiment.command import REFUSED, refuse
from ..experiment.environment import choose_device, require_extra
from ..experiment.progress import Progress, make_progress
from ..experiment.records import RunError
from .model import first_line, load_weights, make_model
from .result import FIGURE, RECORD, Result

USAGE = """\
usage: dlaccel measure collapse --model PACKAGE:FUNCTION --weights FILE --data DIR|NAME [options]

Class statistics of every layer of a network: collapse, nearest class centre, effective depth.
dlaccel measure collapse --help shows the options."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and where the numbers go."""

    model: str
    """PACKAGE:FUNCTION that makes the network; packages of the working directory are found too."""
    arguments: str = "{}"
    """Its keyword arguments in JSON, such as '{"depth": 5, "width": 400}'."""
    weights: Path | None = None
    """State dict written by torch.save; without one the network is measured as it was made."""
    data: str
    """Name of a set, or path of a file or folder of images, as for dlaccel.data.load."""
    layers: tuple[str, ...] = ()
    """Modules to measure, by name or pattern; by default what the network names, or its leaves."""
    num_classes: int | None = None
    """Number of classes; by default as many as the network has outputs."""
    test: bool = True
    """Whether the centres are tried on the test images too."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from pixels in 0..1: one number, or one for each channel."""
    std: tuple[float, ...] = (1.0,)
    """What pixels are divided by then."""
    pad: int = 0
    """Black pixels put around each image."""
    batch_size: int = 256
    """Images in a batch."""
    epsilon: tuple[float, ...] = (0.05, 0.01)
    """Training errors of the nearest centre at which the effective depth is told."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA where there is one."""
    out: Path = Path("runs/measure")
    """Folder of the record and the figure."""


def measure(words: Sequence[str]) -> int:
    """Runs the words after ``dlaccel measure``; returns the exit status."""
    match words:
        case ["-h" | "--help", *_]:
            print(USAGE)
            return 0
        case ["collapse", *rest]:
            try:
                require_extra()
                _collapse(_options(rest), shlex.join(["dlaccel", "measure", *words]))
                return 0
            except RunError as error:
                return refuse(error)
            except (ValueError, TypeError) as error:
                if not str(error).startswith("dlaccel."):
                    raise  # a fault, not a refusal
                print(error, file=sys.stderr)
                return REFUSED
    return refuse(RunError("measure needs what to measure first: collapse."))


def _options(words: Sequence[str]) -> Options:
    import tyro

    options = tyro.cli(
        Options,
        prog="dlaccel measure collapse",
        description="Class statistics of every layer of a network.",
        args=list(words),
    )
    for name, least in (("batch_size", 1), ("pad", 0), ("epsilon", 0)):
        given = getattr(options, name)
        low = min(given, default=least) if isinstance(given, tuple) else given
        if not low >= least:
            raise RunError(f"{name} must be at least {least}, got {low}.")
    return options


def _collapse(options: Options, command: str) -> None:
    device = choose_device(options.device)
    model = make_model(options.model, options.arguments)
    if options.weights is not None:
        load_weights(model, options.weights)
    model.to(device).eval()
    train = _Loader(load(options.data, "train"), options)
    test = _Loader(load(options.data, "test"), options) if options.test else None
    _try(model, train, device)
    progress = make_progress(True)
    try:
        with progress.section("batches", 2 * len(train) + (len(test) if test else 0)):
            train.progress = progress
            if test:
                test.progress = progress
            layers = measure_layers(
                model,
                train,
                layers=options.layers or None,
                test=test,
                num_classes=options.num_classes,
                device=device,
            )
    finally:
        progress.close()
    result = Result.of(model, layers, options.epsilon, test or train, device)
    result.write(options, command, device, train.images, test.images if test else None)
    print(f"{result.text()}\nrecord: {options.out / RECORD}\nfigure: {options.out / FIGURE}")


class _Loader:
    """Batches of images, standardised as they are asked for; it can be swept again."""

    def __init__(self, images: Images, options: Options) -> None:
        self.images = images
        self.progress = Progress()
        self._options = options

    def __len__(self) -> int:
        return -(-len(self.images) // self._options.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.images), self._options.batch_size):
            yield self.batch(slice(start, start + self._options.batch_size))
            self.progress.advance()

    def batch(self, rows: slice) -> tuple[Tensor, Tensor]:
        """These images and their labels."""
        pixels = nn.functional.pad(self.images.images[rows], [self._options.pad] * 4)
        x = standardise(pixels, self._options.mean, self._options.std)
        return x, self.images.labels[rows]


@torch.no_grad()
def _try(model: nn.Module, loader: _Loader, device: torch.device) -> None:
    """One image through the model: a misfit is told before the sweeps."""
    x = loader.batch(slice(1))[0].to(device)
    try:
        model(x)
    except Exception as error:
        rule = f"the model cannot take images of shape {tuple(x.shape[1:])}"
        raise RunError(f"{rule}: {first_line(error)}") from error
