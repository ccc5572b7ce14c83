// Scatter of labelled rows about the shifts of their classes: T += w (x - s_y)(x - s_y)^T, pooled
// or for each class. What every device demands of its arguments, and the one formula.
#pragma once

#include <optional>

#include "../../core/contiguous.h"
#include "../../core/dispatch.h"
#include "../../core/hd.h"

namespace dlaccel::class_scatter {

using Maybe = std::optional<View>;

// sqrt(w) (x - s): a row's factor on both sides of its product.
template <class T>
DL_HD T deviation(T x, T shift, T root) {
  return (x - shift) * root;
}

inline int64_t label_at(const View& labels, int64_t row) {
  const int64_t at = row * labels.strides[0];
  return labels.dtype == DType::i64 ? reinterpret_cast<const int64_t*>(labels.data)[at]
                                    : reinterpret_cast<const int32_t*>(labels.data)[at];
}

inline bool is_floating(DType dtype) { return dtype != DType::i64 && dtype != DType::i32; }

inline void check(const View& scatter, const View& shifts, const View& features, const View& labels,
                  const Maybe& weight, int64_t classes) {
  require(features.ndim == 2 && is_floating(features.dtype),
          "class_scatter: features must be a floating [N, D] tensor.");
  const int64_t rows = features.shape[0], width = features.shape[1];
  require(is_contiguous(scatter, DType::f64, {1, width, width}) ||
              is_contiguous(scatter, DType::f64, {classes, width, width}),
          "class_scatter: scatter must be a contiguous float64 [1 or C, D, D] tensor.");
  require(shifts.dtype == DType::f64 && shifts.ndim == 2 && shifts.shape[1] == width &&
              (shifts.shape[0] == 1 || shifts.shape[0] == classes),
          "class_scatter: shifts must be a float64 [1 or C, D] tensor.");
  require((labels.dtype == DType::i64 || labels.dtype == DType::i32) && labels.ndim == 1 &&
              labels.shape[0] == rows,
          "class_scatter: labels must be an integer [N] tensor.");
  require(!weight || (is_floating(weight->dtype) && weight->ndim == 1 && weight->shape[0] == rows),
          "class_scatter: weight must be a floating [N] tensor.");
}

}  // namespace dlaccel::class_scatter
