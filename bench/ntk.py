"""Tangent kernels: the acceptance lines, each against its rivals in one interleaved race.

Two threads, float32; whatever is timed is compared with float64 first.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dlaccel.ntk.empirical import empirical
from dlaccel.ntk.infinite import infinite
from dlaccel.ops import ntk_hadamard
from dlaccel.ops.ntk_hadamard import SPEC

from .lines import Calls, Lines
from .measure import Effort, Found
from .rows import OURS

THREADS = 2
HADAMARD = ((1024, 1024, 1024, 0.7), (2048, 128, 64, 0.6))  # samples, widths, target
MLP = ((32, 1), (32, 10), (128, 10), (512, 1))  # samples and outputs
TARGET_MLP = (128, 10)
RECURSION = ((1024, 5), (2048, 5), (2048, 10))  # samples and depth
TARGET_RECURSION = (2048, 5)

Array = npt.NDArray[np.float32]


def measure(effort: Effort) -> Found:
    """Measures every line, prints them, and gives a row for each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        made = Lines(effort)
        for samples, a, g, target in HADAMARD:
            _hadamard(made, samples, a, g, target)
        for samples, outputs in MLP:
            _mlp(made, samples, outputs)
        for samples, depth in RECURSION:
            _recursion(made, samples, depth)
    finally:
        torch.set_num_threads(threads)
    return made.shown("tangent kernels")


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _hadamard(made: Lines, samples: int, a_width: int, g_width: int, target: float) -> None:
    """K += A A^T * G G^T; the rival has its memory ready."""
    a, g = _normal(samples, a_width), _normal(samples, g_width)
    kernel, theirs = torch.zeros(2, samples, samples)
    left, right = torch.empty(2, samples, samples)

    def two_products() -> None:
        torch.mm(a, a.T, out=left)
        torch.mm(g, g.T, out=right)
        theirs.addcmul_(left, right)

    ntk_hadamard(kernel, a, g)
    truth = (a.double() @ a.double().T) * (g.double() @ g.double().T)
    where = f"Gram-Hadamard, N = {samples}, a = {a_width}, g = {g_width}"
    if made.admits(where, kernel, truth, SPEC.limit((samples, a_width, g_width))):
        ours = partial(ntk_hadamard, kernel, a, g)
        ratio = made.race({OURS: ours, "two products": two_products}).ratio(OURS, "two products")
        made.add(f"{where}: ours over two products", "at most", target, ratio)


def _network(outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    sizes = [(784, 512), (512, 512), (512, 512)]
    hidden = [layer for size in sizes for layer in (nn.Linear(*size), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(512, outputs))


@torch.no_grad()
def two_product_kernel(network: nn.Sequential, x: Tensor) -> Tensor:
    """(N, N, O, O): two products and a multiplication for each layer, by hand."""
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    inputs = [x]
    for linear in linears[:-1]:
        inputs.append(linear(inputs[-1]).relu_())
    samples, outputs = len(x), linears[-1].out_features
    kernel = x.new_zeros(samples, outputs, samples, outputs)
    kernel.diagonal(dim1=1, dim2=3).add_((inputs[-1] @ inputs[-1].T + 1)[..., None])
    gradients = linears[-1].weight.expand(samples, outputs, -1)
    for place in range(len(linears) - 2, -1, -1):
        gradients = gradients * (inputs[place + 1] > 0)[:, None]
        flat = gradients.flatten(0, 1)
        gram = (flat @ flat.T).view(samples, outputs, samples, outputs)
        kernel.addcmul_(gram, (inputs[place] @ inputs[place].T + 1)[:, None, :, None])
        if place:
            gradients = gradients @ linears[place].weight
    return kernel.transpose(1, 2)


def _mlp(made: Lines, samples: int, outputs: int) -> None:
    network, x = _network(outputs), _normal(samples, 784)
    truth = two_product_kernel(_network(outputs).double(), x.double())
    where = f"kernel of the MLP 784-512-512-512-{outputs}, {samples} samples"
    ours = partial(empirical, network, x)
    if made.admits(where, ours(), truth, SPEC.limit((samples, 784, 512))):
        calls: Calls = {OURS: ours, "two products": partial(two_product_kernel, network, x)}
        ratio = made.race(calls).ratio("two products", OURS)
        target = 1.5 if (samples, outputs) == TARGET_MLP else 1.0
        made.add(f"{where}: two products over ours", "at least", target, ratio)


def relu_kernels(x: Array, depth: int) -> tuple[Array, Array]:
    """NNGP and tangent kernel of the ReLU network, whole arrays at a time, by the angle."""
    nngp = (2 / x.shape[1]) * (x @ x.T)
    tangent = nngp
    norms = np.sqrt(np.outer(nngp.diagonal(), nngp.diagonal()))  # the same in every layer
    for _ in range(depth):
        cosine = np.clip(nngp / norms, -1, 1)
        angle = np.arccos(cosine)
        rest = np.pi - angle
        nngp = norms * (np.sqrt(1 - cosine * cosine) + rest * cosine) / np.pi
        tangent = nngp + tangent * rest / np.pi
    return nngp, tangent


def _recursion(made: Lines, samples: int, depth: int) -> None:
    x = _normal(samples, 784)
    _, truth = relu_kernels(x.double().numpy(), depth)
    where = f"ReLU kernel of depth {depth}, N = {samples}"
    ours = partial(infinite, x, depth=depth)
    if not made.admits(where, ours().ntk, torch.from_numpy(truth), 1e-6):
        return
    calls: Calls = {OURS: ours, "NumPy": partial(relu_kernels, x.numpy(), depth)}
    target = 4.0 if (samples, depth) == TARGET_RECURSION else 1.0
    made.add(f"{where}: NumPy over ours", "at least", target, made.race(calls).ratio("NumPy", OURS))
