"""The example of the documentation's page runs, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/tangent-kernels.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, object] = {}
    exec(example, names)
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[0].split()[1]) < 1e-8
    assert printed[1] == "torch.Size([3, 10]) torch.Size([3, 10, 10])"
    assert printed[2] == "torch.Size([40, 1]) torch.Size([10, 1])"
    assert printed[3].startswith("converged in ")
    assert printed[3].endswith(" torch.Size([10, 1])")
