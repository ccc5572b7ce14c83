// Tangent kernels of layers from their Gram matrices: K += sum over layers of
// s (A A'^T + b) * (G G'^T), entry by entry. The one formula, and what every device demands.
#pragma once

#include <optional>

#include "../../core/dispatch.h"
#include "../../core/hd.h"

namespace dlaccel::ntk_hadamard {

using Maybe = std::optional<View>;

// A layer's entry: `left` of A A'^T, `right` of G G'^T.
template <class T>
DL_HD T entry(T left, T right, T bias, T scale) {
  return scale * (left + bias) * right;
}

// A matrix for each network; one alone is that of the first.
inline View by_network(const View& view) {
  if (view.ndim != 2) return view;
  View all = view;
  all.ndim = 3;
  all.shape = {1, view.shape[0], view.shape[1]};
  all.strides = {0, view.strides[0], view.strides[1]};
  return all;
}

inline Maybe by_network(const Maybe& view) { return view ? Maybe(by_network(*view)) : view; }

struct Arguments {
  View out, a1;
  Maybe g1, a2, g2;  // no a2: the rows are the columns, and one triangle is computed
  View widths, bias, scale;
  Maybe gram;  // stands for G G'^T of every layer
  int64_t networks = 0, outputs = 1, layers = 0;

  bool symmetric() const { return !a2; }
  int64_t rows() const { return out.shape[1]; }
  int64_t columns() const { return out.shape[2]; }
  bool empty() const { return out.numel() == 0; }
};

inline bool is_matrix(const View& view, DType dtype, int64_t networks, int64_t rows) {
  return view.ndim == 3 && view.dtype == dtype && view.shape[0] == networks &&
         view.shape[1] == rows;
}

inline bool is_vector(const View& view, DType dtype, int64_t length) {
  return view.ndim == 1 && view.dtype == dtype && view.shape[0] == length;
}

// Whether the matrices hold no element twice, with rows of unit stride.
inline bool is_separate(const View& out) {
  const int64_t row = out.shape[2], matrix = (out.shape[1] - 1) * out.strides[1] + row;
  return (row <= 1 || out.strides[2] == 1) && (out.shape[1] <= 1 || out.strides[1] >= row) &&
         (out.shape[0] <= 1 || out.strides[0] >= matrix);
}

inline Arguments checked(const View& out, const View& a1, const Maybe& g1, const Maybe& a2,
                         const Maybe& g2, const View& widths, const View& bias, const View& scale,
                         const Maybe& gram) {
  Arguments p{by_network(out), by_network(a1), by_network(g1), by_network(a2),  by_network(g2),
              widths,          bias,           scale,          by_network(gram)};
  require(p.a1.ndim == 3 && (p.a1.dtype == DType::f64 || p.a1.dtype == DType::f32 ||
                             p.a1.dtype == DType::f16 || p.a1.dtype == DType::bf16),
          "ntk_hadamard: a1 must be a floating [(E,) N, A] tensor.");
  const DType dtype = p.a1.dtype, compute = dtype == DType::f64 ? DType::f64 : DType::f32;
  p.networks = p.a1.shape[0];
  p.layers = widths.shape[0];
  require(p.out.ndim == 3 && is_matrix(p.out, compute, p.networks, p.out.shape[1]) &&
              (p.out.numel() == 0 || is_separate(p.out)),
          "ntk_hadamard: out must be [(E,) N O, M O] of the dtype that a1 is computed in.");
  const int64_t samples = p.a1.shape[1], others = a2 ? p.a2->shape[1] : samples;
  if (samples > 0) p.outputs = p.rows() / samples;
  else if (others > 0) p.outputs = p.columns() / others;
  require(p.rows() == samples * p.outputs && p.columns() == others * p.outputs,
          "ntk_hadamard: out must have O rows for each row of a1, O columns for each of a2.");
  require(!a2 || (is_matrix(*p.a2, dtype, p.networks, others) && p.a2->shape[2] == p.a1.shape[2]),
          "ntk_hadamard: a2 must be like a1, but for its rows.");
  require(g1.has_value() != gram.has_value(), "ntk_hadamard: one of g1 and gram must be given.");
  require(g2.has_value() == (g1 && a2), "ntk_hadamard: g2 must be given where g1 and a2 are.");
  require(!g1 || is_matrix(*p.g1, dtype, p.networks, p.rows()),
          "ntk_hadamard: g1 must have out's rows and a1's dtype.");
  require(
      !g2 || (is_matrix(*p.g2, dtype, p.networks, p.columns()) && p.g2->shape[2] == p.g1->shape[2]),
      "ntk_hadamard: g2 must have out's columns for rows and be as wide as g1.");
  require(!gram || (is_matrix(*p.gram, compute, p.networks, p.rows()) &&
                    p.gram->shape[2] == p.columns()),
          "ntk_hadamard: gram must have the shape and dtype of out.");
  require(widths.ndim == 2 && widths.dtype == DType::i64 && widths.shape[1] == 2,
          "ntk_hadamard: widths must be an int64 [L, 2] tensor.");
  require(is_vector(bias, DType::f64, p.layers) && is_vector(scale, DType::f64, p.layers),
          "ntk_hadamard: bias and scale must be float64 [L] tensors.");
  return p;
}

}  // namespace dlaccel::ntk_hadamard
