"""A paper as one object that can be run."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .environment import choose_device, describe, require_extra
from .folder import Folder, read_header
from .log import Log
from .progress import Progress, make_progress
from .randomness import private_randomness
from .records import SCHEMA, RunError
from .run import Run
from .training import remove_checkpoints
from .trial import Trial


@dataclasses.dataclass(frozen=True)
class Paper:
    """A reproduced paper.

    Attributes:
        key: First author, year, word; also the folder's name under ``dlaccel/papers``.
        arxiv: arXiv number.
        title: Title.
        authors: Authors, as one text or one by one.
        year: Year.
        experiment: The module with ``Config``, ``PROFILES``, ``SEEDS``, ``CLAIMS``, ``FIGURES``,
            ``TABLES`` and ``run(trial)``.
    """

    key: str
    arxiv: str
    title: str
    authors: str | tuple[str, ...]
    year: int
    experiment: Any

    @property
    def by(self) -> str:
        """The authors as one text."""
        return self.authors if isinstance(self.authors, str) else ", ".join(self.authors)

    def folder(self, profile: str) -> Path:
        """Where a run goes unless told otherwise: ``runs/<key>/<profile>``."""
        return Path("runs") / self.key / profile

    def config(self, profile: str, **changes: Any) -> Any:
        """The profile's ``Config`` with some fields changed.

        Raises:
            ValueError: for an unknown profile or field, or a value that ``Config`` refuses.
        """
        profiles = self.experiment.PROFILES
        _check_known("profile", profile, profiles)
        base = profiles[profile]
        fields = [field.name for field in dataclasses.fields(base)]
        for name in changes:
            _check_known("Config field", name, fields)
        return dataclasses.replace(base, **changes)

    def run(
        self,
        profile: str = "smoke",
        *,
        seeds: int | None = None,
        device: str = "auto",
        out: str | os.PathLike[str] | None = None,
        progress: bool = True,
        **changes: Any,
    ) -> Run:
        """Runs the paper's experiments, or goes on with a run that was broken off.

        Args:
            profile: ``smoke``, ``medium`` or ``paper``.
            seeds: How many; None takes the profile's number. A run is never made smaller.
            device: ``auto``, ``cpu`` or ``cuda``.
            out: The run's folder; None is ``runs/<key>/<profile>`` in the working directory.
            progress: Whether to show progress on standard error.
            **changes: Fields of the profile's ``Config`` to change.

        Raises:
            ValueError: for an unknown profile, device or field, or a value out of range.
            RunError: when the folder cannot be written, is in use or holds another run, or the
                disk is full.
        """
        config = self.config(profile, **changes)
        return self.run_config(
            profile, config, seeds=seeds, device=device, out=out, progress=progress
        )

    def run_config(
        self,
        profile: str,
        config: Any,
        *,
        seeds: int | None,
        device: str,
        out: str | os.PathLike[str] | None,
        progress: bool = True,
    ) -> Run:
        """As ``run``, from a whole ``Config``."""
        count = self.experiment.SEEDS[profile] if seeds is None else seeds
        if count < 1:
            raise ValueError(f"seeds must be at least 1, got {count}.")
        require_extra()
        place = choose_device(device)
        header = {
            "schema": SCHEMA,
            "key": self.key,
            "profile": profile,
            "config": dataclasses.asdict(config),
            "seeds": count,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **describe(place),
        }
        path = self.folder(profile) if out is None else Path(out)
        with Folder(path) as folder, contextlib.closing(make_progress(progress)) as display:
            header = folder.claim(header)
            logs = [Log.of(path, seed) for seed in range(header["seeds"])]
            for seed, log in enumerate(logs):
                if not log.complete:
                    self._run_seed(config, seed, place, logs, display)
                remove_checkpoints(path, seed)
            run = Run(self, path)
            run.publish()
        return run

    def _run_seed(
        self, config: Any, seed: int, device: Any, logs: list[Log], display: Progress
    ) -> None:
        title = f"seed {seed + 1} of {len(logs)}"
        with (
            logs[seed] as log,
            private_randomness(device, "trial", seed),
            display.section(title, None),
        ):
            trial = Trial(config, seed, device, log, first=logs[0], progress=display)
            self.experiment.run(trial)
            log.finish()

    def load(self, folder: str | os.PathLike[str] | None = None) -> Run:
        """Reads a run, finished or not; None takes the latest of ``runs/<key>/*``.

        Raises:
            RunError: when there is no run of this paper, or it is broken or of a later schema.
        """
        path = self._latest() if folder is None else Path(folder)
        key = read_header(path)["key"]
        if key != self.key:
            raise RunError(f"{path} holds a run of {key}, not of {self.key}.")
        return Run(self, path)

    def _latest(self) -> Path:
        home = self.folder("smoke").parent
        headers = sorted(home.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
        if not headers:
            raise RunError(f"There is no run of {self.key} in {home}.")
        return headers[-1].parent


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}."
        raise ValueError(f"no {kind} {name!r}; {hint}")
