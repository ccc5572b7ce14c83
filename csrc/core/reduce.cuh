// Sums over the lanes of a warp, by shuffles in a fixed tree: the same bits each time.
#pragma once

#include "launch.cuh"

namespace dlaccel {

// Every lane of the warp must call; every lane gets the sum.
template <class A>
__device__ __forceinline__ A warp_sum(A value) {
  DL_UNROLL
  for (int step = kWarp / 2; step > 0; step /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

}  // namespace dlaccel
