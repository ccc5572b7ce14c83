"""The gated MLP, as one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from .. import _check
from .._op import is_plainly_eager
from ..ops import ACTIVATIONS, glu, glu_packed
from ._arrangement import KINDS, OWN, rearranged, recognised
from ._features import check_counts, check_width
from ._gated_function import Form, Parameters, gated_mlp

GATED_UNITS = {
    "glu": "sigmoid",
    "swiglu": "silu",
    "geglu": "gelu",
    "reglu": "relu",
    "bilinear": "identity",
}
"""Names of gated units (Shazeer 2020), and their activations."""

Layout = Literal["separate", "packed", "interleaved"]
Gate = Literal["first", "last"]
Memory = Literal["keep", "recompute"]


class GatedMLP(nn.Module):
    r"""A feed-forward layer with a gate, :math:`y = W_d \, (a(W_g x + p) \, (W_u x + q)) + r`.

    What is saved for the backward pass besides x and the parameters, in units of rows times
    ``hidden_features`` elements, and the products of matrices in a training step:

    ==============================  =====  ========
    way                             saved  products
    ==============================  =====  ========
    torch operations, one by one      4       9
    this layer, composed (below)      3       9
    ``memory="keep"``                 2       9
    ``memory="recompute"``            0      11
    ==============================  =====  ========

    Eager tensors take one autograd function. ``torch.func`` transforms, forward-mode derivatives,
    ``torch.compile``, tensor subclasses, and projections that were replaced or have hooks take the
    composition of the projections and ``ops.glu``. Under autocast both compute in its dtype.

    On a CPU without products in bfloat16 or float16, those types run eagerly at about float32's
    speed, with float32 copies of some hundred rows of the weights at a time; ``nn/_half_tiles.py``
    says when.

    State dicts of other libraries load as they are: Llama, Phi-3 (Hugging Face), SwiGLU and GluMlp
    with the gate last (timm), Megatron's MLP, xformers' SwiGLU. They are rearranged while loading.

    Args:
        in_features: Width of x, (..., in_features).
        hidden_features: H, the number of products.
        out_features: Width of the result; None is ``in_features``.
        activation: swiglu, geglu, reglu, bilinear, glu, or a name from ``ops.ACTIVATIONS``.
        bias: Whether p, q and r are there, or a pair: p and q, and r.
        layout: Weights of gate and value as ``separate`` matrices (H, in_features), or as one of
            2H rows: ``packed``, all of one and then of the other, or ``interleaved``, in turn.
        gate: Whether the gate's rows come ``first`` or ``last`` in one matrix.
        memory: ``keep`` the pre-activations for the backward pass, or ``recompute`` them.
        alpha: Of the activation ``clamped``.
        limit: Of the activation ``clamped``.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        TypeError: A width is no integer; x is no tensor, or not of the parameters' dtype.
        ValueError: A width is not positive, a name unknown, or x not in_features wide.

    Source: Shazeer 2020 (arXiv 2002.05202), eq. 5 and 6.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int | None = None,
        *,
        activation: str = "swiglu",
        bias: bool | tuple[bool, bool] = False,
        layout: Layout = "separate",
        gate: Gate = "first",
        memory: Memory = "keep",
        alpha: float = 1.702,
        limit: float = 7.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_features = in_features if out_features is None else out_features
        check_counts(
            "GatedMLP",
            in_features=in_features,
            hidden_features=hidden_features,
            out_features=out_features,
        )
        _check.choice("GatedMLP", "activation", activation, (*GATED_UNITS, *ACTIVATIONS))
        _check.choice("GatedMLP", "layout", layout, ("separate", "packed", "interleaved"))
        _check.choice("GatedMLP", "gate", gate, ("first", "last"))
        _check.choice("GatedMLP", "memory", memory, ("keep", "recompute"))
        if not isinstance(bias, bool) and len(bias) != 2:
            _check.refuse("GatedMLP", "bias", "be True, False or a pair of them", bias, ValueError)
        if not limit > 0:
            _check.refuse("GatedMLP", "limit", "be positive", limit, ValueError)
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.out_features = out_features
        self.activation: Any = GATED_UNITS.get(activation, activation)
        self.alpha, self.limit = alpha, limit
        self.arrangement = OWN[layout, gate == "first"]
        scalars = (ACTIVATIONS.index(self.activation), alpha, limit)
        self._form = Form(self.arrangement, scalars, memory == "keep")
        inner, outer = (bias, bias) if isinstance(bias, bool) else bias
        rows = 2 * hidden_features // len(self.arrangement.projections)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        for name in self.arrangement.projections:
            self.add_module(name, nn.Linear(in_features, rows, inner, **where))
        down = nn.Linear(hidden_features, out_features, outer, **where)
        self.add_module(self.arrangement.down, down)

    @property
    def memory(self) -> Memory:
        """Whether pre-activations are kept or recomputed."""
        return "keep" if self._form.keep else "recompute"

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value (..., out_features) at x (..., in_features)."""
        check_width("GatedMLP", "x", x, self.in_features)
        *projections, down = (getattr(self, name) for name in self.arrangement.names)
        plain = all(map(_is_plain, (*projections, down)))
        if torch.compiler.is_compiling() or not plain:
            return self._composed(x, projections, down)
        weights = tuple(p.weight for p in projections)
        biases = tuple(p.bias for p in projections if p.bias is not None)
        parameters = Parameters(weights, biases, down.weight, down.bias)
        if x.is_meta or not is_plainly_eager(x, *parameters.flat):
            return self._composed(x, projections, down)
        if x.device != down.weight.device:
            rule = f"be on the parameters' device {down.weight.device}"
            _check.refuse("GatedMLP", "x", rule, x.device, ValueError)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, *flat = (_cast(t, dtype) for t in (x, *parameters.flat))
            parameters = Parameters.of(flat, len(weights))
        elif x.dtype != down.weight.dtype:
            rule = f"have the parameters' dtype {down.weight.dtype}"
            _check.refuse("GatedMLP", "x", rule, x.dtype, TypeError)
        return gated_mlp(self._form, x, parameters)

    def _composed(self, x: Tensor, projections: list[nn.Module], down: nn.Module) -> Tensor:
        pre = [projection(x) for projection in projections]
        first = self.arrangement.gate_first
        options: dict[str, Any] = {"alpha": self.alpha, "limit": self.limit}
        if self.arrangement.layout == "packed":
            half: Gate = "first" if first else "last"
            hidden = glu_packed(pre[0], self.activation, gate=half, **options)
        else:
            gate, value = pre if len(pre) == 2 else (pre[0][..., 0::2], pre[0][..., 1::2])
            gate, value = (gate, value) if first else (value, gate)
            hidden = glu(gate, value, self.activation, **options)
        result: Tensor = down(hidden)
        return result

    def extra_repr(self) -> str:
        """What the projections do not show."""
        gate = "first" if self.arrangement.gate_first else "last"
        return (
            f"activation={self.activation!r}, layout={self.arrangement.layout!r}, gate={gate!r}, "
            f"memory={self.memory!r}"
        )

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Tensor],
        *,
        layout: Layout = "separate",
        gate: Gate = "first",
        gate_in_state: Gate | None = None,
        **options: Any,
    ) -> Self:
        """A layer of the sizes, dtype and device of ``state``, with its values.

        Args:
            state: Parameters by the names of this layer or of one of the libraries above.
            layout: Of the new layer, whatever that of ``state``.
            gate: Of the new layer.
            gate_in_state: Which rows of one matrix are the gate's, where a library leaves it open:
                None is last for timm's GluMlp (fc1, fc2) and first for the others.
            **options: Further arguments of the layer: activation, memory, alpha, limit.

        Raises:
            ValueError: The names are not known, or shapes do not fit each other.
        """
        source = recognised(state)
        if source is None:
            rule = "have the parameter names of a known gated layer"
            _check.refuse("GatedMLP", "state", rule, sorted(state)[:8], ValueError)
        if gate_in_state is not None:
            _check.choice("GatedMLP", "gate_in_state", gate_in_state, ("first", "last"))
            source = replace(source, gate_first=gate_in_state == "first")
        target = OWN[layout, gate == "first"]
        own = rearranged(state, source, target)
        down = own[f"{target.down}.weight"]
        if down.ndim != 2:
            rule = "be a matrix"
            _check.refuse("GatedMLP", f"{source.down}.weight", rule, tuple(down.shape), ValueError)
        module = cls(
            own[f"{target.projections[0]}.weight"].shape[-1],
            down.shape[1],
            down.shape[0],
            bias=(f"{target.projections[0]}.bias" in own, f"{target.down}.bias" in own),
            layout=layout,
            gate=gate,
            device="meta",
            dtype=down.dtype,
            **options,
        ).to_empty(device=down.device)
        known = {f"{name}.{kind}" for name in source.names for kind in KINDS}
        others = {key: value for key, value in state.items() if key not in known}
        try:
            module.load_state_dict({**others, **own})
        except RuntimeError as error:
            raise ValueError(f"dlaccel.GatedMLP: state must fit together: {error}") from error
        return module

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        local = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        source = recognised(local)
        if source is not None and source != self.arrangement:
            try:
                converted = rearranged(local, source, self.arrangement)
            except ValueError as error:
                error_msgs.append(str(error))
                return
            for name in source.names:
                for kind in KINDS:
                    state_dict.pop(f"{prefix}{name}.{kind}", None)
            state_dict |= {f"{prefix}{key}": value for key, value in converted.items()}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _is_plain(projection: nn.Module) -> bool:
    """A linear map that nobody replaced, parametrised or hooked."""
    return type(projection) is nn.Linear and not (
        projection._forward_hooks
        or projection._forward_pre_hooks
        or projection._backward_hooks
        or projection._backward_pre_hooks
    )


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    """What autocast makes of an operand of a product: float64 stays."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(dtype)
