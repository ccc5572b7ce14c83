"""A user's network: made by a function of theirs, filled from a file of theirs."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..experiment.records import RunError


def make_model(target: str, arguments: str = "{}") -> nn.Module:
    """The network that ``package:function`` makes with keyword arguments in JSON.

    Raises:
        RunError: There is no such package or function, it fails, or gives no module.
    """
    package, colon, function = target.partition(":")
    if not (package and colon and function):
        raise RunError(f"model must read package:function, got {target!r}.")
    try:
        given = json.loads(arguments)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise RunError(f"arguments must be a JSON object, got {arguments!r}.")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))  # a console script starts without it
    try:
        make = getattr(importlib.import_module(package), function, None)
    except ImportError as error:
        raise RunError(f"model {target!r} cannot be imported: {error}.") from error
    if not callable(make):
        got = "nothing" if make is None else type(make).__name__
        raise RunError(f"model {target!r} must name a function of {package}, got {got}.")
    try:
        model = make(**given)
    except Exception as error:
        raise RunError(f"model {target!r} failed with {given}: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        got = type(model).__name__
        raise RunError(f"model {target!r} must give a torch.nn.Module, got {got}.")
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads a state dict, or what stands under ``"state_dict"`` or ``"model"`` in a checkpoint.

    Raises:
        RunError: The file cannot be read without running code of its own, or does not fit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a foreign file, which is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RunError(f"weights {path} cannot be read: {error.strerror or error}.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise RunError(
            f"weights {path} must be a file of tensors written by torch.save; "
            "anything else in it is not loaded."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not tensors:
        raise RunError(f"weights {path} must hold a state dict, tensors by name.")
    own = model.state_dict()
    faults = {
        "missing": [name for name in own if name not in content],
        "unknown": [name for name in content if name not in own],
        "of another shape": [
            f"{name} {tuple(content[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in content and content[name].shape != own[name].shape
        ],
    }
    said = [f"{len(names)} {word} ({names[0]})" for word, names in faults.items() if names]
    if said:
        raise RunError(f"weights {path} do not fit the model: {', '.join(said)}.")
    model.load_state_dict(content)


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its text, as the end of a sentence."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
