"""The reproduced papers: a folder each, found by key or arXiv number, imported on demand."""

from __future__ import annotations

import ast
import difflib
import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from dlaccel.experiment import Paper


@dataclass(frozen=True)
class Entry:
    """What a paper's ``__init__.py`` says about it, read without importing it."""

    key: str
    arxiv: str
    title: str
    year: int


def entries() -> list[Entry]:
    """All papers, oldest first."""
    sources = (path for folder in __path__ for path in Path(folder).glob("*/__init__.py"))
    found = [entry for source in sources if (entry := _read(source))]
    return sorted(found, key=lambda entry: (entry.year, entry.arxiv))


def find(name: str) -> Paper:
    """The paper with this key or arXiv number (with or without ``arXiv:`` and version).

    Raises:
        ValueError: when there is none.
    """
    number = name.lower().removeprefix("arxiv:").partition("v")[0]
    known = entries()
    for entry in known:
        if name == entry.key or number == entry.arxiv:
            paper: Paper = importlib.import_module(f"{__name__}.{entry.key}").PAPER
            return paper
    words = [word for entry in known for word in (entry.key, entry.arxiv)]
    close = difflib.get_close_matches(name, words, n=1)
    hint = f"did you mean {close[0]}?" if close else "dlaccel list shows them all."
    raise ValueError(f"no paper {name!r}; {hint}")


def _read(source: Path) -> Entry | None:
    """The literal arguments of the call ``Paper(...)`` in a paper's ``__init__.py``."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Paper"
        ):
            given = {
                word.arg: cast(Any, word.value.value)
                for word in node.keywords
                if word.arg and isinstance(word.value, ast.Constant)
            }
            return Entry(**{field.name: given[field.name] for field in fields(Entry)})
    return None
