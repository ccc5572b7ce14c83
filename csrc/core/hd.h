// Formulas are templates over the number type: float and double on a CUDA device, Vec<float> and
// Vec<double> on the CPU. This header gives the scalar types what Vec has: select and functions.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define DL_HD __host__ __device__ __forceinline__
#define DL_UNROLL _Pragma("unroll")
#define DL_ROLL _Pragma("unroll 1")
#else
#define DL_HD inline __attribute__((always_inline))
#define DL_UNROLL  // the CPU's loops are left to its compiler
#define DL_ROLL
#endif

namespace dlaccel {

// Both values are computed; the condition picks lane by lane.
template <class T>
DL_HD T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}

DL_HD float sqrt(float x) { return ::sqrtf(x); }
DL_HD float exp(float x) { return ::expf(x); }
DL_HD float tanh(float x) { return ::tanhf(x); }
DL_HD float erf(float x) { return ::erff(x); }
DL_HD double sqrt(double x) { return ::sqrt(x); }
DL_HD double exp(double x) { return ::exp(x); }
DL_HD double tanh(double x) { return ::tanh(x); }
DL_HD double erf(double x) { return ::erf(x); }

}  // namespace dlaccel
