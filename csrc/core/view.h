// A tensor as kernels see it: where its elements lie, nothing of who owns them.
#pragma once

#include <array>
#include <cstdint>

#include "check.h"

namespace dlaccel {

enum class DType : uint8_t { f64, f32, f16, bf16, i64, i32 };

inline int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    default: return 2;
  }
}

constexpr int kMaxAxes = 12;

struct View {
  char* data = nullptr;
  DType dtype = DType::f32;
  int device = -1;  // CUDA ordinal, or -1 on the host
  int ndim = 0;
  std::array<int64_t, kMaxAxes> shape{};
  std::array<int64_t, kMaxAxes> strides{};  // in elements

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  int64_t columns() const { return ndim ? shape[ndim - 1] : 1; }

  // The view with `length` columns from `start` on.
  View narrow(int64_t start, int64_t length) const {
    require(ndim > 0 && start >= 0 && length >= 0 && start + length <= shape[ndim - 1],
            "narrow: the columns must lie inside the view.");
    View part = *this;
    part.data += start * strides[ndim - 1] * size_of(dtype);
    part.shape[ndim - 1] = length;
    return part;
  }

  // A row [D] seen as every row of a tensor shaped like `other` (stride 0 along leading axes).
  View expand_like(const View& other) const {
    require(ndim == 1 && other.ndim > 0 && shape[0] == other.columns(),
            "expand: a row must be as long as the last axis.");
    View rows = other;
    rows.data = data;
    rows.dtype = dtype;
    rows.device = device;
    rows.strides = {};
    rows.strides[other.ndim - 1] = strides[0];
    return rows;
  }
};

inline bool same_shape(const View& a, const View& b) {
  if (a.ndim != b.ndim) return false;
  for (int i = 0; i < a.ndim; ++i)
    if (a.shape[i] != b.shape[i]) return false;
  return true;
}

}  // namespace dlaccel
