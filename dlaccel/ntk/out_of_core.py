"""Kernels larger than memory, in a file."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import _check
from ._evaluation import (
    Evaluation,
    Span,
    evaluation,
    mirrored,
    pairs,
    shape_of,
    spans,
    sweep_tiles,
)
from ._forms import Outputs
from ._network import Network, constant, networks
from ._tile_file import Run, TileFile, opened, prepare, unfinished
from .empirical import checked_inputs, checked_outputs

MEMORY = 1 << 29
HASHED = 1 << 22  # numbers copied at once to be hashed


def write(
    path: str | os.PathLike[str],
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    outputs: Outputs = "full",
    normalize: bool = False,
    precision: torch.dtype | str | None = None,
    parameters: str | Sequence[str] | None = None,
    memory: int = MEMORY,
    tile: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> None:
    """Writes a tangent kernel to a ``.npy`` file, tile by tile.

    A call that was killed is resumed by the same call: a sidecar ``<path>.tiles`` tells which tiles
    are on the disk. Where ``torch.distributed`` is initialised all ranks of the group call it, with
    the same arguments and one file system, and share the tiles. Memory is that of two tiles' rows
    and of one tile; nothing is mapped.

    Args:
        path: Of the file; it is not there yet, or is this kernel's.
        model: As for :func:`empirical`.
        x1: Inputs (N, ...).
        x2: Inputs (M, ...); None: those of ``x1``, and each tile is mirrored.
        outputs: As for :func:`empirical`, and the shape of the array.
        normalize: As for :func:`empirical`.
        precision: As for :func:`empirical`; the dtype of the file.
        parameters: As for :func:`empirical`.
        memory: Bytes that about bound what a tile needs beside the inputs.
        tile: Rows and columns of a tile; None: from ``memory``.
        group: The ranks; None: all.

    Raises:
        TypeError: As :func:`empirical`.
        ValueError: As :func:`empirical`; on every rank, if the file belongs to another run or a
            rank differs in what it asks for.
    """
    op, file = "ntk.write", Path(path)
    other = checked_inputs(op, x1, x2)
    checked_outputs(op, outputs, normalize)
    if tile is not None and tile < 1:
        _check.refuse(op, "tile", "be at least 1", tile, ValueError)
    (network,) = networks(op, model, x1, parameters, precision)
    with constant():
        found = evaluation(network, x1, max(len(x1), len(other)), outputs)
    each = tile or _tile(found, memory)
    rows, columns = spans(len(x1), each), spans(len(other), each)
    tiles = list(pairs(rows, columns, x2 is None))
    shape = shape_of(outputs, len(x1), len(other), found.count)
    dtype = np.dtype(str(network.dtype).removeprefix("torch."))
    description = _description(network, x1, x2, shape, outputs, normalize, each)
    run = Run(op, file, description, shape, outputs, len(tiles), dtype)
    rank, ranks = _place(group)
    _together(group, lambda: prepare(run) if rank == 0 else None)
    opening: list[TileFile] = []
    _together(group, lambda: opening.append(opened(run)))
    try:
        todo = opening[0].pending()
        _together(group, lambda: None)  # no rank marks a tile before all have read what is to do
        mine = todo[len(todo) * rank // ranks : len(todo) * (rank + 1) // ranks]
        _together(group, lambda: _fill(opening[0], found, x1, x2, tiles, mine, normalize))
    finally:
        opening[0].close()


def open(path: str | os.PathLike[str]) -> Tensor:
    """The kernel that :func:`write` left, mapped: pages are read when they are used.

    Changes to the tensor stay in memory. ``.numpy()`` is the same map as an array.

    Raises:
        ValueError: Tiles are missing, or the file is no kernel.
    """
    file = Path(path)
    state = unfinished(file)
    if state is not None and state[0]:
        rule = "name a finished kernel (the same call of ntk.write goes on)"
        got = f"one without {state[0]} of its {state[1]} tiles"
        _check.refuse("ntk.open", "path", rule, got, ValueError)
    array = np.load(file, mmap_mode="c", allow_pickle=False)
    if not isinstance(array, np.memmap) or array.dtype not in (np.float32, np.float64):
        got = f"{type(array).__name__} of {getattr(array, 'dtype', 'no dtype')}"
        _check.refuse("ntk.open", "path", "hold an array of float32 or float64", got, ValueError)
    return torch.from_numpy(array)


def _tile(found: Evaluation, memory: int) -> int:
    """Rows so that the factors of two tiles take half of the memory and the tile an eighth.

    The kernel of a tile is held about three times while it is computed, cut and mirrored.
    """
    entries = math.prod(shape_of(found.outputs, 1, 1, found.count))
    square = memory // (8 * entries * found.network.dtype.itemsize)
    return max(1, min(memory // (4 * found.row), math.isqrt(square)))


def _fill(
    file: TileFile,
    found: Evaluation,
    x1: Tensor,
    x2: Tensor | None,
    tiles: Sequence[tuple[Span, Span]],
    mine: Sequence[int],
    normalize: bool,
) -> None:
    symmetric = x2 is None
    wanted = (tiles[place] for place in mine)
    with constant():
        made = sweep_tiles(found, x1, x2, wanted)
        for place, (rows, columns, values) in zip(mine, made, strict=True):
            values = values / found.count if normalize else values
            file.write(rows, columns, values)
            if symmetric and rows != columns:
                file.write(columns, rows, mirrored(values, found.outputs))
            file.finish(place)


def _description(
    network: Network,
    x1: Tensor,
    x2: Tensor | None,
    shape: tuple[int, ...],
    outputs: Outputs,
    normalize: bool,
    tile: int,
) -> dict[str, object]:
    """What makes two runs the same."""
    state = {**network.leaves, **network.fixed}
    return {
        "format": 1,
        "shape": list(shape),
        "dtype": str(network.dtype),
        "outputs": outputs,
        "normalize": normalize,
        "tile": tile,
        "symmetric": x2 is None,
        "parameters": sorted(network.leaves),
        "model": _digest([state[name] for name in sorted(state)], repr(network.module)),
        "inputs": _digest([x1] if x2 is None else [x1, x2]),
    }


def _digest(tensors: Iterable[Tensor], words: str = "") -> str:
    found = hashlib.sha256(words.encode())
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        flat = tensor.detach().reshape(-1)
        for start in range(0, len(flat), HASHED):
            part = flat[start : start + HASHED].cpu().contiguous()
            found.update(part.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _place(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """Rank and number of ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def _together(group: dist.ProcessGroup | None, work: Callable[[], None]) -> None:
    """Does a part of the work on every rank and waits; where one fails, all raise.

    Raises:
        ValueError: The failure of another rank.
    """
    if _place(group)[1] == 1:
        work()
        return
    failure: Exception | None = None
    try:
        work()
    except Exception as error:
        failure = error
    failures: list[str | None] = [None] * _place(group)[1]
    dist.all_gather_object(failures, None if failure is None else str(failure), group)
    if failure is not None:
        raise failure
    for place, sentence in enumerate(failures):
        if sentence is not None:
            raise ValueError(f"{sentence} (on rank {place})")
