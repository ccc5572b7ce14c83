// Neighbours of any storage type as one register of float64.
#pragma once

#include "vec.h"

namespace dlaccel {

typedef float HalfRegister __attribute__((vector_size(DL_VECTOR_BYTES / 2)));

DL_HD Vec<double> widen(HalfRegister x) {
#if defined(__AVX512F__)  // GCC 12 would convert in quarters; unmasked, it would warn
  return Vec<double>((Register<double>::Native)_mm512_maskz_cvtps_pd(0xff, (__m256)x));
#elif defined(__AVX__)
  return Vec<double>((Register<double>::Native)_mm256_cvtps_pd((__m128)x));
#else
  return Vec<double>(__builtin_convertvector(x, Register<double>::Native));
#endif
}

template <class S>
DL_HD Vec<double> load_wide(const S* from) {
  if constexpr (sizeof(S) == sizeof(double)) {
    return load_lanes(from);
  } else if constexpr (sizeof(S) == sizeof(float)) {
    HalfRegister x;
    memcpy(&x, from, sizeof x);
    return widen(x);
  } else {
    typedef uint16_t Packed __attribute__((vector_size(DL_VECTOR_BYTES / 4)));
    typedef int32_t Bits __attribute__((vector_size(DL_VECTOR_BYTES / 2)));
    Packed packed;
    memcpy(&packed, from, sizeof packed);
    const Bits bits = __builtin_convertvector(packed, Bits);
    if constexpr (std::is_same_v<S, bf16>) {
      return widen((HalfRegister)(bits << 16));
    } else {  // as load(f16) in half.h
      const Bits magnitude = bits & 0x7fff;
      const HalfRegister finite = (HalfRegister)(magnitude << 13) * 0x1p112f;
      const Bits special = (magnitude >= 0x7c00) & 0x7f800000;
      return widen((HalfRegister)((Bits)finite | special | ((bits & 0x8000) << 16)));
    }
  }
}

}  // namespace dlaccel
