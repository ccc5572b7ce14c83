// CPU loops of the gated linear unit. Outputs come first; biases come both or not at all.
#include "glu.h"

#include "../../core/column_sums.h"
#include "../../core/elementwise.h"
#include "../../core/registry.h"

namespace dlaccel::glu {
namespace {

using Maybe = std::optional<View>;

// Calls body.operator()<S>(activation) for the dtype and the activation of a call.
template <class Body>
void visit(DType dtype, int64_t code, double alpha, double limit, Body&& body) {
  visit_floating(dtype, [&]<class S>() {
    visit_activation(code, alpha, limit,
                     [&](auto activation) { body.template operator()<S>(activation); });
  });
}

void require_dtype(DType dtype, std::initializer_list<const View*> views) {
  for (const View* view : views)
    require(!view || view->dtype == dtype, "glu: operands must have one dtype.");
}

const View* pointer(const Maybe& view) { return view ? &*view : nullptr; }

void glu(Lane lane, const View& out, const View& gate, const View& value, const Maybe& gate_bias,
         const Maybe& value_bias, int64_t code, double alpha, double limit) {
  require_dtype(out.dtype, {&gate, &value, pointer(gate_bias), pointer(value_bias)});
  require(bool(gate_bias) == bool(value_bias), "glu: biases come both or not at all.");
  visit(out.dtype, code, alpha, limit, [&]<class S>(auto activation) {
    using V = Vec<Compute<S>>;
    if (gate_bias) {
      const auto formula = [=](V g, V v, V p, V q) {
        return std::array{forward(activation, g + p, v + q)};
      };
      const auto loops = plan_loops<5>(
          {out, gate, value, gate_bias->expand_like(gate), value_bias->expand_like(value)});
      Elementwise<S, 1, 5, decltype(formula)>(loops, formula).run_all(lane.threads);
    } else {
      const auto formula = [=](V g, V v) { return std::array{forward(activation, g, v)}; };
      Elementwise<S, 1, 3, decltype(formula)>(plan_loops<3>({out, gate, value}), formula)
          .run_all(lane.threads);
    }
  });
}

void glu_grad(Lane lane, const View& dgate, const View& dvalue, const Maybe& product,
              const Maybe& dgate_bias, const Maybe& dvalue_bias, const View& dy, const View& gate,
              const View& value, const Maybe& gate_bias, const Maybe& value_bias, int64_t code,
              double alpha, double limit) {
  require_dtype(dy.dtype, {&dgate, &dvalue, &gate, &value, pointer(product), pointer(gate_bias),
                           pointer(value_bias), pointer(dgate_bias), pointer(dvalue_bias)});
  const bool biased = bool(gate_bias);
  require(biased == bool(value_bias) && biased == bool(dgate_bias) && biased == bool(dvalue_bias),
          "glu_grad: biases and their gradients come all or not at all.");
  visit(dy.dtype, code, alpha, limit, [&]<class S>(auto activation) {
    using V = Vec<Compute<S>>;
    const auto pair = [=](V d, V g, V v) {
      const auto r = backward(activation, d, g, v);
      return std::array{r.gate, r.value};
    };
    const auto triple = [=](V d, V g, V v) {
      const auto r = backward(activation, d, g, v);
      return std::array{r.gate, r.value, r.product};
    };
    if (!biased) {
      if (product) {
        Elementwise<S, 3, 6, decltype(triple)>(
            plan_loops<6>({dgate, dvalue, *product, dy, gate, value}), triple)
            .run_all(lane.threads);
      } else {
        Elementwise<S, 2, 5, decltype(pair)>(plan_loops<5>({dgate, dvalue, dy, gate, value}), pair)
            .run_all(lane.threads);
      }
      return;
    }
    const View p = gate_bias->expand_like(gate), q = value_bias->expand_like(value);
    require(dgate_bias->numel() == gate.columns() && dvalue_bias->numel() == gate.columns(),
            "glu_grad: a bias gradient must be as long as the last axis.");
    const std::array<View, 2> totals = {*dgate_bias, *dvalue_bias};
    const auto with_bias = [](auto formula) {
      return [=](V d, V g, V v, V bg, V bv) { return formula(d, g + bg, v + bv); };
    };
    if (product) {
      run_with_column_sums<S, 2, 3>(
          plan_loops<8>({dgate, dvalue, *product, dy, gate, value, p, q}, Order::keep_columns),
          with_bias(triple), totals, lane.threads);
    } else {
      run_with_column_sums<S, 2, 2>(
          plan_loops<7>({dgate, dvalue, dy, gate, value, p, q}, Order::keep_columns),
          with_bias(pair), totals, lane.threads);
    }
  });
}

DLACCEL_REGISTER(glu, glu);
DLACCEL_REGISTER(glu_grad, glu_grad);

}  // namespace
}  // namespace dlaccel::glu
