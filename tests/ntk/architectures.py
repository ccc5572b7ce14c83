"""Small networks, each with layers that one rule of the empirical kernel is about."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

IDS, WIDTH = 11, 8


class Residual(nn.Module):
    """Tokens, a position, a bare scale, and one Linear called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(IDS, WIDTH, padding_idx=2)
        self.position = nn.Parameter(torch.randn(5, WIDTH))
        self.shift = nn.Parameter(torch.randn(WIDTH))
        self.scale = nn.Parameter(torch.randn(WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)
        nn.init.normal_(self.norm.weight)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids) + self.position
        h = h + self.scale * self.mix(torch.tanh(self.mix(self.norm(h)))) - self.shift
        return self.head(h.mean(1))


class Tied(nn.Module):
    """An embedding whose table is also the decoder's weight: two rules meet in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(IDS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.decode = nn.Linear(WIDTH, IDS, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.mix(self.embed(ids))).mean(1))


class Encoder(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(IDS, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, 0.0, batch_first=batch_first)
        self.head = nn.Linear(WIDTH, 3)
        self.batch_first = batch_first

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        h = self.layer(h if self.batch_first else h.transpose(0, 1))
        return self.head(h[:, 0] if self.batch_first else h[0])


class Cross(nn.Module):
    """Attention between two tensors, so that rows of the fused weight are used apart."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.keys = nn.Linear(WIDTH, options.get("kdim", WIDTH))  # type: ignore[arg-type]
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options)  # type: ignore[arg-type]
        self.head = nn.Linear(WIDTH, 2)
        for bias in (self.attention.in_proj_bias, self.attention.out_proj.bias):
            nn.init.normal_(bias)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.keys(x)
        return self.head(self.attention(x, keys, keys)[0].mean(1))


class ClassToken(nn.Module):
    """A parameter that is expanded, a bare matrix, tokens flattened into rows, two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.inner = nn.Linear(4, 5)
        self.weight = nn.Parameter(torch.randn(5, 3))
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.power = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        rows = torch.tanh(self.inner(h)).flatten(0, 1) @ self.weight
        return self.gain * rows.view(len(x), -1, 3).abs().pow(self.power).sum(1)


class Frames(nn.Module):
    """Frames of each sample go through a convolution as samples of their own, place by place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:  # (N, F, 2, L)
        samples, frames = x.shape[:2]
        rows = x.transpose(0, 1).flatten(0, 1)
        h = torch.tanh(self.conv(rows)).mean(-1).view(frames, samples, 3)
        return self.head(h.square()).sum(0)


class Inner(nn.Module):
    """Differentiates inside its forward: the second use of the weight is no call of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        energy = lambda row: self.second(torch.tanh(self.first(row))).sum()  # noqa: E731
        return torch.func.vmap(torch.func.grad(energy))(x)


class Copied(nn.Module):
    """Uses of a weight that no rule knows, beside one that a rule does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x))
        return self.head(h + torch.tanh(h @ self.inner.weight.t()) + self.inner.bias.exp())


class InPlace(nn.Module):
    """The input of a layer is overwritten after the layer has used it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return self.head(h.add_(1).sigmoid_() + h.clone().mul_(2))


def convolutions() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
        nn.GroupNorm(2, 6),
        nn.Tanh(),
        nn.Conv2d(6, 4, (2, 3), dilation=(1, 2), padding="same", padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 5, 3, padding=2, stride=2, dilation=2, padding_mode="reflect"),
        nn.Softplus(),
        nn.Conv1d(5, 4, 2, padding="same"),
        nn.InstanceNorm1d(4, affine=True),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def wide_kernels() -> nn.Module:
    """Few places and wide layers: block sums."""
    return nn.Sequential(nn.Conv2d(4, 9, 2), nn.Tanh(), nn.Conv2d(9, 5, 2), nn.Flatten())


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 9),
        nn.ReLU(inplace=True),
        nn.Linear(9, 8, bias=False),
        nn.Tanh(),
        nn.Linear(8, 3),
    )


def sequence() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 9), nn.GELU(), nn.RMSNorm(9), nn.Linear(9, 20), nn.Tanh(), nn.Linear(20, 2)
    )


def ids(samples: int) -> Tensor:
    return torch.randint(0, IDS, (samples, 5))


def drawn(*shape: int) -> Callable[[int], Tensor]:
    return lambda samples: torch.randn(samples, *shape, dtype=torch.float64)


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "perceptron": (perceptron, drawn(7)),
    "wide read-out": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 33)),
        drawn(5),
    ),
    "input overwritten": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 4), nn.Conv3d(1, 2, (1, 4, 1))),
        drawn(1, 1, 4, 5),
    ),
    "sequence": (sequence, drawn(3, 7)),
    "as many places as samples": (sequence, drawn(6, 7)),
    "convolutions": (convolutions, drawn(2, 8, 8)),
    "signals": (signals, drawn(3, 8)),
    "wide kernels": (wide_kernels, drawn(4, 3, 3)),
    "residual": (Residual, ids),
    "tied": (Tied, ids),
    "encoder": (lambda: Encoder(True), ids),
    "encoder, places first": (lambda: Encoder(False), ids),
    "cross attention": (Cross, drawn(4, WIDTH)),
    "cross attention, own weights": (lambda: Cross(kdim=6, vdim=6), drawn(4, WIDTH)),
    "attention with bias_kv": (lambda: Cross(add_bias_kv=True), drawn(4, WIDTH)),
    "class token": (ClassToken, drawn(3, 4)),
    "frames": (Frames, drawn(3, 2, 5)),
    "derivative inside": (Inner, drawn(4)),
    "unknown uses": (Copied, drawn(4)),
    "overwritten inputs": (InPlace, drawn(4)),
    "no rule": (
        lambda: nn.Sequential(nn.Conv3d(1, 3, 2), nn.Flatten(), nn.Linear(24, 2)),
        drawn(1, 3, 3, 3),
    ),
}


def made(name: str, samples: int = 6) -> tuple[nn.Module, Tensor]:
    """The network in float64 and an input."""
    torch.manual_seed(0)
    build, draw = ARCHITECTURES[name]
    return build().double(), draw(samples)
