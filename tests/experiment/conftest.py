from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

import dlaccel.papers
from dlaccel.experiment import Trial
from dlaccel.experiment.log import Log

TOY = Path(__file__).parent / "papers"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The invented paper, installed beside the real ones; runs go to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dlaccel.papers, "__path__", [*dlaccel.papers.__path__, str(TOY)])
    from dlaccel.papers import doe2024toy

    return doe2024toy


@pytest.fixture
def log(tmp_path: Path):
    with Log.of(tmp_path, 0) as log:
        yield log


@pytest.fixture
def trial(log: Log) -> Trial:
    return Trial(None, 0, torch.device("cpu"), log)
