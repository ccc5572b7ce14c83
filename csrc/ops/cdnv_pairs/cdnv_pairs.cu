// CUDA: a block of threads for each tile of the triangle of pairs. Squared distances are summed
// from the differences themselves, which costs a device one addition more and needs no centre.
#include "cdnv_pairs.h"

#include "../../core/launch.cuh"
#include "../../core/registry.h"
#include "../../core/triangle.h"

namespace dlaccel::cdnv_pairs {
namespace {

constexpr int kSide = 16;         // threads along a side of a tile,
constexpr int kEdge = 2 * kSide;  // each with 2 x 2 of its pairs
constexpr int kThreads = kSide * kSide;

struct Problem {
  double* pairs;
  const double *means, *variances;
  int64_t classes, width, row, column, variance;  // the last three are strides
};

struct Rows {  // kSide numbers of the means of either side of a tile
  double left[kEdge][kSide + 1], right[kEdge][kSide + 1];
};

__device__ __forceinline__ double mean_at(const Problem& p, int64_t row, int64_t column) {
  return row < p.classes && column < p.width ? p.means[row * p.row + column * p.column] : 0;
}

template <class Measure>
__global__ void __launch_bounds__(kThreads) pairs_kernel(const __grid_constant__ Problem p) {
  auto& rows = shared_memory<Rows>();
  const TilePlace place = tile_place(int64_t(blockIdx.x));
  const int64_t top = place.row * kEdge, side = place.column * kEdge;
  const int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  double sums[2][2] = {};
  for (int64_t first = 0; first < p.width; first += kSide) {
    DL_UNROLL
    for (int half = 0; half < kEdge; half += kSide) {
      rows.left[half + y][x] = mean_at(p, top + half + y, first + x);
      rows.right[half + y][x] = mean_at(p, side + half + y, first + x);
    }
    __syncthreads();
    for (int k = 0; k < kSide; ++k) {
      DL_UNROLL
      for (int i = 0; i < 2; ++i) {
        DL_UNROLL
        for (int j = 0; j < 2; ++j) {
          const double difference = rows.left[i * kSide + y][k] - rows.right[j * kSide + x][k];
          sums[i][j] += difference * difference;
        }
      }
    }
    __syncthreads();
  }
  DL_UNROLL
  for (int i = 0; i < 2; ++i) {
    DL_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int64_t row = top + i * kSide + y, column = side + j * kSide + x;
      if (row >= p.classes || column > row) continue;
      const double own = p.variances[row * p.variance], other = p.variances[column * p.variance];
      const bool same = row == column;
      p.pairs[row * p.classes + column] = same ? 0 : measured(Measure{}, sums[i][j], own, other);
      p.pairs[column * p.classes + row] = same ? 0 : measured(Measure{}, sums[i][j], other, own);
    }
  }
}

void cdnv_pairs(Lane lane, const View& pairs, const View& means, const View& variances,
                int64_t code) {
  check(pairs, means, variances);
  const int64_t tiles = tiles_of(ceil_div(means.shape[0], kEdge));
  if (tiles == 0) return;
  require(tiles <= INT32_MAX, "cdnv_pairs: too many classes for one launch.");
  const Problem problem{reinterpret_cast<double*>(pairs.data),
                        reinterpret_cast<const double*>(means.data),
                        reinterpret_cast<const double*>(variances.data),
                        means.shape[0],
                        means.shape[1],
                        means.strides[0],
                        means.strides[1],
                        variances.strides[0]};
  visit_measure(code, [&]<class Measure>(Measure) {
    launch(lane.stream, dim3(unsigned(tiles)), dim3(kThreads), &pairs_kernel<Measure>, problem);
  });
}

DLACCEL_REGISTER(cdnv_pairs, cdnv_pairs);

}  // namespace
}  // namespace dlaccel::cdnv_pairs
