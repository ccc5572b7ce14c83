// CPU loops of the gated linear unit.
#include "../../core/column_sums.h"
#include "../../core/elementwise.h"
#include "../../core/registry.h"
#include "arguments.h"

namespace dlaccel::glu {
namespace {

// Calls body.operator()<S>(activation) for the dtype and the activation of a call.
template <class Body>
void visit(DType dtype, int64_t code, double alpha, double limit, Body&& body) {
  visit_floating(dtype, [&]<class S>() {
    visit_activation(code, alpha, limit,
                     [&](auto activation) { body.template operator()<S>(activation); });
  });
}

void glu(Lane lane, const View& out, const View& gate, const View& value, int64_t code,
         double alpha, double limit, const Maybe& gate_bias, const Maybe& value_bias) {
  check_glu(out, gate, value, gate_bias, value_bias, code);
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
              double alpha, double limit, const Maybe& /*scratch: CUDA's*/) {
  check_glu_grad(dgate, dvalue, product, dgate_bias, dvalue_bias, dy, gate, value, gate_bias,
                 value_bias, code);
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
    if (!gate_bias) {
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
DLACCEL_REGISTER(glu_packed, packed<&glu>);
DLACCEL_REGISTER(glu_packed_grad, packed_grad<&glu_grad>);

}  // namespace
}  // namespace dlaccel::glu
