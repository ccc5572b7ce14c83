// CUDA draws of few-shot episodes: a warp for each row, first the classes', then the samples'.
#include "draw_episodes.h"

#include "../../core/launch.cuh"
#include "arguments.h"

namespace dlaccel::draw_episodes {
namespace {

constexpr int kWarps = 4;  // of a block

// The first `count` items of a shuffle of table[0, size), by the lanes of a warp.
__device__ __forceinline__ void shuffle(const Row& row, const int64_t* table, int64_t size,
                                        int64_t count, int64_t* items) {
  const int lane = int(threadIdx.x);
  for (int64_t pair = lane; 2 * pair < count; pair += kWarp)
    row.draw(pair, count, size, [=](int64_t i, int64_t place) { items[i] = place; });
  __syncwarp();
  for (int64_t step = count - 2; step >= 0; --step) {
    const int64_t partner = items[step];  // still as drawn: only later ones have changed
    for (int64_t i = step + 1 + lane; i < count; i += kWarp)
      items[i] = undo(items[i], step, partner);
    __syncwarp();
  }
  for (int64_t i = lane; i < count; i += kWarp) items[i] = table[items[i]];
}

__global__ void __launch_bounds__(kWarp* kWarps)
    draw_classes_kernel(const __grid_constant__ Problem p) {
  const int64_t episode = int64_t(blockIdx.x) * kWarps + threadIdx.y;
  if (episode < p.episodes)
    shuffle({p.seed, episode, 0}, p.eligible, p.eligible_count, p.ways,
            p.classes + episode * p.ways);
}

// A class with too few members, which only a wrong table can bring, has samples -1.
__global__ void __launch_bounds__(kWarp* kWarps)
    draw_samples_kernel(const __grid_constant__ Problem p) {
  const int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.y;
  if (row >= p.episodes * p.ways) return;
  int64_t* samples = p.samples + row * p.each;
  const Members of = members_of(p, p.classes[row]);
  if (of.count < p.each) {
    for (int64_t i = threadIdx.x; i < p.each; i += kWarp) samples[i] = -1;
    return;
  }
  shuffle({p.seed, row / p.ways, 1 + row % p.ways}, of.first, of.count, p.each, samples);
}

void draw_episodes(Lane lane, const View& classes, const View& samples, const View& members,
                   const View& offsets, const View& eligible, int64_t seed) {
  const Problem p = check(classes, samples, members, offsets, eligible, seed);
  const int64_t rows = p.episodes * p.ways;
  if (rows == 0) return;
  const dim3 block(kWarp, kWarps);
  launch(lane.stream, dim3(unsigned(ceil_div(p.episodes, kWarps))), block, &draw_classes_kernel, p);
  launch(lane.stream, dim3(unsigned(ceil_div(rows, kWarps))), block, &draw_samples_kernel, p);
}

DLACCEL_REGISTER(draw_episodes, draw_episodes);

}  // namespace
}  // namespace dlaccel::draw_episodes
