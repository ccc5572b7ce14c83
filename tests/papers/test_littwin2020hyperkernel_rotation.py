"""Arxiv 2003.12193: rotations of images, and the hypernetworks that tell them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.data import Images
from dlaccel.papers.littwin2020hyperkernel.rotation_networks import (
    RotationNetworks,
    descend,
    losses,
)
from dlaccel.papers.littwin2020hyperkernel.rotation_task import (
    Turned,
    label,
    majority_share,
    source_pixels,
)

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_labels_on_the_line_and_on_the_circle() -> None:
    angles = torch.tensor([0.0, 14.9, 15.1, 329.0, 344.9, 345.1, 359.9])
    assert label(angles).tolist() == [0, 0, 1, 11, 11, 11, 11]
    assert label(angles, circular=True).tolist() == [0, 0, 1, 11, 11, 0, 0]
    shares = torch.bincount(label(torch.linspace(0, 359.99, 36_000))).double() / 36_000
    assert shares.max().item() == pytest.approx(majority_share(), abs=1e-3)
    assert majority_share(circular=True) == pytest.approx(1 / 12)


def test_images_turn_as_pillow_turns_them() -> None:
    image = pytest.importorskip("PIL.Image")
    side, angles = 28, torch.tensor([0.0, 10.0, 45.0, 90.0, 123.4, 180.0, 300.0])
    pixels = torch.randint(256, (side, side), generator=generator(), dtype=torch.uint8)
    source, inside = source_pixels(angles, side)
    for angle, where, seen in zip(angles.tolist(), source, inside, strict=True):
        ours = torch.where(seen, pixels.flatten()[where], 0).view(side, side)
        theirs = np.asarray(image.fromarray(pixels.numpy()).rotate(angle))
        # Pillow walks in steps of 2^-16: pixels whose source lies on an edge may differ.
        assert (ours.numpy() == theirs).mean() > 0.99, angle


def test_corners_are_black_and_draws_repeat() -> None:
    images = Images(
        torch.full((4, 3, 20, 20), 255, dtype=torch.uint8), torch.zeros(4).long(), ("a",)
    )
    turned = Turned.of(images, "mnist", False, CPU)
    rows = torch.tensor([[0, 1], [2, 3]])
    found = turned.turn(rows, torch.full((2, 2), 45.0)).view(2, 2, 3, 20, 20)
    assert found[..., 0, 0].unique().tolist() == pytest.approx([-0.1307 / 0.3081])
    assert found[..., 10, 10].unique().tolist() == pytest.approx([(1 - 0.1307) / 0.3081])
    first, second = (turned.draw(rows, generator(5)) for _ in range(2))
    assert [part.shape for part in first] == [(2, 2, 1200), (2, 2, 1200), (2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def make_networks(count: int, inner_relu: bool = False, bottleneck: int = 5) -> RotationNetworks:
    return RotationNetworks(
        count,
        6,
        4,
        4,
        hidden=(7,),
        bottleneck=bottleneck,
        inner_relu=inner_relu,
        generator=generator(),
    )


@pytest.mark.parametrize("inner_relu", [False, True])
@pytest.mark.parametrize("bottleneck", [0, 5])
def test_rotation_networks_are_hypernetworks_side_by_side(
    inner_relu: bool, bottleneck: int
) -> None:
    networks = make_networks(3, inner_relu, bottleneck)
    x, y = torch.randn(2, 3, 2, 6, generator=generator(1))
    found = networks(x, y)
    for r in range(3):
        for b in range(2):
            q = x[r, b]
            for place, (weight, bias) in enumerate(
                zip(networks.weights, networks.biases, strict=True)
            ):
                q = q @ weight[r] + bias[r, 0]
                q = q.relu() if place < len(networks.weights) - 1 else q
            sizes = [24, 16, 16, 48]
            v1, v2, v3, v4 = torch.split(q, sizes)
            a = (v1.view(4, 6) @ y[r, b]).relu()
            for v in (v2, v3):
                a = v.view(4, 4) @ a
                a = a.relu() if inner_relu else a
            torch.testing.assert_close(found[r, b], v4.view(12, 4) @ a)


def test_each_network_descends_at_its_own_rate() -> None:
    networks, still = make_networks(2), make_networks(2)
    x, y = torch.randn(2, 2, 5, 6, generator=generator(1))
    labels = torch.arange(10).view(2, 5)
    loss = losses(networks(x, y), labels)
    loss.sum().backward()
    gradients = [parameter.grad.clone() for parameter in networks.parameters()]
    descend(networks, torch.tensor([0.0, 0.5]))
    for parameter, start, gradient in zip(
        networks.parameters(), still.parameters(), gradients, strict=True
    ):
        assert torch.equal(parameter[0], start[0])
        torch.testing.assert_close(parameter[1], start[1] - 0.5 * gradient[1])
        assert parameter.grad is None
    alone = torch.nn.functional.cross_entropy(still(x, y)[1], labels[1])
    torch.testing.assert_close(loss[1], alone)
