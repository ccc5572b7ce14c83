// The trilinear form y[t, o] = sum over i, k of x[t, i] z[t, k] W[o, i, k] and its derivatives, as
// products of matrices with an operand that is formed on the way: rows t lie side by side in the
// lanes of a register, so that x[i] z[k] is one multiplication whatever the widths are.
#pragma once

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "../../core/micro_kernel.h"
#include "../../core/pack.h"
#include "../../core/parallel.h"
#include "../../core/view.h"

namespace dlaccel::hyper_linear {

// Rows t = (b, n) of x or of a gradient (B, N, width); a code's row (B, width) serves its N rows.
template <class T>
struct Rows {
  const T* data;
  int64_t count, each, width;  // each: N
  int64_t outer, inner, column;

  Rows(const View& v, int64_t shared)
      : data(reinterpret_cast<const T*>(v.data)),
        count(v.shape[0] * (v.ndim == 3 ? v.shape[1] : shared)),
        each(v.ndim == 3 ? v.shape[1] : shared),
        width(v.columns()),
        outer(v.strides[0]),
        inner(v.ndim == 3 ? v.strides[1] : 0),
        column(v.strides[v.ndim - 1]) {}

  const T* row(int64_t t) const { return data + t / each * outer + t % each * inner; }

  // to[w * step + t] is column w of row first + t for t < columns, and 0 past the last row.
  void transpose_into(int64_t first, int columns, T* to, int64_t step) const {
    constexpr int lanes = Vec<T>::lanes;
    const bool even = each == 1 || outer == each * inner;  // rows at one distance
    for (int t = 0; t < columns; t += lanes) {
      const int64_t rows = std::min<int64_t>(lanes, count - first - t);
      if (even && rows > 0) {
        pack_lanes_of_rows(row(first + t), each == 1 ? outer : inner, column, rows, width, to + t,
                           step);
        continue;
      }
      for (int lane = 0; lane < lanes; ++lane) {
        const T* from = lane < rows ? row(first + t + lane) : nullptr;
        for (int64_t w = 0; w < width; ++w)
          to[w * step + t + lane] = from ? from[w * column] : T(0);
      }
    }
  }
};

// to[c * step + r] = from[r * stride + c] for r < rows and c < columns, and nothing else.
template <class T>
void store_transposed(const T* from, int64_t stride, int64_t rows, int64_t columns, T* to,
                      int64_t step) {
  constexpr int lanes = Vec<T>::lanes;
  int64_t r = 0;
  for (; r + lanes <= rows; r += lanes)
    pack_lanes_of_rows(from + r * stride, stride, int64_t(1), lanes, columns, to + r, step);
  for (; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * step + r] = from[r * stride + c];
}

// to[(d - first) * step + t] = x[i][t] z[k][t] with d = (i, k), for first <= d < last; both have
// their rows t side by side, `x_step` and `z_step` apart from feature to feature.
template <class T>
void form(const T* x, int64_t x_step, const T* z, int64_t z_step, int64_t codes, int64_t first,
          int64_t last, int64_t count, T* to, int64_t step) {
  constexpr int lanes = Vec<T>::lanes;
  int64_t i = first / codes, k = first % codes;
  for (int64_t d = first; d < last; ++d, to += step) {
    const T *left = x + i * x_step, *right = z + k * z_step;
    for (int64_t t = 0; t < count; t += lanes)
      store_lanes<T>(to + t, load_lanes<T>(left + t) * load_lanes<T>(right + t));
    if (++k == codes) k = 0, ++i;
  }
}

// Memory that is not set beforehand, aligned to a line of the cache.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(size_t(count) * sizeof(T), std::align_val_t{64}))) {}
  Scratch(Scratch&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  ~Scratch() { ::operator delete(data_, std::align_val_t{64}); }
  T* get() const { return data_; }

 private:
  T* data_;
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace dlaccel::hyper_linear
