// Whether a tensor's elements lie side by side, rows after rows, in one dtype and shape.
#pragma once

#include <initializer_list>

#include "view.h"

namespace dlaccel {

inline bool is_contiguous(const View& view, DType dtype, std::initializer_list<int64_t> shape) {
  if (view.dtype != dtype || view.ndim != int(shape.size())) return false;
  int64_t stride = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    const int64_t length = shape.begin()[axis];
    if (view.shape[axis] != length) return false;
    if (length > 1 && view.numel() > 0 && view.strides[axis] != stride) return false;
    stride *= length;
  }
  return true;
}

}  // namespace dlaccel
