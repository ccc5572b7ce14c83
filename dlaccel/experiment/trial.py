"""One seed of one run: what a paper's ``run`` sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .log import Log
from .progress import Progress
from .randomness import private_randomness, seed_of
from .records import Row, Value, identity, plain
from .training import Checkpoint, Stateful, checkpoint_path, training

Numbers = Mapping[str, Any]


class Trial:
    """One seed of one run.

    Whatever was measured stands on disk at once; a trial that was killed and is run again skips
    what stands and draws the same random numbers, so that its rows are the same to the last bit.

    Attributes:
        config: The paper's ``Config``.
        seed: 0, 1, 2, ...
        device: Where the paper is to put its tensors.
    """

    def __init__(
        self,
        config: Any,
        seed: int,
        device: torch.device,
        log: Log,
        *,
        first: Log | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self._log = log
        self._first = first
        self._display = progress or Progress()
        self._asked: set[str] = set()

    def generator(self, *key: object) -> torch.Generator:
        """A fresh CPU generator, seeded by a hash of the trial's seed and ``key``."""
        return torch.Generator().manual_seed(seed_of(self.seed, *key))

    def measure(
        self, name: str, compute: Callable[[], Numbers], *, once: bool = False, **where: Value
    ) -> Row:
        """One measurement: computed once, then written as one line and found there ever after.

        ``compute`` runs with torch's global generators seeded by (seed, name, where), so that
        whether it runs or is skipped changes nothing for what follows.

        Args:
            name: What is measured.
            compute: Returns the numbers by name; a number named ``seconds`` replaces the wall time.
            once: No seed can change it: seed 0 measures, the other seeds are given its row.
            where: The grid point, by column.

        Raises:
            ValueError: when a name is measured twice at one grid point, or a column is given twice.
            TypeError: when a value is neither a number nor a string.
        """
        point = self._point(name, where)
        row = self._standing(name, point, once=once)
        if row is None:
            start = time.perf_counter()
            with private_randomness(self.device, self.seed, name, point):
                numbers = compute()
            row = self._record(name, point, numbers, time.perf_counter() - start, once=once)
        self._display.advance()
        return row

    def train(
        self,
        name: str,
        state: Mapping[str, Stateful | torch.Generator],
        steps: int,
        step: Callable[[int], Numbers | None],
        *,
        every: int,
        observe: Callable[[], Numbers] | None = None,
        **where: Value,
    ) -> list[Row]:
        """Runs ``step(i)`` for i in range(steps), recording and saving its state as it goes.

        After every ``every`` steps and after the last, what ``step`` returned and what ``observe``
        returns is recorded as a measurement with the column ``step`` (steps done so far);
        ``seconds`` is the time spent in ``step`` until then, over all resumes. On return ``state``
        is that of the last step, also when nothing was left to do.

        Args:
            name: What is trained.
            state: All that a step changes, by name: modules, optimisers, schedulers, generators.
            steps: How many steps.
            step: One step; its numbers may be one-element tensors, read only when recorded.
            every: Steps between two records.
            observe: Numbers to add at each record, outside the time and with its own randomness.
            where: The grid point, by column.

        Raises:
            ValueError: when ``steps`` is negative, ``every`` is not positive, or a name is trained
                twice at one grid point.
            RunError: when a checkpoint does not fit ``state``.
        """
        if steps < 0 or every < 1:
            raise ValueError(
                f"trial.train: steps must be >= 0 and every >= 1, got steps={steps}, every={every}."
            )
        point = self._point(name, where)
        label = ", ".join([name, *(f"{column} {value}" for column, value in point.items())])
        path = checkpoint_path(self._log.path.parent, self.seed, name, identity(name, point))
        checkpoint = Checkpoint(path, state, self.device, self._log.sync)
        with (
            self._display.section(label, steps) as display,
            private_randomness(self.device, self.seed, name, point),
        ):
            for done, numbers, clock in training(checkpoint, steps, step, every, self.device):
                display.reach(done)
                at = point | {"step": done}
                row = self._standing(name, at, once=False)
                if row is not None:
                    clock.seconds = row.seconds
                    continue
                observed: Numbers = {}
                if observe is not None:
                    with private_randomness(self.device, self.seed, name, at):
                        observed = observe()
                if numbers or observed:
                    numbers = {**(numbers or {}), **observed}
                    self._record(name, at, numbers, clock.seconds, once=False)
        self._display.advance()
        recorded = sorted({*range(every, steps + 1, every), steps})
        rows = (self._log.find(name, point | {"step": done}) for done in recorded)
        return [row for row in rows if row is not None]

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[None]:
        """Shows a bar that each ``measure`` and each ``train`` inside advances by one."""
        with self._display.section(description, total):
            yield

    def _point(self, name: str, where: Mapping[str, Value]) -> dict[str, Value]:
        point = {column: plain(value, f"{name}: {column}") for column, value in where.items()}
        key = identity(name, point)
        if key in self._asked:
            at = ", ".join(f"{column}={value}" for column, value in point.items()) or "no columns"
            raise ValueError(
                f"trial: {name!r} with {at} was asked for twice; "
                "add a column that tells the two apart."
            )
        self._asked.add(key)
        return point

    def _standing(self, name: str, point: dict[str, Value], *, once: bool) -> Row | None:
        if not once or self.seed == 0 or self._first is None:
            return self._log.find(name, point)
        row = self._first.find(name, point)
        if row is None:
            raise ValueError(
                f"trial: seed 0 did not measure {name!r} at {point}, though it is marked once."
            )
        return row

    def _record(
        self, name: str, point: dict[str, Value], numbers: Numbers, seconds: float, *, once: bool
    ) -> Row:
        values = {column: plain(value, f"{name}: {column}") for column, value in numbers.items()}
        own = values.pop("seconds", None)
        if isinstance(own, int | float):
            seconds = float(own)
        return self._log.append(Row(self.seed, name, point, values, round(seconds, 6), once))
