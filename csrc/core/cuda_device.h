// What the bindings ask of CUDA's runtime. Nothing here needs a driver to be called.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "registry.h"

namespace dlaccel {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error) + ".");
}

// The CUDA version that this module was compiled and linked with, 1000 major + 10 minor.
constexpr int cuda_runtime_version() { return CUDART_VERSION; }

// The newest CUDA version that the driver serves; 0 without a driver.
inline int cuda_driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

// The oldest Linux driver for the module's CUDA version ("CUDA minor version compatibility", in
// NVIDIA's CUDA Compatibility guide).
constexpr const char* minimum_driver() {
  constexpr int major = CUDART_VERSION / 1000;
  static_assert(major >= 11 && major <= 13, "look up the driver that this CUDA version needs");
  return major == 13 ? "580.65.06" : major == 12 ? "525.60.13" : "450.80.02";
}

inline int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver or no device: an answer here, not an error of the next launch
  return 0;
}

// Makes the device of a call's tensors the current one for as long as the guard lives.
class DeviceGuard {
 public:
  DeviceGuard(const Argument* arguments, int count) {
    int device = -1;
    for (int i = 0; i < count; ++i) {
      if (!arguments[i].view) continue;
      require(device < 0 || arguments[i].view->device == device,
              "tensors must lie on one CUDA device.");
      device = arguments[i].view->device;
    }
    if (device < 0) return;
    check_cuda(cudaGetDevice(&previous_), "CUDA's current device");
    if (previous_ == device) return;
    check_cuda(cudaSetDevice(device), "CUDA's current device");
    changed_ = true;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace dlaccel
