// What two classes have between them, from their squared distance and their variances. A variance
// of NaN leaves its class out; equal means have infinite CDNV.
#pragma once

#include <limits>

#include "../../core/contiguous.h"
#include "../../core/hd.h"

namespace dlaccel::cdnv_pairs {

struct Cdnv {
  static constexpr bool symmetric = true;
  template <class T>
  DL_HD T operator()(T distance, T own, T other) const {
    return T(0.5) * (own + other) / distance;
  }
};

struct OneSided {
  static constexpr bool symmetric = false;
  template <class T>
  DL_HD T operator()(T distance, T own, T) const {
    return own / distance;
  }
};

struct SquaredDistance {
  static constexpr bool symmetric = true;
  template <class T>
  DL_HD T operator()(T distance, T, T) const {
    return distance;
  }
};

// `distance` is squared.
template <class T, class Measure>
DL_HD T measured(const Measure& measure, T distance, T own, T other) {
  const T both = own + other;
  T value = measure(distance, own, other);
  if constexpr (!std::is_same_v<Measure, SquaredDistance>)
    value = select(distance <= T(0), T(std::numeric_limits<double>::infinity()), value);
  return select(both <= both, value, T(std::numeric_limits<double>::quiet_NaN()));
}

// Calls body(measure). The codes are those of dlaccel/ops/cdnv_pairs.py.
template <class Body>
void visit_measure(int64_t code, Body&& body) {
  switch (code) {
    case 0: return body(Cdnv{});
    case 1: return body(OneSided{});
    case 2: return body(SquaredDistance{});
    default: require(false, "cdnv_pairs: no such measure.");
  }
}

inline void check(const View& pairs, const View& means, const View& variances) {
  require(means.ndim == 2 && means.dtype == DType::f64,
          "cdnv_pairs: means must be a float64 [C, D] tensor.");
  const int64_t classes = means.shape[0];
  require(is_contiguous(pairs, DType::f64, {classes, classes}),
          "cdnv_pairs: pairs must be a contiguous float64 [C, C] tensor.");
  require(variances.dtype == DType::f64 && variances.ndim == 1 && variances.shape[0] == classes,
          "cdnv_pairs: variances must be a float64 [C] tensor.");
}

}  // namespace dlaccel::cdnv_pairs
