"""Small networks and data that the tests of measured networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 3


def clusters(
    samples: int = 60, seed: int = 0, shape: tuple[int, ...] = (6,)
) -> tuple[Tensor, Tensor]:
    """Samples about a random centre for each class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, *shape, generator=torch.Generator().manual_seed(7))
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    return centres[labels] + 0.7 * torch.randn(samples, *shape, generator=generator), labels


def batches(x: Tensor, labels: Tensor, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), labels.split(size), strict=True))


def outputs(model: nn.Module, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """What modules give in eval mode, as float64 rows."""
    found: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: found.update(
                {name: (y[0] if isinstance(y, tuple) else y).flatten(1).double()}
            )
        )
        for name in names
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


class Lambda(nn.Module):
    """Calls a function; with a parameter of its own so that it is measured."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> object:
        return self.function(x * self.scale)


class Backwards(nn.Module):
    """Registers its layers in another order than it calls them, and calls what it is told to."""

    def __init__(self, *order: str) -> None:
        super().__init__()
        self.top = nn.Linear(4, CLASSES)
        self.middle = nn.Linear(4, 4)
        self.bottom = nn.Linear(6, 4)
        self.idle = nn.Linear(2, 2)
        self.order = order or ("bottom", "middle", "top")

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = torch.tanh(self.get_submodule(name)(x))
        return x


class Recurrent(nn.Module):
    """A layer that gives a tuple and one that gives a number for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(6, 4, batch_first=True)
        self.mean = Lambda(lambda x: x.mean(1))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x[:, None])
        self.mean(x)
        logits: Tensor = self.head(states[:, 0])
        return logits
