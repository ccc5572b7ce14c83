// The inner loop of matrix products: a block of A B^T held in registers. B comes as a packed panel,
// k after k, `columns` numbers each; A is read where it lies, along rows of unit stride.
#pragma once

#include "vec.h"

namespace dlaccel {

template <class T>
struct RegisterBlock {
  static constexpr int vectors = 2;
  static constexpr int columns = vectors * Vec<T>::lanes;
  // 32 registers with AVX-512, 16 otherwise: accumulators, a row of B and one number of A.
  static constexpr int rows = DL_VECTOR_BYTES == 64 ? 12 : 6;
};

// c[i][j] (+)= sum over k < depth of a[i * stride + k] panel[k * columns + j], for i < Rows. Rows
// of c have `columns` numbers side by side.
template <class T, int Rows>
void multiply_block(const T* a, int64_t stride, const T* panel, int64_t depth, T* c,
                    int64_t c_stride, bool add) {
  using B = RegisterBlock<T>;
  using V = Vec<T>;
  V sums[Rows][B::vectors] = {};
  for (int64_t k = 0; k < depth; ++k, panel += B::columns) {
    V b[B::vectors];
#pragma GCC unroll 2
    for (int j = 0; j < B::vectors; ++j) b[j] = load_lanes<T>(panel + j * V::lanes);
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
      const V x(a[i * stride + k]);
#pragma GCC unroll 2
      for (int j = 0; j < B::vectors; ++j) sums[i][j] = sums[i][j] + x * b[j];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < B::vectors; ++j) {
      T* to = c + i * c_stride + j * V::lanes;
      store_lanes<T>(to, add ? load_lanes<T>(to) + sums[i][j] : sums[i][j]);
    }
}

// The same for any number of rows up to a block's.
template <class T>
void multiply_rows(int rows, const T* a, int64_t stride, const T* panel, int64_t depth, T* c,
                   int64_t c_stride, bool add) {
  [&]<std::size_t... i>(std::index_sequence<i...>) {
    (void)((rows == int(i) + 1 &&
            (multiply_block<T, int(i) + 1>(a, stride, panel, depth, c, c_stride, add), true)) ||
           ...);
  }(std::make_index_sequence<RegisterBlock<T>::rows>{});
}

// The square of lanes x lanes numbers in `rows`, mirrored at its diagonal.
template <class T>
DL_HD void transpose(Vec<T> (&rows)[Vec<T>::lanes]) {
  using V = Vec<T>;
  using Bits = typename V::Bits;
#pragma GCC unroll 4
  for (int step = 1; step < V::lanes; step *= 2) {
    Bits first, second;  // lanes of the pair (a, b): those of a from 0, those of b from lanes on
#pragma GCC unroll 16
    for (int l = 0; l < V::lanes; ++l) {
      first[l] = l & step ? V::lanes + l - step : l;
      second[l] = l & step ? V::lanes + l : l + step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < V::lanes; ++i) {
      if (i & step) continue;
      const auto a = rows[i].v, b = rows[i + step].v;
      rows[i] = V(__builtin_shuffle(a, b, first));
      rows[i + step] = V(__builtin_shuffle(a, b, second));
    }
  }
}

}  // namespace dlaccel
