// What the three kernels ask of their arguments before they touch memory.
#pragma once

#include "../../core/dispatch.h"

namespace dlaccel::hyper_linear {

// B codes with N rows of I features each, O outputs, K numbers in a code.
struct Sizes {
  int64_t codes, each, inputs, outputs, width;

  int64_t rows() const { return codes * each; }
  int64_t depth() const { return inputs * width; }
};

inline void require_shape(const View& v, std::initializer_list<int64_t> shape) {
  require(v.ndim == int(shape.size()) && std::equal(shape.begin(), shape.end(), v.shape.begin()),
          "hyper_linear: shapes must be (B, N, I), (B, K), (O, I, K) and (B, N, O).");
}

inline bool is_contiguous(const View& v) {
  int64_t stride = 1;
  for (int axis = v.ndim - 1; axis >= 0; stride *= v.shape[axis--])
    if (v.shape[axis] > 1 && v.strides[axis] != stride) return false;
  return true;
}

inline void require_contiguous(const View& v) {
  require(v.numel() == 0 || is_contiguous(v),
          "hyper_linear: weights and results must be contiguous.");
}

inline Sizes sizes_of(const View& x, const View& z, int64_t outputs) {
  require(x.ndim == 3 && z.ndim == 2, "hyper_linear: x must be (B, N, I) and z (B, K).");
  require_shape(z, {x.shape[0], z.shape[1]});
  return {x.shape[0], x.shape[1], x.shape[2], outputs, z.shape[1]};
}

// Calls body.operator()<T>() where all views hold T, float or double.
template <class Body>
void visit(std::initializer_list<const View*> views, Body&& body) {
  const DType dtype = (*views.begin())->dtype;
  for (const View* v : views)
    require(v->dtype == dtype && v->device == -1, "hyper_linear: dtypes and devices must agree.");
  if (dtype == DType::f32) return body.template operator()<float>();
  if (dtype == DType::f64) return body.template operator()<double>();
  require(false, "hyper_linear: dtype must be float32 or float64.");
}

}  // namespace dlaccel::hyper_linear
