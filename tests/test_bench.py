"""The benchmarks' own machinery: what is timed, what is refused, what is kept."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlaccel import _core
from dlaccel.ops import SPECS

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # last, so that an installed dlaccel is the one that is measured

from bench import cases, compare, gated_mlp, load, memory, rows, run, table  # noqa: E402
from bench.accept import Line  # noqa: E402
from bench.cases import Buffers, Case  # noqa: E402
from bench.gate import Errors, Oracle, errors, refusal  # noqa: E402
from bench.measure import Effort, measure  # noqa: E402
from bench.peers import EAGER  # noqa: E402
from bench.rows import OURS, Row  # noqa: E402
from bench.timing import Contestant, Race, Spread, race  # noqa: E402

CPU = torch.device("cpu")
QUICK = Effort(rounds=5, budget=0.5, compiled=False)
GLU = SPECS[0]
SMALL = Case(GLU, "silu", (64, 96), torch.float32)
kernels = pytest.mark.skipif(_core.CPU is None, reason="needs the compiled CPU module")


def row(who: str = OURS, **fields: object) -> Row:
    return replace(Row("glu", "silu", "4x4", "float32", "forward", who, device="d"), **fields)


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4, 1, 2, 3, 5]) == Spread(3, 2, 4)
    assert Spread.of([7.0]) == Spread(7, 7, 7)


def test_ratio_is_taken_within_a_round() -> None:
    # Ours is twice as fast in every round of a machine that slows down ten times.
    found = Race({OURS: [1.0, 10.0, 100.0], EAGER: [2.0, 20.0, 200.0]})
    assert found.ratio(EAGER, OURS) == Spread(2, 2, 2)


def test_race_runs_everyone_in_each_round_and_times_no_preparation() -> None:
    order: list[str] = []

    def contestant(who: str, seconds: float) -> Contestant:
        def prepare(turn: int) -> tuple[int]:
            time.sleep(0.003)
            return (turn,)

        def function(turn: int) -> None:
            order.append(who)
            time.sleep(seconds)

        return Contestant(who, function, prepare)

    found = race([contestant("a", 0.0005), contestant("b", 0.0005)], CPU, rounds=8, budget=60)
    assert found.rounds == 8
    assert all(found.time(who).low < 0.003 for who in "ab")
    rounds = [tuple(order[i : i + 2]) for i in range(len(order) - 16, len(order), 2)]
    assert {tuple(sorted(pair)) for pair in rounds} == {("a", "b")}
    assert len(set(rounds)) == 2  # either goes first now and then


def test_race_stops_when_its_budget_is_spent() -> None:
    slow = Contestant("slow", lambda: time.sleep(0.01), lambda turn: ())
    assert race([slow], CPU, rounds=1000, budget=0.0).rounds == 5


class FakeEvent:
    """A device whose kernels begin when the sleeping one ends, at ``awake`` on the host's clock."""

    awake = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = max(time.perf_counter(), FakeEvent.awake)

    def elapsed_time(self, end: "FakeEvent") -> float:
        return (end.at - self.at) * 1e3


def test_device_time_excludes_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []

    def sleep(cycles: int) -> None:
        sleeps.append(cycles / 2e9)
        FakeEvent.awake = time.perf_counter() + sleeps[-1]

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "_sleep", sleep)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    slow_host = Contestant("slow host", lambda: time.sleep(0.002), lambda turn: ())
    found = race([slow_host], torch.device("cuda"), rounds=5, budget=60)
    # Queueing takes the host 2 ms a call; the kernels, none, take the device no time.
    assert found.time("slow host").median < 0.0005
    assert max(sleeps) > 0.004  # it slept again, longer than the host takes


def test_turns_rotate_through_all_buffers() -> None:
    seen = set()
    rotating = Contestant("r", seen.add, lambda turn: (turn % 3,))
    race([rotating], CPU, rounds=3, budget=1)
    assert seen == {0, 1, 2}


@kernels
def test_a_right_kernel_is_measured() -> None:
    found = measure(SMALL, cases.STAGES, CPU, QUICK)
    assert not found.refused
    ours = {r.stage: r for r in found.rows if r.who == OURS}
    assert set(ours) == set(cases.STAGES)
    for each in ours.values():
        assert each.ratio == 1
        assert each.ms is not None
        assert each.error is not None
        assert each.ms_low <= each.ms <= each.ms_high
        assert 0 < each.error <= GLU.limit(torch.float32, SMALL.size)
        assert each.percent > 0
    assert {r.stage for r in found.rows if r.who == EAGER} == {*cases.STAGES} - {"out"}


@kernels
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda g, v, **k: GLU.function(g, v, **k) * 1.001, "its error 0.001 passes the limit"),
        (
            lambda g, v, **k: GLU.function(g, v.detach(), **k) + 0 * v,
            "its error 1 passes the limit",
        ),
        (
            lambda g, v, **k: GLU.function(g, v, **k) * float("nan"),
            "its error inf passes the limit",
        ),
        (lambda g, v, **k: g @ v, "it raises RuntimeError"),
    ],
    ids=["result", "gradient", "nan", "raises"],
)
def test_a_wrong_kernel_is_refused(wrong: object, why: str) -> None:
    case = replace(SMALL, spec=replace(GLU, function=wrong))
    found = measure(case, ("forward",), CPU, QUICK)
    assert not found.rows
    (line,) = found.refused
    assert line.startswith(f"glu silu 64x96 float32: dlaccel is not timed: {why}")


def test_a_kernel_much_worse_than_eager_is_refused_below_the_limit() -> None:
    buffers = Buffers(SMALL, CPU)
    eager = Errors(4e-8, 5e-8, 0)
    assert refusal(buffers, Errors(7e-8, 9e-8, 0), eager) is None
    assert refusal(buffers, Errors(9e-8, 9e-8, 0), eager) == (
        "the error of its result, 9e-08, passes 2 times eager's 4e-08"
    )


def test_errors_tell_results_from_gradients() -> None:
    buffers = Buffers(SMALL, CPU)

    def half_gradient(gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        exact = SMALL.bind(GLU.reference)(gate, value)
        return exact / 2 + exact.detach() / 2

    found = errors(half_gradient, buffers, Oracle.of(buffers))
    assert found.of("forward") < 1e-6
    assert found.of("backward expanded") == pytest.approx(0.5)
    assert found.of("both") == pytest.approx(0.5)


@kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_gated_mlp_is_measured_or_refused(dtype: torch.dtype) -> None:
    mlp = gated_mlp.Mlp(8, 16, 24, dtype, CPU)
    found, races = gated_mlp.measure_one(mlp, QUICK)
    assert not found.refused
    assert set(races) == {"forward", "both"}
    everyone = {EAGER, OURS, gated_mlp.RECOMPUTE, gated_mlp.PRODUCTS}
    halves = {gated_mlp.CAST} if dtype == torch.bfloat16 else set()
    assert {r.who for r in found.rows if r.stage == "both"} == everyone | halves
    assert gated_mlp.from_words(*mlp.words) == mlp

    layer, weights = mlp.layers[OURS]
    mlp.layers[OURS] = (lambda x: layer(x) * 1.1), weights
    found, races = gated_mlp.measure_one(mlp, QUICK)
    assert not races
    assert found.refused[0].startswith(
        f"{' '.join(mlp.words)}: dlaccel is not timed: its error 0.1"
    )


def test_chunk_views_lie_in_one_tensor_and_copies_keep_strides() -> None:
    buffers = Buffers(replace(SMALL, layout="chunk"), CPU)
    gate, value = buffers.sets[0].tensors
    assert gate.stride() == value.stride() == (2 * 96, 1)
    assert gate.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
    copy = cases.leaf_copy(value)
    assert copy.stride() == value.stride()
    assert torch.equal(copy, value)


def test_upstream_gradients_are_given_dense_and_expanded() -> None:
    buffers = Buffers(SMALL, CPU)
    for stage, strides in (("backward", (96, 1)), ("backward expanded", (0, 0))):
        *_, dy = buffers.contestant(EAGER, SMALL.bind(GLU.reference), stage).prepare(0)
        assert dy.stride() == strides
    assert buffers.moved("backward") - buffers.moved("backward expanded") == 64 * 96 * 4


def test_selection_has_the_main_variant_first_and_every_variant() -> None:
    chosen = cases.select([GLU], "cpu", [torch.float32])
    assert chosen[0].case.words == ("glu", "silu", "2048x2816", "float32")
    assert {planned.case.variant for planned in chosen} == set(GLU.variants)
    assert len({planned.case.words for planned in chosen}) == len(chosen)
    for planned in chosen:
        assert cases.from_words(SPECS, *planned.case.words) == planned.case


def test_newer_rows_replace_older_ones_of_their_key(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows.merge(path, [row(ms=1.0), row(EAGER, ms=2.0)])
    rows.merge(path, [row(ms=3.0)])
    assert {r.who: r.ms for r in rows.read(path)} == {OURS: 3.0, EAGER: 2.0}
    assert rows.read(tmp_path) == rows.read(path)


def test_a_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LARGEST", 400)
    path = tmp_path / "rows.jsonl"
    monday = [row(who, ms=1.0, date="2026-01-05") for who in ("first", "second")]
    assert not rows.merge(path, monday)
    dropped = rows.merge(path, [row("new", ms=1.0, date="2026-01-06")])
    assert path.stat().st_size <= 400
    assert [r.who for r in dropped] == ["second"]
    assert [r.who for r in rows.read(path)] == ["first", "new"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"op": "glu"}'])
def test_a_file_that_is_no_rows_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:1 must be a row of a benchmark, got"):
        rows.read(path)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.0, 2.0, "faster"), (6.0, 7.0, "slower"), (3.0, 5.0, "tie")]
)
def test_a_difference_below_the_spread_is_a_tie(low: float, high: float, verdict: str) -> None:
    before = row(ms=4.5, ms_low=4.0, ms_high=5.0)
    assert compare.verdict(before, row(ms=(low + high) / 2, ms_low=low, ms_high=high)) == verdict


def test_compare_prints_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, ms in (("a", 4.0), ("b", 2.0)):
        rows.merge(tmp_path / f"{name}.jsonl", [row(ms=ms, ms_low=ms, ms_high=ms)])
    assert compare.main([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert "2.00" in shown
    assert "faster" in shown


def test_table_has_a_column_for_each_contestant() -> None:
    head, lines = table.ratios([row(ms=2.0, ratio=1.0), row(EAGER, ms=5.0, ratio=2.5)])
    assert dict(zip(head, lines[0], strict=True))[EAGER] == "2.50"
    assert table.ratios([row(EAGER, ms=5.0)])[1] == []


def test_lines_are_met_by_their_median() -> None:
    measured = Spread(2.0, 1.5, 2.5)
    assert Line("", "at least", 2.0, measured).met
    assert not Line("", "at least", 2.1, measured).met
    assert Line("", "at most", 2.0, measured).met
    assert not Line("", "at most", 1.9, measured).met
    assert Line("", "at most", 1.9, measured, others=0.0).verdict == "NO"
    assert Line("", "at most", 1.9, measured, others=0.5).verdict == "NO, busy"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux's /proc/stat")
def test_own_work_is_not_held_against_others() -> None:
    quiet, mine = load.Load(10.0, 5.0, 0.0), load.Load(12.0, 7.0, 2.0)
    assert quiet.others_until(mine) == 0
    busy = load.Load(14.0, 7.0, 2.0)
    assert quiet.others_until(busy) == pytest.approx(2 / (2 * (os.cpu_count() or 1)))
    _, others = load.during(lambda: time.sleep(0.05))
    assert others is not None
    assert 0 <= others <= 1


def test_patience_ends() -> None:
    calls: list[int] = []
    patience = load.Patience(seconds=0.2)
    assert patience.quietly(lambda: calls.append(1))[0] is None
    assert calls
    assert patience.seconds <= 0.2
    assert load.Patience(0.0).quietly(lambda: 7)[0] == 7


@kernels
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_peak_memory_counts_outputs_and_temporaries() -> None:
    asked = [
        Row("glu", "silu", "1024x1024", "float32", stage, who)
        for stage, who in (("forward", OURS), ("out", OURS), ("forward", EAGER))
    ]
    mib = [r.peak_mib for r in memory.filled("op", asked)]
    # One result of 4 MiB; none; silu(gate) and the product. Pages are counted in batches.
    assert mib == pytest.approx([4, 0, 8], abs=0.5)


@kernels
def test_run_writes_rows_and_a_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--group", "ops", "--op", "glu", "--size", "small", "--dtype", "float32"]
    quick = ["--quick", "--no-compile", "--no-save", "--device", "cpu", "--out", str(tmp_path)]
    assert run.main(arguments + quick) == 0
    (path,) = tmp_path.glob("*.jsonl")
    found = rows.read(path)
    assert {r.stage for r in found} == set(cases.STAGES)
    assert all(r.device and r.versions and r.date and r.threads for r in found)
    assert json.loads(path.read_text().splitlines()[0])["op"] == "glu"
    assert "times of others over ours" in capfd.readouterr().out


@kernels
def test_a_refused_kernel_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SPECS", (replace(GLU, function=lambda g, v, **k: g * v),))
    arguments = ["--group", "ops", "--size", "small", "--dtype", "float32", "--device", "cpu"]
    assert run.main([*arguments, "--quick", "--no-compile", "--no-save"]) == 1
    assert "REFUSED: glu silu 64x64 float32: dlaccel is not timed:" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--op", "swish"],
            "--op must be among glu, glu biased, glu_packed, glu_packed biased, got",
        ),
        (["--threads", "0"], "--threads must be positive, got 0."),
        (["--group", "all"], "invalid choice: 'all'"),
    ],
)
def test_bad_options_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.parse(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
