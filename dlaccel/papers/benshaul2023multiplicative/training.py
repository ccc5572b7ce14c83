"""Experiment E6: networks of equal size trained on a photograph, a function of its coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dlaccel.experiment import Trial
from dlaccel.models import coordinate

from .photograph import Photograph, psnr, to_jpeg
from .univariate import Numbers

NETWORKS: dict[str, tuple[Callable[..., nn.Module], float]] = {
    "multiplicative": (coordinate.MultiplicativeNetwork, 1e-2),
    "ReLU": (coordinate.ReLUNetwork, 1e-2),
    "sine": (coordinate.SineNetwork, 3e-3),
    "Fourier filters": (coordinate.FourierFilterNetwork, 3e-2),
    "Gabor filters": (coordinate.GaborFilterNetwork, 3e-2),
}
"""The networks compared, and the learning rate of each: the best of 1e-3, 3e-3, 1e-2, 3e-2 on the
other photograph, flower.jpg, at the size of the smoke profile (D8)."""

GRADIENT_NORM = 1.0
"""Gradients are clipped to this: stacks of products need it (D8)."""


def measure_training(trial: Trial) -> None:
    """Trains every network with every learning rate; PSNR as it goes, the picture at the end."""
    config = trial.config
    photograph = Photograph.load(config.photograph, config.height, config.width)
    trial.measure(
        "picture", lambda: {"jpeg": to_jpeg(photograph.pixels)}, once=True, network="", rate=0.0
    )
    # The filters' own scale, 256 for 512 pixels, follows the number of pixels.
    scale = {"input_scale": max(config.height, config.width) / 2}
    for name, (kind, rate) in NETWORKS.items():
        make = partial(kind, **scale) if name.endswith("filters") else kind
        for factor in config.rate_factors:
            _train(trial, photograph, name, make, rate * factor)


def _train(
    trial: Trial, photograph: Photograph, name: str, make: Callable[..., nn.Module], rate: float
) -> None:
    config, device = trial.config, trial.device
    width = coordinate.width_for(make, config.parameters, 2, config.hidden_layers, 3)
    generator = trial.generator("network", name)  # one start for all rates
    network = make(2, width, config.hidden_layers, 3, generator=generator).to(device)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    pixels = trial.generator("pixels")  # one order of pixels for all networks

    x = photograph.coordinates.float().to(device)
    colours = photograph.colours.float().to(device)
    held_out = photograph.held_out.to(device)
    seen = torch.nonzero(~held_out)[:, 0]

    def step(_: int) -> Numbers:
        drawn = torch.randint(len(seen), (config.batch,), generator=pixels).to(device)
        batch = seen[drawn]
        optimizer.zero_grad()
        loss = (_colours(network, x[batch]) - colours[batch]).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        return {}

    def observe() -> Numbers:
        error = _picture(network, x) - colours
        return {"psnr": psnr(error[~held_out]), "psnr_held_out": psnr(error[held_out])}

    count = sum(parameter.numel() for parameter in network.parameters())
    trial.train(
        "training",
        {"network": network, "optimizer": optimizer, "schedule": schedule, "pixels": pixels},
        config.steps,
        step,
        every=config.record_every,
        observe=observe,
        network=name,
        rate=rate,
        width=width,
        parameters=count,
    )
    if trial.seed == 0:
        shown = partial(_picture, network, x)
        shape = photograph.pixels.shape
        trial.measure(
            "picture",
            lambda: {"jpeg": to_jpeg(shown().reshape(shape))},
            network=name,
            rate=rate,
        )


def _colours(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs are read as 2 colour - 1, so that they are centred: ``[N, 3]`` in [0, 1]."""
    outputs: Tensor = network(x)
    return (outputs + 1) / 2


@torch.no_grad()
def _picture(network: nn.Module, x: Tensor) -> Tensor:
    """All colours, ``[H W, 3]``."""
    return torch.cat([_colours(network, part) for part in x.chunk(1 + len(x) // 2**16)])
