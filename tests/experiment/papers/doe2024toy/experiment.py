"""A regression by a linear map, its exact solution, and a Monte Carlo mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from dlaccel.experiment import Claim, Records, Trial


@dataclass(frozen=True)
class Config:
    """What the toy measures."""

    points: int = 64
    """How many points are drawn for each mean."""
    widths: tuple[int, ...] = (2, 3)
    """Input dimensions of the regression."""
    steps: int = 12
    """Training steps."""
    rate: float = 0.05
    """Learning rate."""
    noisy: bool = False
    """Whether the means are of noise that has no mean of 1/2."""

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points must be at least 1, got {self.points}.")


PROFILES = {"smoke": Config(), "medium": Config(points=640, steps=40), "paper": Config(points=6400)}
SEEDS = {"smoke": 2, "medium": 3, "paper": 5}


def final_loss(rows: Records) -> list[float]:
    return [group[-1]["loss"] for group in rows.select("regression").group("width").values()]


def loss_margin(rows: Records) -> float | None:
    losses = final_loss(rows)
    return 1.0 - max(losses) if losses else None


def mean_margin(rows: Records) -> float | None:
    means = rows.select("mean")
    return 0.25 - abs(means[0]["mean"] - 0.5) if means else None


CLAIMS = (
    Claim("C1", "1 + 1 = 2.", "section 1", lambda rows: rows.select("sum")[0]["sum"] == 2),
    Claim("C2", "Training brings the loss below 1.", "figure 1", loss_margin, statistical=True),
    Claim("C3", "The mean of uniform numbers is near 1/2.", "equation 2", mean_margin),
    Claim("C4", "A thing nobody measured is large.", "table 9", lambda rows: None),
)


def loss_curve(records: Records) -> Figure:
    figure = Figure(figsize=(5, 3))
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log", title="Regression")
    for (seed, width), rows in records.select("regression").group("seed", "width").items():
        axes.plot(rows.column("step"), rows.column("loss"), label=f"width {width}, seed {seed}")
    axes.legend()
    return figure


FIGURES = {"loss_curve": loss_curve}
TABLES = {
    "sum": ("terms", "sum"),
    "mean": ("points", "mean"),
    "regression": ("width", "step", "loss"),
}


def run(trial: Trial) -> None:
    config = trial.config
    with trial.progress("arithmetic", 3):
        trial.measure("sum", lambda: {"sum": 1 + 1}, once=True, terms=2)
        trial.measure(
            "mean", lambda: {"mean": draw(trial, config).mean().item()}, points=config.points
        )
        # torch's global generator, as nn.Dropout and default initialisation use it.
        trial.measure("global", lambda: {"number": torch.rand(()).item()})
    with trial.progress("regression", 2 * len(config.widths)):
        for width in config.widths:
            regress(trial, config, width)


def draw(trial: Trial, config: Config) -> torch.Tensor:
    return torch.rand(config.points, generator=trial.generator("points")) + 9 * config.noisy


def regress(trial: Trial, config: Config, width: int) -> None:
    net = nn.Sequential(nn.Linear(width, 1), nn.Dropout(0.1))
    target = torch.randn(width, 1, generator=trial.generator("target", width))
    batches = trial.generator("batches", width)
    optimiser = torch.optim.Adam(net.parameters(), config.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)

    def step(index: int) -> dict[str, Any]:
        x = torch.randn(16, width, generator=batches)
        loss = (net(x) - x @ target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        return {"loss": loss.detach()}

    def distance() -> dict[str, float]:
        return {"distance": (net[0].weight.T - target).norm().item()}

    state = {"net": net, "optimiser": optimiser, "schedule": schedule, "batches": batches}
    trial.train("regression", state, config.steps, step, every=5, observe=distance, width=width)
    trial.measure("error", distance, width=width)
