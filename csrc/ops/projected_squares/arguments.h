// What projected_squares demands of its arguments, on every device.
#pragma once

#include "../../core/contiguous.h"
#include "../../core/registry.h"
#include "../../core/view.h"

namespace dlaccel::projected_squares {

// Pointers and strides, the latter in elements.
struct Problem {
  double *counts, *squares;
  int64_t classes, rows;
  const double* products;
  int64_t row_stride, column_stride, label_stride;
};

inline Problem check(const View& counts, const View& squares, const View& products,
                     const View& labels) {
  require(products.ndim == 2 && products.dtype == DType::f64,
          "projected_squares: products are a float64 matrix.");
  const int64_t rows = products.shape[0], classes = products.shape[1];
  require(labels.ndim == 1 && labels.shape[0] == rows &&
              (labels.dtype == DType::i64 || labels.dtype == DType::i32),
          "projected_squares: every row has a label, int64 or int32.");
  require(is_contiguous(counts, DType::f64, {classes}) &&
              is_contiguous(squares, DType::f64, {classes, classes}),
          "projected_squares: counts (C) and squares (C, C) are contiguous and float64.");
  return {reinterpret_cast<double*>(counts.data),
          reinterpret_cast<double*>(squares.data),
          classes,
          rows,
          reinterpret_cast<const double*>(products.data),
          products.strides[0],
          products.strides[1],
          labels.strides[0]};
}

// Calls body(labels) with a pointer of the labels' own type.
template <class Body>
void visit_labels(const View& labels, Body&& body) {
  if (labels.dtype == DType::i64) return body(reinterpret_cast<const int64_t*>(labels.data));
  return body(reinterpret_cast<const int32_t*>(labels.data));
}

}  // namespace dlaccel::projected_squares
