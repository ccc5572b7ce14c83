"""Generated pages are what their generator gives now."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for path, page in tables.PAGES.items():
        assert path.read_text() == page(), f"{path}: run python docs/tables.py"


def test_readme_names_only_what_exists() -> None:
    from dlaccel import nn, ops

    text = (ROOT / "README.md").read_text()
    for name in ("glu", "glu_packed"):
        assert f"ops.{name}" in text
        assert hasattr(ops, name)
    for name in ("GatedMLP", "Multiplicative", "ProductPooling"):
        assert f"nn.{name}" in text
        assert hasattr(nn, name)
