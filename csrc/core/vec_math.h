// sqrt, exp, tanh and erf on vectors: float32 within 2 ulp everywhere (tests/test_vec_math.py walks
// the floats), right at infinities, NaN and denormals; float64 lane by lane through the C library.
// Polynomials are our own minimax fits (Lawson's iteration in extended precision); each bound is
// the relative error of the rounded function that the fit itself leaves.
#pragma once

#include "vec.h"

namespace dlaccel {

namespace detail {

template <class V, class... C>
DL_HD V horner(V x, float first, C... rest) {
  if constexpr (sizeof...(rest) == 0) return V(first);
  else return V(first) + x * horner(x, float(rest)...);
}

template <class F>
DL_HD Vec<double> each_lane(Vec<double> x, F f) {
  for (int i = 0; i < Vec<double>::lanes; ++i) x.v[i] = f(x.v[i]);
  return x;
}

}  // namespace detail

// Correctly rounded, as the processor's instruction is.
template <class T>
DL_HD Vec<T> sqrt(Vec<T> x) {
  [[maybe_unused]] constexpr bool single = std::is_same_v<T, float>;
#ifdef __AVX512F__  // with a mask: GCC's plain form names a register that nothing has set
  if constexpr (DL_VECTOR_BYTES == 64) {
    if constexpr (single) return Vec<T>(_mm512_maskz_sqrt_ps(0xffff, x.v));
    else return Vec<T>(_mm512_maskz_sqrt_pd(0xff, x.v));
  }
#endif
#ifdef __AVX__
  if constexpr (DL_VECTOR_BYTES == 32) {
    if constexpr (single) return Vec<T>(_mm256_sqrt_ps(x.v));
    else return Vec<T>(_mm256_sqrt_pd(x.v));
  }
#endif
  for (int i = 0; i < Vec<T>::lanes; ++i) x.v[i] = sqrt(x.v[i]);
  return x;
}

DL_HD Vec<float> abs(Vec<float> x) { return Vec<float>::from_bits(x.bits() & 0x7fffffff); }
DL_HD Vec<float> copysign(Vec<float> magnitude, Vec<float> sign) {
  const auto bit = sign.bits() & int32_t(0x80000000);
  return Vec<float>::from_bits((magnitude.bits() & 0x7fffffff) | bit);
}

// e^x = 4^m e^r with m = round(x / (2 ln 2)), |r| <= ln 2; the fit leaves 5.6e-10. The scale 2^m is
// applied twice, so that denormal results round once and large ones overflow to infinity.
DL_HD Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  x = select(x < V(-104.0f), V(-104.0f), x);  // e^-104 rounds to 0
  x = select(x > V(89.0f), V(89.0f), x);      // e^89 overflows; NaN passes both
  // 1.5 * 2^23 + 127: the sum is rounded to a whole number and its low bits hold m + 127, which
  // shifted into the exponent is 2^m.
  const V magic = 12583039.0f;
  const V shifted = x * V(0.72134752f) + magic;
  const V m = shifted - magic;
  V r = x - m * V(1.3862915f);  // 2 ln 2 cut to 16 bits: the product is exact
  r = r - m * V(2.8572136e-6f);
  const V p = detail::horner(r, 0.5f, 0.16666675f, 0.041666526f, 0.0083325245f, 0.0013893722f,
                             0.00020110332f, 2.4439412e-5f);
  const V e = V(1.0f) + (r + r * r * p);
  const V scale = V::from_bits(shifted.bits() << 23);
  return e * scale * scale;
}

// Below 0.625 an odd polynomial (4.4e-9); above, 1 - 2 / (e^2|x| + 1), which loses nothing there.
DL_HD Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  const V t = abs(x), z = x * x;
  const V p =
      detail::horner(z, -0.3333328f, 0.13331442f, -0.05373971f, 0.02063908f, -0.0057049785f);
  const V large = V(1.0f) - V(2.0f) / (exp(t + t) + V(1.0f));
  return copysign(select(t < V(0.625f), t + t * z * p, large), x);
}

// Below 0.92 an odd polynomial (1.5e-8); above, 1 - e^-q(|x|) with q fitted to -log erfc (1.5e-9).
// At |x| = 4 erf rounds to 1. The comparison sends NaN to the polynomial, which keeps it.
DL_HD Vec<float> erf(Vec<float> x) {
  using V = Vec<float>;
  const V z = x * x;
  const V p = detail::horner(z, 0.12837915f, -0.37612498f, 0.11281846f, -0.02676772f, 0.0049948306f,
                             -0.00059994057f);
  V t = abs(x);
  const auto far = t >= V(0.92f);
  t = select(t > V(4.0f), V(4.0f), t);
  const V q = detail::horner(t, 0.0001956749f, 1.1276757f, 0.6371822f, 0.1039316f, -0.022226922f,
                             0.003043218f, -0.0001959373f);
  return select(far, copysign(V(1.0f) - exp(-q), x), x + x * p);
}

DL_HD Vec<double> exp(Vec<double> x) {
  return detail::each_lane(x, [](double a) { return ::exp(a); });
}
DL_HD Vec<double> tanh(Vec<double> x) {
  return detail::each_lane(x, [](double a) { return ::tanh(a); });
}
DL_HD Vec<double> erf(Vec<double> x) {
  return detail::each_lane(x, [](double a) { return ::erf(a); });
}

}  // namespace dlaccel
