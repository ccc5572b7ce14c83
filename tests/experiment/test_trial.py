"""What a paper's run sees: measured once, trained to the same bits, nothing global disturbed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from dlaccel.experiment import RunError, Trial, training
from dlaccel.experiment.log import Log
from dlaccel.experiment.progress import LINE_SECONDS, Lines

CPU = torch.device("cpu")


class Counter:
    """A state that counts steps, and fails before a given one."""

    def __init__(self, fail: int | None = None) -> None:
        self.total = torch.zeros(())
        self.fail = fail

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.total = state["total"]

    def step(self, index: int) -> dict[str, torch.Tensor]:
        if index == self.fail:
            raise InterruptedError
        self.total = self.total + index
        return {"total": self.total}


def test_measure_computes_once(trial: Trial, tmp_path: Path) -> None:
    calls: list[int] = []
    row = trial.measure("x", lambda: {"value": calls.append(1) or 0.5}, m=3)
    assert (row["value"], row["m"], row["seed"]) == (0.5, 3, 0)
    with Log.of(tmp_path, 0) as log:
        again = Trial(None, 0, CPU, log).measure("x", lambda: {"value": calls.append(2) or 1}, m=3)
    assert again == row
    assert calls == [1]


def test_the_same_measurement_twice_is_refused(trial: Trial) -> None:
    trial.measure("x", lambda: {"value": 1}, m=3)
    trial.measure("x", lambda: {"value": 1}, m=4)
    with pytest.raises(ValueError, match=r"^trial: 'x' with m=3 was asked for twice; add a column"):
        trial.measure("x", lambda: {"value": 2}, m=3)


def test_once_is_measured_by_seed_0_alone(trial: Trial, log: Log, tmp_path: Path) -> None:
    row = trial.measure("x", lambda: {"value": 1}, once=True)
    with Log.of(tmp_path, 1) as other:
        second = Trial(None, 1, CPU, other, first=log)
        assert second.measure("x", lambda: {"value": 2}, once=True) == row
        with pytest.raises(ValueError, match="seed 0 did not measure 'y'"):
            second.measure("y", lambda: {"value": 2}, once=True)
        assert not other.rows


def test_a_number_named_seconds_is_the_time(trial: Trial) -> None:
    row = trial.measure("x", lambda: {"value": 1, "seconds": 0.125})
    assert row["seconds"] == 0.125
    assert "seconds" not in row.numbers


def test_wrong_values_name_themselves(trial: Trial) -> None:
    with pytest.raises(TypeError, match=r"^x: value must be a number or a string, got list\.$"):
        trial.measure("x", lambda: {"value": [1]})
    with pytest.raises(ValueError, match="steps must be >= 0 and every >= 1, got steps=3, every=0"):
        trial.train("y", {}, 3, Counter().step, every=0)


def test_generators_depend_on_seed_and_key_alone(trial: Trial, log: Log) -> None:
    draw = torch.rand(3, generator=trial.generator("points", 2))
    torch.rand(5)
    assert torch.equal(draw, torch.rand(3, generator=trial.generator("points", 2)))
    assert not torch.equal(draw, torch.rand(3, generator=trial.generator("points", 3)))
    other = Trial(None, 1, CPU, log)
    assert not torch.equal(draw, torch.rand(3, generator=other.generator("points", 2)))
    # Spelt out, so that a later release draws the points of an older run.
    digest = hashlib.blake2b(b'[0, "points"]', digest_size=8).digest()
    assert trial.generator("points").initial_seed() == int.from_bytes(digest, "big") >> 1


def test_global_generator_is_seeded_inside_and_restored(trial: Trial, log: Log) -> None:
    before = torch.get_rng_state()
    first = trial.measure("x", lambda: {"value": torch.rand(())})
    trial.train("y", {}, 2, lambda index: {"value": torch.rand(())}, every=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    log.rows.clear()
    again = Trial(None, 0, CPU, log).measure("x", lambda: {"value": torch.rand(())})
    assert again["value"] == first["value"]


def test_train_records_and_returns_all_rows(trial: Trial) -> None:
    counter = Counter()
    rows = trial.train(
        "sum", {"c": counter}, 7, counter.step, every=3, observe=lambda: {"twice": 2}, m=1
    )
    assert [(row["step"], row["total"], row["twice"]) for row in rows] == [
        (3, 3.0, 2),
        (6, 15.0, 2),
        (7, 21.0, 2),
    ]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_steps_without_numbers_leave_no_rows(trial: Trial) -> None:
    assert trial.train("quiet", {}, 4, lambda index: None, every=2) == []
    assert trial.train("nothing", {}, 0, Counter().step, every=2) == []


@pytest.mark.parametrize("fail", range(8))
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_training_broken_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: int, seconds: float
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", seconds)
    ran: list[int] = []
    totals = []
    for broken in (Counter(fail), Counter()):
        with Log.of(tmp_path, 0) as log:

            def step(index: int, broken: Counter = broken) -> dict[str, torch.Tensor]:
                ran.append(index)
                return broken.step(index)

            try:
                rows = Trial(None, 0, CPU, log).train("s", {"c": broken}, 8, step, every=3)
            except InterruptedError:
                continue
            totals = [row["total"] for row in rows]
    assert totals == [3.0, 15.0, 28.0]
    # A checkpoint after every step repeats the broken one alone; none at all repeats everything.
    assert ran == [*range(fail + 1), *range(fail if seconds == 0 else 0, 8)]


def test_finished_training_restores_its_last_state(tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        net = nn.Linear(2, 1)
        optimiser = torch.optim.Adam(net.parameters())

        def step(index: int, net: nn.Linear = net, optimiser: torch.optim.Adam = optimiser) -> None:
            optimiser.zero_grad()
            net(torch.rand(4, 2)).square().sum().backward()
            optimiser.step()

        with Log.of(tmp_path, 0) as log:
            state = {"net": net, "optimiser": optimiser}
            Trial(None, 0, CPU, log).train("fit", state, 5, step, every=5)
        weights.append(net.weight.detach().clone())
    assert torch.equal(*weights)


def test_broken_checkpoint_is_named(tmp_path: Path) -> None:
    for content in (b"not a checkpoint", None):
        with Log.of(tmp_path, 0) as log:
            Trial(None, 0, CPU, log).train("s", {"c": Counter()}, 1, Counter().step, every=1)
            (path,) = (tmp_path / "checkpoints").iterdir()
            if content is not None:
                path.write_bytes(content)
            sentence = (
                f"{path} is broken or belongs to another state; "
                "remove it and this training starts again."
            )
            with pytest.raises(RunError) as caught:
                Trial(None, 0, CPU, log).train("s", {"d": Counter()}, 1, Counter().step, every=1)
            assert str(caught.value) == sentence
        path.unlink()


def test_state_that_could_not_be_read_back_is_refused_first(trial: Trial) -> None:
    counter = Counter()
    counter.total = Path()  # type: ignore[assignment]
    with pytest.raises(TypeError) as caught:
        trial.train("s", {"c": counter}, 3, lambda index: pytest.fail("it ran"), every=1)
    assert str(caught.value) == (
        "trial.train: state 'c' must be made of tensors, numbers, strings, lists and dicts alone."
    )


def test_lines_are_few(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "lines"
    with path.open("w") as stream:
        lines = Lines(stream, lambda: now)
        with lines.section("seed 1 of 1", None), lines.section("gates", 96):
            for _ in range(96):
                now += LINE_SECONDS / 8
                lines.advance()
    text = path.read_text().splitlines()
    assert len(text) == 12
    assert text[-1] == "    48 s  seed 1 of 1 · gates 96/96"
