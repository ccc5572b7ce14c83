// A row sum written right and with faults planted, for tests/test_host_cuda.py: the host must run
// the right one to the right result and must catch each fault. Usage: faults NAME SEED
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../core/reduce.cuh"

namespace dlaccel {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

enum class Fault {
  none,
  out_of_bounds,         // a thread past the row's end reads all the same
  shared_out_of_bounds,  // a write past the end of shared memory
  missing_barrier,       // the warps' sums are read without waiting for them
  unwritten_shared,      // one sum too many is read
  early_exit,            // threads leave before a barrier that the others wait at
  absent_lanes,          // a shuffle names lanes that do not take part
  misaligned,            // a 16-byte access at an address that is no multiple of 16
};

template <Fault fault>
__global__ void row_sums(float* sums, const float* rows, int columns) {
  auto& partial = shared_memory<float[kWarps + 1]>();
  const float* row = rows + int64_t(blockIdx.x) * columns;
  const int thread = int(threadIdx.x);
  if (fault == Fault::misaligned && thread == 0) {
    const uint4 word = *reinterpret_cast<const uint4*>(rows + 1);
    if (word.x == 1) sums[0] = 0;
  }
  float sum = 0;
  for (int i = thread; i < columns || (fault == Fault::out_of_bounds && i < kThreads);
       i += kThreads)
    sum += row[i];
  if (fault != Fault::absent_lanes || thread % 2) sum = warp_sum(sum);
  if (thread % kWarp == 0)
    partial[thread / kWarp + (fault == Fault::shared_out_of_bounds ? 2 : 0)] = sum;
  if (fault == Fault::early_exit && thread >= kWarp) return;
  if (fault != Fault::missing_barrier) __syncthreads();
  if (thread == 0) {
    float total = 0;
    for (int warp = 0; warp < kWarps + (fault == Fault::unwritten_shared); ++warp)
      total += partial[warp];
    sums[blockIdx.x] = total;
  }
}

// Counts the answers of shuffles, votes and atomics that are wrong; right answers are CUDA's.
__global__ void collectives(int* wrong, int* threads) {
  constexpr uint32_t all = 0xffffffffu;
  const int lane = int(threadIdx.y * blockDim.x + threadIdx.x) % kWarp;
  int errors = __shfl_sync(all, 10 * lane, 5) != 50;
  errors += __shfl_xor_sync(all, double(lane), 3) != double(lane ^ 3);
  errors += __shfl_up_sync(all, lane, 2u) != (lane < 2 ? lane : lane - 2);
  errors += __shfl_down_sync(all, lane, 4u) != (lane + 4 < kWarp ? lane + 4 : lane);
  errors += __ballot_sync(all, lane % 3 == 0) != 0x49249249u;
  errors += !__any_sync(all, lane == 7) || __any_sync(all, 0);
  errors += !__all_sync(all, lane >= 0) || __all_sync(all, lane != 7);
  if (lane < 16) errors += __shfl_xor_sync(0xffffu, lane, 8) != (lane ^ 8);
  __syncwarp();
  atomicAdd(wrong, errors);
  atomicAdd(threads, 1);
}

int run_collectives(uintptr_t seed) {
  int wrong = 0, threads = 0;
  launch(reinterpret_cast<void*>(seed), dim3(2, 3), dim3(16, 4), &collectives, &wrong, &threads);
  std::printf("%d wrong in %d threads\n", wrong, threads);
  return wrong == 0 && threads == 2 * 3 * 64 ? 0 : 1;
}

template <Fault fault>
int run(uintptr_t seed) {
  constexpr int count = 8, columns = 100;
  std::vector<float> rows(count * columns), sums(count);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = float(i % 7);  // sums are exact
  launch(reinterpret_cast<void*>(seed), dim3(count), dim3(kThreads), &row_sums<fault>, sums.data(),
         static_cast<const float*>(rows.data()), columns);
  for (int row = 0; row < count; ++row) {
    float right = 0;
    for (int i = 0; i < columns; ++i) right += rows[row * columns + i];
    if (sums[row] != right) {
      std::printf("row %d: %g, not %g\n", row, double(sums[row]), double(right));
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace dlaccel

int main(int count, char** arguments) {
  using dlaccel::Fault;
  if (count != 3) return 2;
  const std::string name = arguments[1];
  const auto seed = uintptr_t(std::atoll(arguments[2]));
  try {
    if (name == "collectives") return dlaccel::run_collectives(seed);
    if (name == "none") return dlaccel::run<Fault::none>(seed);
    if (name == "out_of_bounds") return dlaccel::run<Fault::out_of_bounds>(seed);
    if (name == "shared_out_of_bounds") return dlaccel::run<Fault::shared_out_of_bounds>(seed);
    if (name == "missing_barrier") return dlaccel::run<Fault::missing_barrier>(seed);
    if (name == "unwritten_shared") return dlaccel::run<Fault::unwritten_shared>(seed);
    if (name == "early_exit") return dlaccel::run<Fault::early_exit>(seed);
    if (name == "absent_lanes") return dlaccel::run<Fault::absent_lanes>(seed);
    if (name == "misaligned") return dlaccel::run<Fault::misaligned>(seed);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  return 2;
}
