"""Images: what fits together, and the choice of rows and classes."""

from __future__ import annotations

import pytest
import torch
from image_files import refusal

from dlaccel.data import Images

PIXELS = torch.arange(6 * 4, dtype=torch.uint8).view(6, 1, 2, 2)
LABELS = torch.tensor([2, 0, 1, 2, 2, 1])
SOME = Images(PIXELS, LABELS, ("a", "b", "c"), {"drawer": torch.arange(6)}, "file", "a note")


def test_rows() -> None:
    for rows in (torch.tensor([1, 4]), slice(1, 6, 3), torch.arange(6) % 3 == 1):
        part = SOME.subset(rows)
        assert torch.equal(part.images, PIXELS[[1, 4]])
        assert part.labels.tolist() == [0, 2]
        assert part.groups["drawer"].tolist() == [1, 4]
        assert (part.class_names, part.source, part.note) == (("a", "b", "c"), "file", "a note")


def test_classes_are_numbered_anew() -> None:
    part = SOME.of_classes([2, 0])
    assert part.labels.tolist() == [0, 1, 0, 0]
    assert part.class_names == ("c", "a")
    assert part.groups["drawer"].tolist() == [0, 1, 3, 4]
    assert torch.equal(SOME.of_classes(torch.tensor([2, 0])).labels, part.labels)


def test_some_of_each_class() -> None:
    classes = SOME.of_classes([1, 2])
    draws = {tuple(classes.per_class(2, seed).groups["drawer"].tolist()) for seed in range(60)}
    # class b has rows 2 and 5, class c two of 0, 3 and 4: three choices, in the order of the rows
    assert draws == {(0, 2, 3, 5), (0, 2, 4, 5), (2, 3, 4, 5)}
    assert classes.per_class(2, 7).counts().tolist() == [2, 2]
    assert torch.equal(classes.per_class(2, 7).images, classes.per_class(2, 7).images)
    assert refusal(lambda: SOME.per_class(2, 0)) == "file must have 2 images of class 'a', got 1."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": PIXELS.float()}, "file must hold uint8 images, got torch.float32."),
        (
            {"images": PIXELS[:, 0]},
            "file must hold images of shape (N, c, H, W) with c 1 or 3, got (6, 2, 2).",
        ),
        (
            {"images": PIXELS.expand(6, 2, 2, 2)},
            "file must hold images of shape (N, c, H, W) with c 1 or 3, got (6, 2, 2, 2).",
        ),
        ({"images": PIXELS[:5]}, "file must hold a label for each of 5 images, got 6."),
        ({"labels": LABELS.int()}, "labels of file must be int64 of shape (6,), got int32 of "),
        ({"class_names": ("a", "b")}, "labels of file must lie in [0, 2), got 2 at 0."),
        ({"labels": LABELS - 1}, "labels of file must lie in [0, 3), got -1 at 1."),
        (
            {"groups": {"drawer": torch.arange(5)}},
            "drawer of file must be int64 of shape (6,), got int64 of shape (5,).",
        ),
    ],
)
def test_parts_that_do_not_fit(change: dict[str, object], sentence: str) -> None:
    parts: dict[str, object] = {
        "images": PIXELS,
        "labels": LABELS,
        "class_names": ("a", "b", "c"),
        "source": "file",
    }
    assert refusal(lambda: Images(**parts | change)).startswith(sentence)  # type: ignore[arg-type]
