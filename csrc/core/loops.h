// The loop nest over operands of one shape, host and device alike. Axes of length 1 vanish, axes
// are sorted so that the first operand's smallest stride is innermost, and neighbours merge where
// every operand allows: contiguous and merely transposed tensors become one axis.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>

#include "hd.h"
#include "view.h"

namespace dlaccel {

enum class Order { any, keep_columns };  // keep_columns: the last axis stays innermost and alone

template <int N>
struct Loops {
  int ndim = 0;  // at least 1 after planning; axis 0 is the innermost
  std::array<int64_t, kMaxAxes> shape{};
  std::array<std::array<int64_t, kMaxAxes>, N> strides{};  // in elements
  std::array<char*, N> data{};

  int64_t columns() const { return shape[0]; }
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 1; i < ndim; ++i) n *= shape[i];
    return n;
  }
  // Offsets in elements of row `row` of every operand. The outermost axis needs no division.
  DL_HD void row_offsets(int64_t row, int64_t (&offsets)[N]) const {
    DL_UNROLL
    for (int k = 0; k < N; ++k) offsets[k] = 0;
    DL_ROLL
    for (int i = 1; i < ndim; ++i) {
      const int64_t above = i + 1 < ndim ? row / shape[i] : 0;
      const int64_t place = row - above * shape[i];
      DL_UNROLL
      for (int k = 0; k < N; ++k) offsets[k] += place * strides[k][i];
      row = above;
    }
  }
};

namespace detail {

template <int N>
bool comes_before(const Loops<N>& loops, int a, int b) {
  for (int k = 0; k < N; ++k) {
    const int64_t left = std::abs(loops.strides[k][a]), right = std::abs(loops.strides[k][b]);
    if (left != right && left != 0 && right != 0) return left < right;
  }
  return false;
}

template <int N>
void swap_axes(Loops<N>& loops, int a, int b) {
  std::swap(loops.shape[a], loops.shape[b]);
  for (auto& strides : loops.strides) std::swap(strides[a], strides[b]);
}

template <int N>
bool merges(const Loops<N>& loops, int inner, int outer) {
  for (const auto& strides : loops.strides)
    if (strides[outer] != strides[inner] * loops.shape[inner]) return false;
  return true;
}

}  // namespace detail

template <int N>
Loops<N> plan_loops(const std::array<View, N>& views, Order order = Order::any) {
  Loops<N> loops;
  const int fixed = order == Order::keep_columns ? 1 : 0;
  for (int k = 0; k < N; ++k) {
    require(same_shape(views[k], views[0]), "operands must have one shape.");
    loops.data[k] = views[k].data;
  }
  for (int axis = views[0].ndim - 1; axis >= 0; --axis) {
    const bool last = axis == views[0].ndim - 1;
    if (views[0].shape[axis] == 1 && !(fixed && last)) continue;
    loops.shape[loops.ndim] = views[0].shape[axis];
    for (int k = 0; k < N; ++k) loops.strides[k][loops.ndim] = views[k].strides[axis];
    ++loops.ndim;
  }
  if (loops.ndim == 0) {  // a single element
    loops.shape[0] = 1;
    loops.ndim = 1;
  }
  for (int i = fixed + 1; i < loops.ndim; ++i)  // insertion sort: stable, and ndim is tiny
    for (int j = i; j > fixed && detail::comes_before(loops, j, j - 1); --j)
      detail::swap_axes(loops, j, j - 1);
  int kept = fixed;
  for (int i = fixed + 1; i < loops.ndim; ++i) {
    if (detail::merges(loops, kept, i)) {
      loops.shape[kept] *= loops.shape[i];
    } else {
      ++kept;
      loops.shape[kept] = loops.shape[i];
      for (auto& strides : loops.strides) strides[kept] = strides[i];
    }
  }
  loops.ndim = std::min(loops.ndim, kept + 1);
  return loops;
}

}  // namespace dlaccel
