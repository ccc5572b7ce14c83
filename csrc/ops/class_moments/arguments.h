// What class_moments demands of its arguments, on every device: the state is float64 and
// contiguous, in one shape with the features.
#pragma once

#include <optional>

#include "../../core/contiguous.h"
#include "../../core/hd.h"
#include "../../core/registry.h"

namespace dlaccel::class_moments {

using Maybe = std::optional<View>;

// Pointers and strides, the latter in elements. A row of the features is a sample.
struct Problem {
  double *counts, *samples, *sums, *squares, *shifts;
  int64_t* fault;
  int64_t classes, rows, columns;
  int64_t shift_stride;  // from a class to the next: 0 where the shift is common
  const char* features;
  int64_t row_stride, column_stride;
  bool adopt;

  DL_HD double* shift_of(int64_t label) const { return shifts + label * shift_stride; }
};

inline Problem check(const View& counts, const View& samples, const View& sums, const View& squares,
                     const View& shifts, const View& fault, const View& features,
                     const View& labels, const Maybe& weight, int64_t adopt) {
  require(features.ndim == 2 && labels.ndim == 1 && counts.ndim == 1 && shifts.ndim == 2,
          "class_moments: features and shifts are matrices, labels and counts are vectors.");
  const int64_t classes = counts.shape[0], rows = features.shape[0], columns = features.shape[1];
  require(labels.shape[0] == rows, "class_moments: every sample has a label.");
  require(labels.dtype == DType::i64 || labels.dtype == DType::i32,
          "class_moments: labels are int64 or int32.");
  require(!weight || (weight->ndim == 1 && weight->shape[0] == rows),
          "class_moments: every sample has a weight.");
  const bool common = shifts.shape[0] == 1;
  require(is_contiguous(counts, DType::f64, {classes}) &&
              is_contiguous(samples, DType::f64, {classes}) &&
              is_contiguous(sums, DType::f64, {classes, columns}) &&
              is_contiguous(squares, DType::f64, {classes}) &&
              is_contiguous(shifts, DType::f64, {common ? 1 : classes, columns}) &&
              is_contiguous(fault, DType::i64, {3}),
          "class_moments: the state is contiguous: counts and samples (C), sums (C, D), squares "
          "(C), shifts "
          "(C, D) or (1, D), all float64, and fault (3), int64.");
  const auto numbers = [](const View& view) { return reinterpret_cast<double*>(view.data); };
  return {numbers(counts),
          numbers(samples),
          numbers(sums),
          numbers(squares),
          numbers(shifts),
          reinterpret_cast<int64_t*>(fault.data),
          classes,
          rows,
          columns,
          common ? 0 : columns,
          features.data,
          features.strides[0],
          features.strides[1],
          adopt != 0};
}

}  // namespace dlaccel::class_moments
