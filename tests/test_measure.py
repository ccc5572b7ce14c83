"""``dlaccel measure collapse`` as a person uses it: what it prints, writes and refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlaccel.cli import main
from dlaccel.collapse.network import measure
from dlaccel.data import load, standardise
from dlaccel.models import MLP

MLP_WORDS = ["--model", "dlaccel.models:MLP"]
SHAPE = '{"depth": 3, "width": 16, "in_features": 64}'
DIGITS = [*MLP_WORDS, "--arguments", SHAPE, "--data", "digits"]
COLLAPSE = ["measure", "collapse"]

PACKAGE = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def fails():
    raise RuntimeError("no such width\\nsecond line")

def number():
    return 3

table = {}
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    (tmp_path / "my_networks.py").write_text(PACKAGE)
    return tmp_path


@pytest.fixture
def trained(folder: Path) -> MLP:
    """A network that has learned the digits a little, and its file."""
    images = load("digits")
    x, y = standardise(images, 0.3, 0.4), images.labels
    model = MLP(3, 16, 64)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(60):
        rows = slice(64 * (step % 20), 64 * (step % 20 + 1))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(model.state_dict(), folder / "weights.pt")
    return model


def test_a_trained_network(trained: MLP, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--weights", "weights.pt", "--mean", "0.3", "--std", "0.4", "--epsilon", "1", "0"]
    assert main([*COLLAPSE, *DIGITS, *words, "--out", "found"]) == 0
    printed = capsys.readouterr().out.splitlines()
    train, test = load("digits"), load("digits", "test")
    expected = measure(
        trained,
        [(standardise(train, 0.3, 0.4), train.labels)],
        test=[(standardise(test, 0.3, 0.4), test.labels)],
    )
    record = json.loads((folder / "found" / "collapse.json").read_text())
    for row, layer in zip(record["layers"], expected, strict=True):
        for name, value in layer.to_json().items():
            # Products over batches of another height round float32 features otherwise, here and
            # there enough to turn a call of 517.
            close = pytest.approx(value, rel=1e-4, abs=3e-3) if isinstance(value, float) else value
            assert row[name] == close, name
    assert record["accuracy_test"] == pytest.approx(expected.accuracy_test, abs=3e-3)
    assert record["accuracy_test"] > 0.8
    assert record["weights_sha256"] == hashlib.sha256(Path("weights.pt").read_bytes()).hexdigest()
    assert record["data"]["train"]["images"] == 1280
    assert record["options"]["mean"] == [0.3]
    assert record["command"].startswith("dlaccel measure collapse --model dlaccel.models:MLP")
    first, second = record["depths"]
    assert (first["epsilon"], first["depth"]) == (1.0, 1)
    assert first["cut"]["parameters_cut"] == 64 * 16 + 16
    assert second["cut"] is None or second["depth"] > 1
    assert [line.split()[0] for line in printed[2:5]] == list(trained.embeddings)
    assert re.search(r"accuracy of the network: [\d.]+% training, [\d.]+% test", printed[5])
    assert re.fullmatch(
        r"effective depth at ε = 1: 1 of 3 layers \(layers.0.linear\); cut there: [\d.]+% test "
        r"accuracy for [\d.]+%, [\d.]+ times as fast",
        printed[6],
    )
    assert printed[-2:] == ["record: found/collapse.json", "figure: found/collapse.png"]
    assert (folder / "found" / "collapse.png").read_bytes()[1:4] == b"PNG"
    assert sorted(p.name for p in (folder / "found").iterdir()) == ["collapse.json", "collapse.png"]


def test_a_network_of_the_working_directory(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p != str(folder)])
    words = ["--model", "my_networks:make", "--data", "digits", "--no-test", "--layers", "1", "3"]
    assert main([*COLLAPSE, *words, "--epsilon", "1e-9"]) == 0
    out = capsys.readouterr().out
    assert "effective depth at ε = 1e-09: none of 2 layers" in out
    assert re.search(r"accuracy of the network: [\d.]+% training\n", out)
    record = json.loads((folder / "runs/measure/collapse.json").read_text())
    assert [row["name"] for row in record["layers"]] == ["1", "3"]
    assert record["data"]["test"] is record["weights_sha256"] is None


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint(trained: MLP, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({key: trained.state_dict(), "epoch": 3}, "weights.pt")
    words = ["--weights", "weights.pt", "--no-test", "--mean", "0.3", "--std", "0.4"]
    assert main([*COLLAPSE, *DIGITS, *words]) == 0
    accuracy = re.search(r"network: ([\d.]+)% training", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 80


def test_images_in_an_npz(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = load("digits")
    pixels = images.images[:, 0].numpy()
    arrays = {"train_images": pixels, "train_labels": images.labels.numpy().astype(np.uint8)}
    arrays |= {"test_images": pixels[:50], "test_labels": arrays["train_labels"][:50]}
    np.savez(folder / "mine.npz", **arrays)
    words = [*MLP_WORDS, "--arguments", '{"depth": 1, "width": 4, "in_features": 144}']
    assert main([*COLLAPSE, *words, "--data", "mine.npz", "--pad", "2"]) == 0
    record = json.loads((folder / "runs/measure/collapse.json").read_text())
    assert record["data"]["test"]["images"] == 50


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["measure"], "dlaccel: measure needs what to measure first: collapse."),
        (["measure", "rank"], "dlaccel: measure needs what to measure first: collapse."),
        (
            [*COLLAPSE, "--model", "my_networks", "--data", "digits"],
            "dlaccel: model must read package:function, got 'my_networks'.",
        ),
        (
            [*COLLAPSE, "--model", "my_network:make", "--data", "digits"],
            "dlaccel: model 'my_network:make' cannot be imported: No module named 'my_network'.",
        ),
        (
            [*COLLAPSE, "--model", "my_networks:build", "--data", "digits"],
            "dlaccel: model 'my_networks:build' must name a function of my_networks, got nothing.",
        ),
        (
            [*COLLAPSE, "--model", "my_networks:table", "--data", "digits"],
            "dlaccel: model 'my_networks:table' must name a function of my_networks, got dict.",
        ),
        (
            [*COLLAPSE, "--model", "my_networks:number", "--data", "digits"],
            "dlaccel: model 'my_networks:number' must give a torch.nn.Module, got int.",
        ),
        (
            [*COLLAPSE, "--model", "my_networks:fails", "--data", "digits"],
            "dlaccel: model 'my_networks:fails' failed with {}: RuntimeError: no such width.",
        ),
        (
            [*COLLAPSE, *MLP_WORDS, "--arguments", "depth=3", "--data", "digits"],
            "dlaccel: arguments must be a JSON object, got 'depth=3'.",
        ),
        (
            [*COLLAPSE, *MLP_WORDS, "--arguments", "[3]", "--data", "digits"],
            "dlaccel: arguments must be a JSON object, got '[3]'.",
        ),
        (
            [*COLLAPSE, *MLP_WORDS, "--arguments", '{"depth": 0, "width": 2}', "--data", "digits"],
            "dlaccel: model 'dlaccel.models:MLP' failed with {'depth': 0, 'width': 2}: "
            "ValueError: dlaccel.MLP: depth must be at least 1, got 0.",
        ),
        (
            [*COLLAPSE, "--model", "dlaccel.models:ResNet18", "--data", "digits"],
            "dlaccel: the model cannot take images of shape (1, 8, 8): ValueError: "
            "dlaccel.ResNet18: x must have shape [N, 3, H, W], got (1, 1, 8, 8).",
        ),
        (
            [*COLLAPSE, *DIGITS, "--layers", "conv*"],
            "dlaccel.measure: layers must name modules of the model (input, layers, layers.0, "
            "layers.0.linear, layers.0.norm and 10 more), got 'conv*'.",
        ),
        (
            [*COLLAPSE, *DIGITS, "--num-classes", "4"],
            "dlaccel.class_moments: labels must lie in [0, 4) or be -1, got 6 at 0.",
        ),
        (
            [*COLLAPSE, *DIGITS, "--batch-size", "0"],
            "dlaccel: batch_size must be at least 1, got 0.",
        ),
        ([*COLLAPSE, *DIGITS, "--pad", "-1"], "dlaccel: pad must be at least 0, got -1."),
        (
            [*COLLAPSE, *DIGITS, "--epsilon", "0.1", "-0.5"],
            "dlaccel: epsilon must be at least 0, got -0.5.",
        ),
        (
            [*COLLAPSE, *DIGITS, "--std", "0"],
            "dlaccel.data.standardise: std must be positive, got (0.0,).",
        ),
        ([*COLLAPSE, *DIGITS, "--weights", "w.pt"], "dlaccel: weights w.pt cannot be read: "),
        (
            [*COLLAPSE, "--model", "my_networks:make", "--data", "nowhere"],
            "dlaccel.data: name must be one of digits, ",
        ),
        (
            [*COLLAPSE, "--model", "my_networks:make", "--data", "."],
            "dlaccel.data: . must hold images",
        ),
        (
            [*COLLAPSE, *DIGITS, "--out", "my_networks.py/x"],
            "dlaccel: my_networks.py/x cannot be written to: Not a directory.",
        ),
    ],
)
def test_refusals(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(sentence)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (folder / "runs").exists()


class Evil:
    """Unpickled as it stands, it would leave a file."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_weights_that_are_no_state_dict(
    trained: MLP, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = dict(trained.state_dict())
    wrong = {name: value for name, value in state.items() if not name.startswith("head")}
    wrong |= {"layers.0.linear.weight": torch.ones(2, 2), "tail.bias": torch.ones(1)}
    no_file = "must be a file of tensors written by torch.save; anything else in it is not loaded."
    cases: dict[str, tuple[Any, str]] = {
        "wrong.pt": (
            wrong,
            "do not fit the model: 2 missing (head.weight), 1 unknown (tail.bias), "
            "1 of another shape (layers.0.linear.weight (2, 2) for (16, 64)).",
        ),
        "list.pt": ([torch.ones(2)], "must hold a state dict, tensors by name."),
        "numbers.pt": ({"a": 3}, "must hold a state dict, tensors by name."),
        "module.pt": (trained, no_file),
        "evil.pt": ({"a": Evil()}, no_file),
        "text.pt": (b"not a file of torch's", no_file),
        "empty.pt": (b"", no_file),
        "plain.pt": (pickle.dumps({"a": Evil()}), no_file),
        "short.pt": ((folder / "weights.pt").read_bytes()[:500], no_file),
    }
    for name, (content, sentence) in cases.items():
        if isinstance(content, bytes):
            Path(name).write_bytes(content)
        else:
            torch.save(content, name)
        assert main([*COLLAPSE, *DIGITS, "--weights", name]) == 2, name
        assert capsys.readouterr().err == f"dlaccel: weights {name} {sentence}\n"
    assert main([*COLLAPSE, *DIGITS, "--weights", "."]) == 2
    assert capsys.readouterr().err == "dlaccel: weights . cannot be read: Is a directory.\n"
    assert not (folder / "ran").exists()


def test_help_and_missing_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["measure", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: dlaccel measure collapse --model")
    with pytest.raises(SystemExit) as caught:
        main([*COLLAPSE, "--help"])
    assert caught.value.code == 0
    assert "--weights" in capsys.readouterr().out
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "tyro" else real(name, package),
    )
    assert main([*COLLAPSE, *DIGITS]) == 2
    assert (
        capsys.readouterr().err == "dlaccel: tyro is not installed: pip install dlaccel[papers]\n"
    )
