"""Arxiv 2202.09028: definitions, the bound, bounds from norms, networks trained side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.models import MLP
from dlaccel.papers.galanti2022depth import norms, theory
from dlaccel.papers.galanti2022depth.experiment import PROFILES
from dlaccel.papers.galanti2022depth.networks import KINDS, make_network, parse, parsed, put_on_top
from dlaccel.papers.galanti2022depth.samples import Samples, load_samples
from dlaccel.papers.galanti2022depth.top import probe
from dlaccel.papers.galanti2022depth.training import Stack

NAME = "dlaccel.galanti2022depth"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(side: int = 8, channels: int = 1, count: int = 40, classes: int = 4) -> Samples:
    shape = (count, channels, side, side)
    images = torch.randint(256, shape, generator=generator(), dtype=torch.uint8)
    return Samples(images, torch.arange(count) % classes, classes, (0.5,), (0.25,))


def raises(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared)
        call()
    return str(caught.value)


# Effective and minimal depth


def test_depth_is_the_first_layer_within_epsilon_or_one_past_the_last() -> None:
    errors = [0.3, 0.05, 0.2, 0.0]
    assert [theory.depth_or_beyond(errors, epsilon) for epsilon in (0.05, 0.04, 0.5)] == [2, 4, 1]
    assert theory.depth_or_beyond(errors[:3], 0.01) == 4
    assert theory.minimal_depth([4, None, 3, 9], 9) == 3
    assert theory.minimal_depth([None, None], 9) == 10


# Labels


@pytest.mark.parametrize("q", [0.0, 0.25, 0.75, 1.0])
def test_noisy_labels_are_wrong_at_the_stated_rate_and_nested_in_q(q: float) -> None:
    labels = torch.arange(20_000) % 10
    noisy = theory.noisy_labels(labels, q, 10, generator())
    rate = float((noisy != labels).double().mean())
    share = q * 0.9
    # Five standard deviations of a binomial share.
    assert abs(rate - share) <= 5 * math.sqrt(share * (1 - share) / len(labels))
    more = theory.noisy_labels(labels, 1.0, 10, generator())
    changed = noisy != labels
    assert torch.equal(noisy[changed], more[changed])


@pytest.mark.parametrize("p", [0.0, 0.1, 0.33, 0.5])
def test_exactly_the_stated_share_of_labels_is_wrong(p: float) -> None:
    labels = torch.arange(9000) % 3
    wrong = theory.wrong_labels(labels, p, 3, generator())
    changed = wrong != labels
    assert int(changed.sum()) == round(p * 9000)
    assert (int(wrong.min()), int(wrong.max())) == (0, 2)
    if p:
        step = torch.bincount((wrong - labels)[changed] % 3, minlength=3)
        assert int(step[0]) == 0
        assert abs(int(step[1] - step[2])) <= 5 * math.sqrt(int(changed.sum()))


def test_samples_are_balanced_disjoint_and_in_random_order() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 2, 2])
    first, second = theory.balanced_samples(labels, 2, 2, generator())
    for part in (first, second):
        assert torch.bincount(labels[part]).tolist() == [2, 2, 2]
    assert len({*first.tolist(), *second.tolist()}) == 12
    message = raises(lambda: theory.balanced_samples(labels, 3, 2, generator()))
    assert message == f"{NAME}: labels must have 6 samples of each class, got 4 of class 0."


# The bound and its assumptions


def test_bound_counts_the_draws_that_reach_the_minimal_depth() -> None:
    effective = [[2, 3], [4, 4], [2, 2], [5, 6]]
    estimate = theory.bound_estimate(effective, [3, 4, 4, 5], p=0.2, alpha=0.5)
    # Means 2.5 < 3, 4 >= 4, 2 < 4, 5.5 >= 5.
    assert estimate == theory.Estimate(p=0.2, probability=0.5, value=0.5 + 1.5 * 0.2)
    never = theory.bound_estimate(effective, [9] * 4, p=0.1, alpha=0.1)
    assert never.value == pytest.approx(0.11)


def test_monotonicity_fails_where_more_noise_needs_less_depth() -> None:
    minimal = {0.1: [3, 5], 0.2: [4, 4], 0.21: [1, 1], 0.4: [6, 6]}
    # (1 + alpha) 0.2 = 0.22 leaves 0.21 out; means of the larger p are 4, 1 and 6.
    assert theory.monotonicity_failures(minimal, 0.1) == {0.1: 1.0, 0.2: 0.0, 0.21: 0.0}


def test_mistakes_of_one_kind_are_far_from_uniform() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    predictions = torch.zeros(2, 100, dtype=torch.int64)
    predictions[:, :20] = 3
    found = theory.Mistakes.of(predictions, labels, 5, generator())
    assert found.count == 20
    assert found.labels == pytest.approx(1 - 1 / 20)  # one of 5 * 4 pairs
    assert found.overlap == pytest.approx(100 / 20)  # all 20 shared, chance is 20 * 20 / 100


def test_uniform_mistakes_are_as_far_from_uniform_as_uniform_mistakes() -> None:
    labels = torch.arange(20_000) % 5
    rows = []
    for seed in range(4):
        draw = generator(seed)
        shift = torch.randint(1, 5, labels.shape, generator=draw)
        wrong = torch.rand(labels.shape, generator=draw) < 0.1
        rows.append(torch.where(wrong, (labels + shift) % 5, labels))
    found = theory.Mistakes.of(torch.stack(rows), labels, 5, generator())
    # Over 20 pairs and 2000 mistakes the distance is 0.04 with a deviation near 0.007 / sqrt(4).
    assert found.labels == pytest.approx(found.labels_uniform, abs=0.015)
    assert found.overlap is not None
    # Six pairs share 200 each, deviation near sqrt(200) / 200 / sqrt(6).
    assert found.overlap == pytest.approx(1, abs=0.15)


def test_no_mistakes_share_nothing() -> None:
    labels = torch.arange(10) % 5
    found = theory.Mistakes.of(torch.stack([labels, labels]), labels, 5, generator())
    assert dataclasses.astuple(found) == (0.0, 0.0, 0.0, None)


# Bounds from norms


def trained_mlp(depth: int = 3, width: int = 6) -> MLP:
    """An MLP with running statistics and weights away from where they start."""
    network = MLP(depth, width, 5, 4, generator=generator())
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if value.is_floating_point():
                spread = torch.rand(value.shape, generator=generator(len(name)))
                value.copy_(0.3 + spread if "var" in name else value + 0.3 * (spread - 0.5))
    return network.double().eval()


def inputs(count: int = 50, features: int = 5) -> Tensor:
    return torch.randn(count, features, generator=generator(1), dtype=torch.float64)


def test_chain_of_matrices_is_the_network() -> None:
    network, x = trained_mlp(), inputs()
    outputs = norms.forward(norms.chain(network), x)
    torch.testing.assert_close(outputs, network(x), rtol=1e-12, atol=1e-12)


def test_margins() -> None:
    outputs = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 1.0]])
    assert norms.margins(outputs, torch.tensor([1, 2])).tolist() == [1.0, -4.0]


def test_norm_bounds_by_hand() -> None:
    # One layer, all weights known: A_1 = [[2, 0], [0, 1]], A_2 = [[1, 0], [0, 0]] with biases.
    network = MLP(1, 1, 1, 2).double().eval()
    state = {
        "layers.0.linear.weight": [[2.0]],
        "layers.0.linear.bias": [0.0],
        "layers.0.norm.weight": [1.0],
        "layers.0.norm.bias": [0.0],
        "layers.0.norm.running_mean": [0.0],
        "layers.0.norm.running_var": [1.0 - network.layers[0].norm.eps],
        "head.weight": [[1.0], [0.0]],
        "head.bias": [0.0, 0.0],
    }
    kept = {name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()}
    network.load_state_dict({**network.state_dict(), **kept})
    x, labels = torch.full((100, 1), 3.0), torch.zeros(100, dtype=torch.int64)
    found = norms.norm_bounds(network, x, labels)
    # Every margin is 6; |(x, 1)| = sqrt(10); |A_1|_F = sqrt(5), rows of A_2: 1 + 0; k = 2, m = 100.
    complexity = 4 * math.sqrt(10) / 10 * (math.sqrt(4 * math.log(2)) + 1) * math.sqrt(5) / 6
    confidence = 3 * math.sqrt(math.log(2 / norms.DELTA) / 200)
    assert found["frobenius"] == pytest.approx(complexity + confidence, rel=1e-12)
    # |A_1|_2 = 2 with rows of norms 2 and 1, |A_2|_2 = 1 with one row.
    spread = (1.5 ** (2 / 3) + 1) ** 1.5
    spectral = math.sqrt(1000) / (6 * 100) * 2 * spread
    assert found["spectral"] == pytest.approx(spectral, rel=1e-12)


def test_norm_bounds_do_not_change_when_the_head_is_scaled() -> None:
    network, x = trained_mlp(), inputs()
    labels = network(x).argmax(1)
    before = norms.norm_bounds(network, x, labels)
    with torch.no_grad():
        network.head.weight *= 3
        network.head.bias *= 3
    after = norms.norm_bounds(network, x, labels)
    assert after == pytest.approx(before, rel=1e-12)
    assert before["frobenius"] is not None


def test_norm_bounds_of_other_networks_are_absent() -> None:
    network = make_network(parsed("CONV-3@digits"), 2, samples(), PROFILES["smoke"], generator())
    assert norms.norm_bounds(network, torch.zeros(2, 1, 8, 8), torch.zeros(2).long()) == {
        "frobenius": None,
        "spectral": None,
    }


def test_a_network_that_is_always_wrong_has_no_margin() -> None:
    network, x = trained_mlp(), inputs()
    worst = network(x).argmin(1)
    assert norms.norm_bounds(network, x, worst) == {"frobenius": math.inf, "spectral": math.inf}


# Networks


@pytest.mark.parametrize(
    ("text", "kind", "network", "data"),
    [
        ("MLP-64@digits", "MLP", "MLP-64", "digits"),
        ("CONVRES-7@/a/b@c.npz", "CONVRES", "CONVRES-7", "/a/b@c.npz"),
        ("RESNET18@mnist", "RESNET18", "RESNET18", "mnist"),
    ],
)
def test_names_of_networks(text: str, kind: str, network: str, data: str) -> None:
    found = parsed(text)
    assert (found.kind, found.network, found.data) == (kind, network, data)


@pytest.mark.parametrize("text", ["MLP@digits", "MLP-0@x", "RESNET18-3@x", "VIT-3@x", "MLP-3"])
def test_what_is_no_name_of_a_network(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top", ["fc", "res"])
def test_layers_on_top_come_between_network_and_head(kind: str, top: str) -> None:
    text = "RESNET18@digits" if kind == "RESNET18" else f"{kind}-5@digits"
    config, data = PROFILES["smoke"], samples()
    plain, network = (make_network(parsed(text), 2, data, config, generator()) for _ in range(2))
    put_on_top(network, 2, top, generator())
    assert network.embeddings[: len(plain.embeddings)] == plain.embeddings
    assert len(network.embeddings) == len(plain.embeddings) + 3
    seen = {}
    for name in (*network.embeddings, network.penultimate):
        module = network.get_submodule(name)
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output.flatten(1)})
        )
    assert network(data.inputs[:3]).shape == (3, 4)
    assert seen[network.penultimate].shape == (3, 128)
    assert list(seen)[: len(network.embeddings)] == list(network.embeddings)


@pytest.mark.parametrize("text", PROFILES["paper"].networks)
def test_networks_of_the_paper_take_a_step(text: str) -> None:
    config, named = PROFILES["paper"], parsed(text)
    data = samples(32, 1 if "mnist" in text else 3, 4)
    depth = 2 if named.kind == "CONVRES" else max(config.depths)
    network = make_network(named, depth, data, config, generator())
    optimizer = torch.optim.SGD(network.parameters(), config.rate)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(network(data.inputs), data.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(map(math.isfinite, losses))
    assert losses[0] != losses[1]


# Training side by side


def test_stack_is_its_networks() -> None:
    networks = [MLP(3, 5, 64, 4, generator=generator(seed)).double() for seed in range(3)]
    alone = [MLP(3, 5, 64, 4, generator=generator(seed)).double() for seed in range(3)]
    x = torch.randn(3, 7, 1, 8, 8, generator=generator(), dtype=torch.float64)
    y = torch.randint(4, (3, 7), generator=generator())
    stack = Stack(networks)
    optimizer = torch.optim.SGD(stack.parameters.values(), 0.1, 0.9, weight_decay=1e-3)
    own = [torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-3) for network in alone]
    entropy = torch.nn.functional.cross_entropy
    for _ in range(4):
        logits = stack(x)
        optimizer.zero_grad()
        (entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / 7).backward()
        optimizer.step()
        for place, network in enumerate(alone):
            own[place].zero_grad()
            entropy(network(x[place]), y[place]).backward()
            own[place].step()
    stack.unstack()
    for network, other in zip(networks, alone, strict=True):
        # Four steps in float64, some hundred operations each.
        torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=0, atol=1e-11)


def test_stack_puts_a_saved_state_back() -> None:
    stacks = [Stack([MLP(2, 3, 64, 4) for _ in range(2)]) for _ in range(2)]
    x = torch.randn(2, 6, 64, generator=generator())
    assert not torch.equal(stacks[0](x), stacks[1](x))
    stacks[1].load_state_dict(stacks[0].state_dict())
    assert torch.equal(stacks[0](x), stacks[1](x))


# Data


def test_images_are_padded_and_standardised(tmp_path: Path) -> None:
    # 20 x 28 pixels, sorted by class: padded to 32 x 32, drawn rather than cut.
    path = tmp_path / "own.npz"
    images = np.full((60, 20, 28), 200, np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 20)
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    train, test = load_samples(
        str(path), count=30, test_count=10, augment=True, device=torch.device("cpu")
    )
    assert train.images.shape == (30, 1, 32, 32)
    assert len(test) == 10
    assert set(train.labels.tolist()) == {0, 1, 2}
    assert bool((train.images[:, :, 6:26, 2:30] == 200).all())
    assert int(train.images[:, :, :6].max()) == 0
    assert abs(float(train.inputs.mean())) <= 1e-5
    assert train.augmented
    assert train.draw(torch.arange(4), generator()).shape == (4, 1, 32, 32)


def test_the_first_digits_in_their_order() -> None:
    train, test = load_samples(
        "digits", count=100, test_count=0, augment=False, device=torch.device("cpu")
    )
    whole, _ = load_samples(
        "digits", count=0, test_count=0, augment=False, device=torch.device("cpu")
    )
    assert torch.equal(train.images, whole.images[:100])
    assert (len(whole), len(test)) == (1280, 517)
    assert not whole.augmented  # 8 pixels


# Probes


def test_probe_finds_what_a_layer_shows() -> None:
    data = samples(8, 1, 400, 4)
    # The first pixels say the class; the rest is noise.
    data.images[:, 0, 0, :4] = 255 * torch.nn.functional.one_hot(data.labels, 4).to(torch.uint8)
    network = make_network(parsed("MLP-32@digits"), 2, data, PROFILES["smoke"], generator())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = probe(network, data, data, 4, generator())
    assert found.keys() == set(network.embeddings)
    assert found["layers.0.linear"] > 0.6  # guessing has 0.25
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


# Input that is refused
