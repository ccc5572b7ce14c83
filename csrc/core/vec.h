// Vec<T>: as many lanes of T as one register of the target holds, on the compiler's vector types.
// DL_VECTOR_BYTES comes from the build, one value for each instruction set.
#pragma once

#include <cstring>
#include <type_traits>

#ifdef __AVX__
#include <immintrin.h>
#endif

#include "half.h"

#ifndef DL_VECTOR_BYTES
#define DL_VECTOR_BYTES 16
#endif

namespace dlaccel {

template <class T>
struct Register;
template <>
struct Register<float> {
  typedef float Native __attribute__((vector_size(DL_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(DL_VECTOR_BYTES)));
  typedef uint32_t Unsigned __attribute__((vector_size(DL_VECTOR_BYTES)));
  typedef uint16_t Short __attribute__((vector_size(DL_VECTOR_BYTES / 2)));
};
template <>
struct Register<double> {
  typedef double Native __attribute__((vector_size(DL_VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(DL_VECTOR_BYTES)));
};

template <class T>
struct Vec {
  static constexpr int lanes = DL_VECTOR_BYTES / sizeof(T);
  using Native = typename Register<T>::Native;
  using Bits = typename Register<T>::Bits;

  Native v;

  Vec() = default;
  DL_HD Vec(Native native) : v(native) {}
  DL_HD Vec(T x) : v(x - Native{}) {}  // x - 0 keeps the sign of -0

  DL_HD static Vec from_bits(Bits bits) { return Vec((Native)bits); }
  DL_HD Bits bits() const { return (Bits)v; }

  friend DL_HD Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend DL_HD Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend DL_HD Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend DL_HD Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend DL_HD Vec operator-(Vec a) { return -a.v; }
  // Comparisons give all ones or all zeros in each lane; false where a lane is NaN.
  friend DL_HD Bits operator<(Vec a, Vec b) { return a.v < b.v; }
  friend DL_HD Bits operator<=(Vec a, Vec b) { return a.v <= b.v; }
  friend DL_HD Bits operator>(Vec a, Vec b) { return a.v > b.v; }
  friend DL_HD Bits operator>=(Vec a, Vec b) { return a.v >= b.v; }
  friend DL_HD Vec select(Bits mask, Vec yes, Vec no) { return mask ? yes.v : no.v; }
};

// Reading and writing one register's worth of a storage type at any address.
template <class S>
DL_HD Vec<Compute<S>> load_lanes(const S* from) {
  using V = Vec<Compute<S>>;
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    V x;
    memcpy(&x.v, from, sizeof x.v);
    return x;
  } else {
    Register<float>::Short packed;
    memcpy(&packed, from, sizeof packed);
    const auto wide = __builtin_convertvector(packed, typename V::Bits);
    if constexpr (std::is_same_v<S, bf16>) {
      return V::from_bits(wide << 16);
    } else {  // as load(f16) in half.h
      const auto magnitude = wide & 0x7fff;
      const V finite = V::from_bits(magnitude << 13) * V(0x1p112f);
      const auto special = (magnitude >= 0x7c00) & 0x7f800000;
      return V::from_bits(finite.bits() | special | ((wide & 0x8000) << 16));
    }
  }
}

// The lanes as the storage type holds them, side by side.
template <class S>
DL_HD auto pack_lanes(Vec<Compute<S>> x) {
  using V = Vec<Compute<S>>;
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    return x.v;
  } else {
    using Unsigned = Register<float>::Unsigned;
    const Unsigned u = (Unsigned)x.v;
    Unsigned half;
    if constexpr (std::is_same_v<S, bf16>) {
      const Unsigned rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
      const Unsigned nan = (Unsigned)(x.v != x.v);
      half = (((u >> 16) | 0x40) & nan) | (rounded & ~nan);
    } else {  // as store(f16*, float) in half.h
      const Unsigned magnitude = u & 0x7fffffff;
      const Unsigned normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
      const V shifted = V::from_bits((typename V::Bits)magnitude) + V(0.5f);
      const Unsigned denormal = (Unsigned)shifted.v - 0x3f000000;
      const Unsigned small = (Unsigned)(magnitude < 0x38800000);
      half = (denormal & small) | (normal & ~small);
      const Unsigned large = (Unsigned)(magnitude >= 0x477ff000);
      half = (0x7c00 & large) | (half & ~large);
      const Unsigned nan = (Unsigned)(magnitude > 0x7f800000);
      half = (0x7e00 & nan) | (half & ~nan);
      half |= (u >> 16) & 0x8000;
    }
    return __builtin_convertvector(half, Register<float>::Short);
  }
}

template <class S>
DL_HD void store_lanes(S* to, Vec<Compute<S>> x) {
  const auto packed = pack_lanes<S>(x);
  memcpy(to, &packed, sizeof packed);
}

// A store past the cache, to an address aligned to a register; stream_fence() makes such stores
// visible to other threads. Without such an instruction it is a plain one.
template <class S>
DL_HD void stream_lanes(S* to, Vec<Compute<S>> x) {
#ifdef __AVX__
  const auto packed = pack_lanes<S>(x);
#ifdef __AVX512F__
  if constexpr (sizeof packed == 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)packed);
    return;
  }
#endif
  if constexpr (sizeof packed == 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)packed);
  } else if constexpr (sizeof packed == 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)packed);
  }
#else
  store_lanes(to, x);
#endif
}

DL_HD void stream_fence() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

}  // namespace dlaccel
