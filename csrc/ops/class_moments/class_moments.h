// One sample's share in the moments of its class, about a shift s of the class: w (x - s) and
// w (x - s)^2. In float64 the difference of float32 numbers errs by one rounding at most.
#pragma once

#include "../../core/hd.h"

namespace dlaccel::class_moments {

template <class T>
struct Share {
  T sum, square;
};

template <class T>
DL_HD Share<T> share(T x, T shift, T weight) {
  const T distance = x - shift, weighted = weight * distance;
  return {weighted, weighted * distance};
}

}  // namespace dlaccel::class_moments
