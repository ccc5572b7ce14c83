// bfloat16 and float16 as storage: arithmetic happens in float.
#pragma once

#include <cstdint>
#include <cstring>

#include "hd.h"

namespace dlaccel {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

namespace detail {
DL_HD uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
DL_HD float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
}  // namespace detail

DL_HD double load(double x) { return x; }
DL_HD float load(float x) { return x; }
DL_HD float load(bf16 x) { return detail::float_of(uint32_t(x.bits) << 16); }

// Shifts exponent and mantissa into place, then multiplies by 2^112: the exponent bias changes and
// denormals become normal in one exact step. Infinities and NaN keep the full exponent.
DL_HD float load(f16 x) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#else
  const uint32_t magnitude = x.bits & 0x7fffu;
  const float finite = detail::float_of(magnitude << 13) * 0x1p112f;
  const uint32_t special = (magnitude >= 0x7c00u) ? 0x7f800000u : 0u;
  return detail::float_of(detail::bits_of(finite) | special | (uint32_t(x.bits & 0x8000u) << 16));
#endif
}

DL_HD void store(double* to, double x) { *to = x; }
DL_HD void store(float* to, float x) { *to = x; }

// Round to nearest, ties to even; NaN stays a quiet NaN.
DL_HD void store(bf16* to, float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to->bits) : "f"(x));
#else
  const uint32_t u = detail::bits_of(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  to->bits = uint16_t(x != x ? (u >> 16) | 0x40u : rounded);
#endif
}

// Normal results round by integer arithmetic. For denormal ones, adding 0.5 aligns the unit of
// float's last place with that of float16's denormals, 2^-24, so that the addition itself rounds.
DL_HD void store(f16* to, float x) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(x));
#else
  const uint32_t u = detail::bits_of(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t denormal =
      detail::bits_of(detail::float_of(magnitude) + 0.5f) - detail::bits_of(0.5f);
  uint32_t half = magnitude < 0x38800000u ? denormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // from 65520 on, nearest is infinity
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  to->bits = uint16_t(sign | half);
#endif
}

// The type that a storage type is computed in.
template <class S>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

}  // namespace dlaccel
