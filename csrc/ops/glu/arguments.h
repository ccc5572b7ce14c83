// What glu and glu_grad demand of their arguments, on every device. Outputs come first; biases and
// their gradients come all or not at all.
#pragma once

#include <initializer_list>
#include <optional>

#include "../../core/view.h"
#include "glu.h"

namespace dlaccel::glu {

using Maybe = std::optional<View>;

inline const View* pointer(const Maybe& view) { return view ? &*view : nullptr; }

inline void require_dtype(DType dtype, std::initializer_list<const View*> views) {
  for (const View* view : views)
    require(!view || view->dtype == dtype, "glu: operands must have one dtype.");
}

inline void require_activation(int64_t code) {
  require(code >= 0 && code < kActivations, "glu: unknown activation code.");
}

inline void check_glu(const View& out, const View& gate, const View& value, const Maybe& gate_bias,
                      const Maybe& value_bias, int64_t code) {
  require_activation(code);
  require_dtype(out.dtype, {&gate, &value, pointer(gate_bias), pointer(value_bias)});
  require(bool(gate_bias) == bool(value_bias), "glu: biases come both or not at all.");
}

inline void check_glu_grad(const View& dgate, const View& dvalue, const Maybe& product,
                           const Maybe& dgate_bias, const Maybe& dvalue_bias, const View& dy,
                           const View& gate, const View& value, const Maybe& gate_bias,
                           const Maybe& value_bias, int64_t code) {
  require_activation(code);
  require_dtype(dy.dtype, {&dgate, &dvalue, &gate, &value, pointer(product), pointer(gate_bias),
                           pointer(value_bias), pointer(dgate_bias), pointer(dvalue_bias)});
  const bool biased = bool(gate_bias);
  require(biased == bool(value_bias) && biased == bool(dgate_bias) && biased == bool(dvalue_bias),
          "glu_grad: biases and their gradients come all or not at all.");
  require(
      !biased || (dgate_bias->ndim == 1 && dvalue_bias->ndim == 1 &&
                  dgate_bias->numel() == gate.columns() && dvalue_bias->numel() == gate.columns()),
      "glu_grad: a bias gradient must be as long as the last axis.");
}

}  // namespace dlaccel::glu
