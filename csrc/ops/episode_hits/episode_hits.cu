// CUDA kernels of few-shot episodes: a block for some queries of an episode, a warp for some of
// these, tiles of class sums in shared memory. A row that does not exist counts as NaN: nothing
// outside is read, and no class whose distance is NaN is ever predicted.
#include "episode_hits.h"

#include "../../core/dispatch.h"
#include "../../core/launch.cuh"
#include "../../core/reduce.cuh"
#include "arguments.h"

namespace dlaccel::episode_hits {
namespace {

constexpr int kWarps = 8;          // of a block
constexpr int kQueries = 4;        // of a warp
constexpr int kLabels = 8;         // compared at a time
constexpr int kColumns = 128;      // of a tile
constexpr int kGramThreads = 128;  // a query each, with inner products
constexpr int kGramLabels = 64;    // of a tile, with inner products
constexpr int kHitThreads = 256;   // an episode's class each

template <class S>
struct Features {
  const Problem& p;

  __device__ __forceinline__ double operator()(int64_t row, int64_t column) const {
    if (!p.holds(row)) return NAN;
    return double(load(p.row<S>(row)[column * p.column_stride]));
  }
};

// sums[c][j] = the sum over the support of class `label + c`, at the j-th column from `column` on.
template <class S>
__device__ __forceinline__ void sum_support(const Problem& p, int64_t label, int64_t column,
                                            double (&sums)[kLabels][kColumns]) {
  const Features<S> features{p};
  for (int i = int(threadIdx.y * kWarp + threadIdx.x); i < kLabels * kColumns;
       i += kWarps * kWarp) {
    const int c = i / kColumns, j = i % kColumns;
    double sum = 0;
    if (label + c < p.ways && column + j < p.columns)
      for (int64_t shot = 0; shot < p.shots; ++shot)
        sum += features(p.support(blockIdx.x, label + c, shot), column + j);
    sums[c][j] = sum;
  }
}

template <class S>
__global__ void __launch_bounds__(kWarps* kWarp) nearest_kernel(const __grid_constant__ Problem p) {
  const Features<S> features{p};
  auto& sums = shared_memory<double[kLabels][kColumns]>();
  const int64_t first = (int64_t(blockIdx.y) * kWarps + threadIdx.y) * kQueries;
  int64_t rows[kQueries];
  Nearest nearest[kQueries];
  DL_UNROLL
  for (int q = 0; q < kQueries; ++q)
    rows[q] = first + q < p.questions() ? p.question(blockIdx.x, first + q) : -1;
  for (int64_t label = 0; label < p.ways; label += kLabels) {
    double total[kQueries][kLabels] = {};
    for (int64_t column = 0; column < p.columns; column += kColumns) {
      __syncthreads();  // the sums before these have been read
      sum_support<S>(p, label, column, sums);
      __syncthreads();
      for (int j = int(threadIdx.x); j < kColumns && column + j < p.columns; j += kWarp) {
        DL_UNROLL
        for (int q = 0; q < kQueries; ++q) {
          const double scaled = double(p.shots) * features(rows[q], column + j);
          DL_UNROLL
          for (int c = 0; c < kLabels; ++c) total[q][c] += share(scaled, sums[c][j]);
        }
      }
    }
    DL_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      DL_UNROLL
      for (int c = 0; c < kLabels; ++c) {
        if (first + q < p.questions() && label + c < p.ways)
          nearest[q].see(warp_sum(total[q][c]), label + c);
      }
    }
  }
  if (threadIdx.x != 0) return;
  DL_UNROLL
  for (int q = 0; q < kQueries; ++q)
    if (first + q < p.questions())
      p.predictions[blockIdx.x * p.questions() + first + q] = nearest[q].place;
}

// <x, S> of row x and the sum of a class.
__device__ __forceinline__ double across(const Problem& p, int64_t row, int64_t label) {
  const Features<double> products{p};
  double sum = 0;
  for (int64_t shot = 0; shot < p.shots; ++shot) {
    const int64_t other = p.support(blockIdx.x, label, shot);
    sum += p.holds(other) ? products(row, other) : NAN;
  }
  return sum;
}

__global__ void __launch_bounds__(kGramThreads)
    nearest_by_products_kernel(const __grid_constant__ Problem p) {
  auto& within = shared_memory<double[kGramLabels]>();
  const int64_t i = int64_t(blockIdx.y) * kGramThreads + threadIdx.x;
  const int64_t row = i < p.questions() ? p.question(blockIdx.x, i) : -1;
  Nearest nearest;
  for (int64_t label = 0; label < p.ways; label += kGramLabels) {
    const int some = int(p.ways - label < kGramLabels ? p.ways - label : kGramLabels);
    __syncthreads();  // the products before these have been read
    if (int(threadIdx.x) < some) {
      double sum = 0;
      for (int64_t shot = 0; shot < p.shots; ++shot)
        sum += across(p, p.support(blockIdx.x, label + threadIdx.x, shot), label + threadIdx.x);
      within[threadIdx.x] = sum;
    }
    __syncthreads();
    for (int c = 0; c < some; ++c)
      nearest.see(from_products(within[c], across(p, row, label + c), double(p.shots)), label + c);
  }
  if (i < p.questions()) p.predictions[blockIdx.x * p.questions() + i] = nearest.place;
}

__global__ void __launch_bounds__(kHitThreads) hits_kernel(const __grid_constant__ Problem p) {
  const int64_t i = int64_t(blockIdx.x) * kHitThreads + threadIdx.x;
  if (i >= p.episodes * p.ways) return;
  int64_t hits = 0;
  for (int64_t q = 0; q < p.queries; ++q) hits += p.predictions[i * p.queries + q] == i % p.ways;
  p.hits[i] = hits;
}

// Blocks for all episodes and, `each` at a time, their queries.
dim3 blocks(const Problem& p, int64_t each) {
  const int64_t rounds = ceil_div(p.questions(), each);
  require(rounds <= kMaxGridY, "episode_hits: an episode has too many queries.");
  return dim3(unsigned(p.episodes), unsigned(rounds));
}

void episode_hits(Lane lane, const View& predictions, const View& hits, const View& values,
                  const View& support, const View& query, int64_t gram) {
  const Problem p = check(predictions, hits, values, support, query, gram);
  if (p.episodes * p.ways == 0) return;
  if (p.queries > 0 && gram) {
    launch(lane.stream, blocks(p, kGramThreads), dim3(kGramThreads), &nearest_by_products_kernel,
           p);
  } else if (p.queries > 0) {
    visit_floating(values.dtype, [&]<class S>() {
      launch(lane.stream, blocks(p, kWarps * kQueries), dim3(kWarp, kWarps), &nearest_kernel<S>, p);
    });
  }
  launch(lane.stream, dim3(unsigned(ceil_div(p.episodes * p.ways, kHitThreads))), dim3(kHitThreads),
         &hits_kernel, p);
}

DLACCEL_REGISTER(episode_hits, episode_hits);

}  // namespace
}  // namespace dlaccel::episode_hits
