"""Training that can be killed between any two instructions and goes on to the same bits."""

from __future__ import annotations

import io
import pickle
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from .folder import write_atomic, writing
from .randomness import seed_of
from .records import RunError

# A checkpoint costs milliseconds; a kill loses at most about this much work.
CHECKPOINT_SECONDS = 1.0


class Stateful(Protocol):
    """A module, an optimiser or a scheduler."""

    def state_dict(self) -> Any:
        """What changes as training goes on."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Puts it back."""


@dataclass
class Clock:
    """Seconds spent in steps so far, over all resumes."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of one training lies on disk.

    Attributes:
        path: The file.
        state: All that a step changes, by name.
        device: The device whose global generator belongs to the state too.
        sync: Called before the file is replaced: no checkpoint may outlive the rows before it.
    """

    path: Path
    state: Mapping[str, Stateful | torch.Generator]
    device: torch.device
    sync: Callable[[], None]

    def save(self, done: int, seconds: float) -> None:
        """Replaces the file by the state after ``done`` steps.

        Raises:
            RunError: when the disk is full.
        """
        content = {
            "done": done,
            "seconds": seconds,
            "random": torch.get_rng_state(),
            "state": {name: _state_of(part) for name, part in self.state.items()},
        }
        if self.device.type == "cuda":
            content["random_cuda"] = torch.cuda.get_rng_state(self.device)
        self.sync()
        write_atomic(self.path, _pack(content))

    def check(self) -> None:
        """Checks that the state can be read back, before hours are spent on it.

        Raises:
            TypeError: when it holds more than tensors, numbers, strings and collections of them.
        """
        for name, part in self.state.items():
            try:
                torch.load(io.BytesIO(_pack(_state_of(part))), weights_only=True)
            except pickle.UnpicklingError as error:
                raise TypeError(
                    f"trial.train: state {name!r} must be made of tensors, numbers, strings, "
                    "lists and dicts alone."
                ) from error

    def load(self) -> tuple[int, float]:
        """Puts the saved state back, where there is one; returns the steps done and their seconds.

        Raises:
            RunError: when the file is broken or was written for another state.
        """
        if not self.path.exists():
            return 0, 0.0
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["state"].keys() != self.state.keys():
                raise KeyError(", ".join(content["state"]))
            for name, part in self.state.items():
                _restore(part, content["state"][name])
            torch.set_rng_state(content["random"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(content["random_cuda"], self.device)
            return int(content["done"]), float(content["seconds"])
        except (
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise RunError(
                f"{self.path} is broken or belongs to another state; "
                "remove it and this training starts again."
            ) from error


def training(
    checkpoint: Checkpoint,
    steps: int,
    step: Callable[[int], Mapping[str, Any] | None],
    every: int,
    device: torch.device,
) -> Iterator[tuple[int, Mapping[str, Any] | None, Clock]]:
    """Yields (steps done, the last step's numbers, the clock) at each record, then saves.

    The consumer writes its row before the checkpoint is saved: killed between the two, the steps
    since the last checkpoint run again, to the row that already stands.
    """
    done, seconds = checkpoint.load()
    if done == 0:
        checkpoint.check()
    clock = Clock(seconds)
    saved = time.monotonic()
    while done < steps:
        start = time.perf_counter()
        recorded = False
        while not recorded:
            numbers = step(done)
            done += 1
            recorded = done % every == 0 or done == steps
            if time.perf_counter() - start >= CHECKPOINT_SECONDS:
                break
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        clock.seconds += time.perf_counter() - start
        if recorded:
            yield done, numbers, clock
        if done == steps or time.monotonic() - saved >= CHECKPOINT_SECONDS:
            checkpoint.save(done, clock.seconds)
            saved = time.monotonic()


def checkpoint_path(folder: Path, seed: int, name: str, key: str) -> Path:
    """Where the checkpoint of one training lies; ``key`` tells it from others of its name."""
    words = re.sub(r"\W+", "-", name)
    return folder / "checkpoints" / f"seed{seed}-{words}-{seed_of(key):016x}.pt"


def remove_checkpoints(folder: Path, seed: int) -> None:
    """Removes the checkpoints of a seed that is over, and their folder once it is empty."""
    checkpoints = folder / "checkpoints"
    with writing(folder):
        for path in checkpoints.glob(f"seed{seed}-*.pt"):
            path.unlink()
        if checkpoints.exists() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()


def _pack(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _state_of(part: Stateful | torch.Generator) -> Any:
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: Stateful | torch.Generator, state: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)
