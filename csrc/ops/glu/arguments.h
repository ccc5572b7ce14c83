// What glu and glu_grad demand of their arguments, on every device. Outputs come first; biases and
// their gradients come all or not at all.
#pragma once

#include <initializer_list>
#include <optional>

#include "../../core/registry.h"
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

// One tensor that holds gate and value side by side, taken apart; a missing bias stays missing.
struct Halves {
  Maybe gate, value;
};

inline Halves halves(const Maybe& x, int64_t gate_first) {
  if (!x) return {};
  require(x->ndim > 0 && x->columns() % 2 == 0, "glu_packed: the last axis must be even.");
  const int64_t width = x->columns() / 2;
  const View left = x->narrow(0, width), right = x->narrow(width, width);
  return gate_first ? Halves{left, right} : Halves{right, left};
}

// glu and glu_grad of a .cpp or .cu on packed tensors.
template <auto glu>
void packed(Lane lane, const View& out, const View& x, int64_t code, double alpha, double limit,
            int64_t gate_first, const Maybe& bias) {
  const Halves operands = halves(x, gate_first), biases = halves(bias, gate_first);
  glu(lane, out, *operands.gate, *operands.value, code, alpha, limit, biases.gate, biases.value);
}

template <auto glu_grad>
void packed_grad(Lane lane, const View& dx, const Maybe& product, const Maybe& dbias,
                 const View& dy, const View& x, const Maybe& bias, int64_t code, double alpha,
                 double limit, int64_t gate_first, const Maybe& scratch) {
  const Halves gradients = halves(dx, gate_first), bias_gradients = halves(dbias, gate_first);
  const Halves operands = halves(x, gate_first), biases = halves(bias, gate_first);
  glu_grad(lane, *gradients.gate, *gradients.value, product, bias_gradients.gate,
           bias_gradients.value, dy, *operands.gate, *operands.value, biases.gate, biases.value,
           code, alpha, limit, scratch);
}

}  // namespace dlaccel::glu
