// CUDA kernels of the gated linear unit. The activation is a run-time switch, the same for a whole
// launch: one kernel for each dtype and access width keeps the build short, and memory bounds it.
#include "../../core/column_sums.cuh"
#include "../../core/dispatch.h"
#include "../../core/registry.h"
#include "arguments.h"

namespace dlaccel::glu {
namespace {

struct Activation {
  int64_t code;
  double alpha, limit;
};

// Operands: y | gate, value and, with biases, gate bias, value bias.
template <bool biased>
struct Forward {
  Activation activation;

  template <class Tile, class Emit>
  __device__ __forceinline__ void operator()(const Tile& tile, const Emit& emit) const {
    visit_activation(activation.code, activation.alpha, activation.limit, [&](auto a) {
      DL_UNROLL
      for (int e = 0; e < Tile::elements; ++e) {
        auto g = load(tile.at[1][e]), v = load(tile.at[2][e]);
        if constexpr (biased) g += load(tile.at[3][e]), v += load(tile.at[4][e]);
        emit(e, 0, forward(a, g, v));
      }
    });
  }
};

// Operands: dgate, dvalue, y | dy, gate, value and, with biases, gate bias, value bias.
template <bool biased>
struct Backward {
  Activation activation;

  template <class Tile, class Emit>
  __device__ __forceinline__ void operator()(const Tile& tile, const Emit& emit) const {
    visit_activation(activation.code, activation.alpha, activation.limit, [&](auto a) {
      DL_UNROLL
      for (int e = 0; e < Tile::elements; ++e) {
        auto g = load(tile.at[4][e]), v = load(tile.at[5][e]);
        if constexpr (biased) g += load(tile.at[6][e]), v += load(tile.at[7][e]);
        const auto r = backward(a, load(tile.at[3][e]), g, v);
        emit(e, 0, r.gate);
        emit(e, 1, r.value);
        emit(e, 2, r.product);
      }
    });
  }
};

// dgate, dvalue, y | dy, gate, value, ...: where y is not asked for, gate stands for it in the
// plan, so that it hinders no merging, and its data ends as null.
template <int N>
Loops<N> plan_backward(std::array<View, N> views, const Maybe& product, Order order) {
  views[2] = product.value_or(views[4]);
  Loops<N> loops = plan_loops<N>(views, order);
  if (!product) loops.data[2] = nullptr;
  return loops;
}

void glu(Lane lane, const View& out, const View& gate, const View& value, int64_t code,
         double alpha, double limit, const Maybe& gate_bias, const Maybe& value_bias) {
  check_glu(out, gate, value, gate_bias, value_bias, code);
  const Activation activation{code, alpha, limit};
  visit_floating(out.dtype, [&]<class S>() {
    if (gate_bias) {
      const auto loops = plan_loops<5>(
          {out, gate, value, gate_bias->expand_like(gate), value_bias->expand_like(value)});
      run_elementwise<S, 1>(loops, Forward<true>{activation}, lane.stream);
    } else {
      run_elementwise<S, 1>(plan_loops<3>({out, gate, value}), Forward<false>{activation},
                            lane.stream);
    }
  });
}

void glu_grad(Lane lane, const View& dgate, const View& dvalue, const Maybe& product,
              const Maybe& dgate_bias, const Maybe& dvalue_bias, const View& dy, const View& gate,
              const View& value, const Maybe& gate_bias, const Maybe& value_bias, int64_t code,
              double alpha, double limit, const Maybe& scratch) {
  check_glu_grad(dgate, dvalue, product, dgate_bias, dvalue_bias, dy, gate, value, gate_bias,
                 value_bias, code);
  const Activation activation{code, alpha, limit};
  visit_floating(dy.dtype, [&]<class S>() {
    if (gate_bias) {
      const auto loops = plan_backward<8>({dgate,
                                           dvalue,
                                           {},
                                           dy,
                                           gate,
                                           value,
                                           gate_bias->expand_like(gate),
                                           value_bias->expand_like(value)},
                                          product, Order::keep_columns);
      run_with_column_sums<S, 2, 3>(loops, Backward<true>{activation}, {*dgate_bias, *dvalue_bias},
                                    scratch, lane.stream);
    } else {
      run_elementwise<S, 3>(
          plan_backward<6>({dgate, dvalue, {}, dy, gate, value}, product, Order::any),
          Backward<false>{activation}, lane.stream);
    }
  });
}

DLACCEL_REGISTER(glu, glu);
DLACCEL_REGISTER(glu_grad, glu_grad);
DLACCEL_REGISTER(glu_packed, packed<&glu>);
DLACCEL_REGISTER(glu_packed_grad, packed_grad<&glu_grad>);

}  // namespace
}  // namespace dlaccel::glu
