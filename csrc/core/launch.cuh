// Kernel launches and shared memory, for a device (nvcc) or for the host (host_cuda/, in tests), so
// that one .cu serves both.
#pragma once

#include <cstdint>

#include "hd.h"

#ifdef DLACCEL_HOST_CUDA
#include "../host_cuda/cuda.h"
#else
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#endif

namespace dlaccel {

constexpr int kWarp = 32;
constexpr int64_t kMaxGridY = 65535;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Runs the kernel over grid and block on the stream (null: the device's default stream). On the
// host the stream's number is the seed of the order in which threads run.
template <class... Parameters, class... Args>
void launch(void* stream, dim3 grid, dim3 block, void (*kernel)(Parameters...),
            const Args&... args) {
#ifdef DLACCEL_HOST_CUDA
  host_cuda::run(reinterpret_cast<uintptr_t>(stream), grid, block, [&] { kernel(args...); });
#else
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("a CUDA kernel could not be launched: ") +
                             cudaGetErrorString(error) + ".");
#endif
}

// A block's shared memory: one object for each pair (T, which) that a kernel names.
template <class T, int which = 0>
__device__ __forceinline__ T& shared_memory() {
#ifdef DLACCEL_HOST_CUDA
  return host_cuda::shared_memory<T, which>();
#else
  __shared__ T memory;
  return memory;
#endif
}

}  // namespace dlaccel
