// Rows of a matrix as a panel of a product, k after k, converted to the type it is computed in.
#pragma once

#include <algorithm>

#include "micro_kernel.h"

namespace dlaccel {

// to[k * step + i] is column k of row i for k < depth, and 0 for the lanes i past the rows.
template <class S>
void pack_lanes_of_rows(const S* from, int64_t row_stride, int64_t column_stride, int64_t rows,
                        int64_t depth, Compute<S>* to, int64_t step) {
  using T = Compute<S>;
  constexpr int lanes = Vec<T>::lanes;
  int64_t k = 0;
  if (column_stride == 1) {
    for (; k + lanes <= depth; k += lanes) {
      Vec<T> square[lanes];
      for (int i = 0; i < lanes; ++i)
        square[i] = i < rows ? load_lanes<S>(from + i * row_stride + k) : Vec<T>(T(0));
      transpose(square);
      for (int i = 0; i < lanes; ++i) store_lanes<T>(to + (k + i) * step, square[i]);
    }
  } else if (row_stride == 1 && rows >= lanes) {
    for (; k < depth; ++k) store_lanes<T>(to + k * step, load_lanes<S>(from + k * column_stride));
  }
  for (; k < depth; ++k)
    for (int i = 0; i < lanes; ++i)
      to[k * step + i] = i < rows ? load(from[i * row_stride + k * column_stride]) : T(0);
}

// panel[k * width + i] is column k of row i, where width is that of `vectors` registers.
template <class S>
void pack_panel(const S* from, int64_t row_stride, int64_t column_stride, int64_t rows,
                int64_t depth, int vectors, Compute<S>* panel) {
  constexpr int lanes = Vec<Compute<S>>::lanes;
  for (int first = 0; first < vectors * lanes; first += lanes)
    pack_lanes_of_rows(from + first * row_stride, row_stride, column_stride, rows - first, depth,
                       panel + first, vectors * lanes);
}

}  // namespace dlaccel
