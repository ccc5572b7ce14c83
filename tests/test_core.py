"""The compiled modules by themselves, their choice at import, and life without them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dlaccel import _core, _op

needs_modules = pytest.mark.skipif(_core.CPU is None, reason="no compiled module here")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip


@needs_modules
def test_kernels_take_numpy_arrays() -> None:
    gate, value = np.random.default_rng(0).normal(size=(2, 5, 9)).astype(np.float32)
    out = np.empty_like(gate)
    _core.CPU.glu(1, out, gate, value, 8, 1.702, 7.0)
    np.testing.assert_allclose(out, np.tanh(gate.astype(float)) * value, rtol=1e-6)


@needs_modules
def test_kernels_take_capsules_as_older_torch_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = torch.randn(5, 9, requires_grad=True)
    out = torch.empty(5, 9)
    call = _core._through_capsules(_core.CPU.glu)
    call(1, out, gate, gate, 0, 1.702, 7.0)
    torch.testing.assert_close(out, gate.detach() ** 2)


@needs_modules
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1,), TypeError, "glu takes 9 arguments, got 1."),
        (
            (1, [1.0], [1.0], [1.0], 0, 1.0, 1.0),
            TypeError,
            "a kernel takes tensors and arrays that speak DLPack, got list.",
        ),
        (
            (1, *[np.zeros(2, np.int8)] * 3, 0, 1.0, 1.0),
            TypeError,
            "dtype must be float64, float32, bfloat16, float16, int64 or int32.",
        ),
        (
            (1, np.zeros(2), np.zeros(2), np.zeros(3), 0, 1.0, 1.0),
            ValueError,
            "operands must have one shape.",
        ),
        (
            (1, np.zeros(2), np.zeros(2), np.zeros(2), 99, 1.0, 1.0),
            ValueError,
            "glu: unknown activation code.",
        ),
        (
            (1, *[np.zeros((1,) * 13)] * 3, 0, 1.0, 1.0),
            ValueError,
            "tensor must have at most 12 axes.",
        ),
    ],
)
def test_bindings_refuse_what_they_cannot_run(arguments, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:
        _core.CPU.glu(*arguments)
    assert str(caught.value) == message


@needs_modules
@pytest.mark.parametrize("isa", _core.ISAS)
def test_isa_is_overridden_by_the_environment(isa: str) -> None:
    if isa not in _core.runnable():
        pytest.skip(f"this processor or this build has no {isa}")
    result = python("from dlaccel import _core; print(_core.ISA)", DLACCEL_ISA=isa)
    assert result.stdout.strip() == isa


@needs_modules
def test_an_unknown_isa_is_refused() -> None:
    result = python("import dlaccel", DLACCEL_ISA="sse9")
    allowed = ", ".join(_core.runnable())
    assert result.stderr.splitlines()[-1] == (
        f"ImportError: DLACCEL_ISA must be one of {allowed} on this machine, got 'sse9'."
    )


WITHOUT = """
import importlib.util as u, warnings
find, hidden = u.find_spec, ("dlaccel._cpu", "dlaccel._cuda")
u.find_spec = lambda name, *a: None if name.startswith(hidden) else find(name, *a)
import dlaccel, torch
from dlaccel.ops import glu
g = torch.randn(3, 4, requires_grad=True)
y = glu(g, g.detach(), "tanh")
torch.testing.assert_close(y, torch.tanh(g) * g.detach())
y.sum().backward()
out = torch.empty(3, 4)
torch.testing.assert_close(glu(g.detach(), g.detach(), "tanh", out=out), y.detach())
glu(g.bfloat16(), g.bfloat16()).sum().backward()
"""


def test_without_compiled_modules_the_references_take_over_with_one_warning() -> None:
    result = python(WITHOUT)
    assert result.returncode == 0, result.stderr
    warned = [line for line in result.stderr.splitlines() if "RuntimeWarning" in line]
    assert len(warned) == 1
    assert "dlaccel runs without its kernels, on plain torch: no compiled module for" in warned[0]


def test_report_names_what_was_built_and_picked() -> None:
    lines = dict(_core.report().lines)
    assert lines["torch"] == torch.__version__
    assert lines.get("cpu module picked", "").partition(" ")[0] == (_core.ISA or "")


def test_private_names_of_torch_that_the_routes_rest_on() -> None:
    assert _op._functorch_active() is False
    torch.func.vmap(lambda x: [x, _seen.append(_op._functorch_active())][0])(torch.ones(2))
    assert _seen == [True]
    assert _op._dispatch_modes() == 0
    assert _op._tracing() is None
    assert _op.forward_ad._current_level == -1


_seen: list[bool] = []


def test_a_lazily_negated_tensor_is_read_as_its_value() -> None:
    from dlaccel.ops import glu

    negated = torch.randn(6, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    torch.testing.assert_close(glu(negated, negated, "identity"), negated.resolve_neg() ** 2)


def test_trace_and_dispatch_modes_see_the_operator() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from dlaccel.ops import glu

    with FlopCounterMode(display=False):
        assert glu(torch.ones(3), torch.ones(3), "identity").sum() == 3
    with torch.device("meta"):
        assert glu(torch.empty(4, 3), torch.empty(4, 3)).shape == (4, 3)
