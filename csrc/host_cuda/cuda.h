// CUDA's language on a C++ compiler: as much of it as the kernels use, for the tests. Plain
// __shared__ is left out on purpose, since it could be neither guarded nor poisoned: kernels take
// shared_memory<T>() of core/launch.cuh.
#pragma once

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)

#define threadIdx (::dlaccel::host_cuda::current_block()->thread().index)
#define blockIdx (::dlaccel::host_cuda::current_block()->place)
#define blockDim (::dlaccel::host_cuda::current_block()->shape)
#define gridDim (::dlaccel::host_cuda::current_block()->grid)

using dim3 = dlaccel::host_cuda::Dim3;

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline void __syncthreads() { dlaccel::host_cuda::current_block()->sync_threads(); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  dlaccel::host_cuda::current_block()->exchange(mask, 0);
}

namespace dlaccel::host_cuda {

inline int lane() { return int(current_block()->thread().number % kLanes); }

template <class T>
T from_lane(uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t given = 0;
  memcpy(&given, &value, sizeof value);
  const uint64_t* seen = current_block()->exchange(mask, given);
  if (source < 0 || source >= int(kLanes)) return value;
  if (!(mask >> source & 1)) throw std::logic_error("a shuffle reads a lane outside its mask.");
  memcpy(&value, &seen[source], sizeof value);
  return value;
}

}  // namespace dlaccel::host_cuda

template <class T>
T __shfl_sync(uint32_t mask, T value, int source) {
  return dlaccel::host_cuda::from_lane(mask, value, source);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits) {
  return dlaccel::host_cuda::from_lane(mask, value, dlaccel::host_cuda::lane() ^ bits);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta) {
  return dlaccel::host_cuda::from_lane(mask, value, dlaccel::host_cuda::lane() + int(delta));
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta) {
  return dlaccel::host_cuda::from_lane(mask, value, dlaccel::host_cuda::lane() - int(delta));
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  const uint64_t* seen = dlaccel::host_cuda::current_block()->exchange(mask, predicate != 0);
  uint32_t votes = 0;
  for (unsigned lane = 0; lane < dlaccel::host_cuda::kLanes; ++lane)
    if (mask >> lane & 1) votes |= uint32_t(seen[lane]) << lane;
  return votes;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(uint32_t mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

// Threads run one at a time: whatever no thread interrupts is atomic.
template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
