// The two nearest centres of each row of features on a device: the row is centred, multiplied with
// the centres and compared in one kernel, which stores neither a centred row nor a score of all.
#include "../../core/contiguous.h"
#include "../../core/dispatch.h"
#include "../../core/launch.cuh"
#include "../../core/registry.h"
#include "top_two.h"

namespace dlaccel::top_two {
namespace {

constexpr int kSide = 16;  // a block has kSide x kSide threads
constexpr int kEach = 4;   // rows, and centres, of a thread
constexpr int kTile = kSide * kEach;
constexpr int kDepth = 16;      // features in shared memory at a time
constexpr int kSumDepth = 512;  // features summed before the sum joins the total: SUMMED in Python
static_assert(kDepth == kSide && kSumDepth % kDepth == 0);

struct Problem {
  int64_t *best, *second;
  float *scores, *norms;
  const char* features;
  const float *shift, *centres, *half_norms;
  int64_t rows, columns, width;  // columns: the centres
  int64_t feature_strides[2], centre_strides[2], shift_stride, half_norm_stride;
};

struct Tile {  // feature by feature; padded, as threads write down columns of it
  float rows[kDepth][kTile + 1], centres[kDepth][kTile + 1];
};

using Found = Best<float, int64_t>;

// <row, centre> of kEach x kEach pairs, in sums of kSumDepth features at most.
struct Products {
  float total[kEach][kEach] = {}, part[kEach][kEach] = {};

  __device__ __forceinline__ void add(const Tile& tile, int x, int y) {
    DL_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      float row[kEach], centre[kEach];
      DL_UNROLL
      for (int i = 0; i < kEach; ++i) {
        row[i] = tile.rows[k][y + kSide * i];
        centre[i] = tile.centres[k][x + kSide * i];
      }
      DL_UNROLL
      for (int i = 0; i < kEach; ++i) {
        DL_UNROLL
        for (int j = 0; j < kEach; ++j) part[i][j] += row[i] * centre[j];
      }
    }
  }
  __device__ __forceinline__ void close() {
    DL_UNROLL
    for (int i = 0; i < kEach; ++i) {
      DL_UNROLL
      for (int j = 0; j < kEach; ++j) total[i][j] += part[i][j], part[i][j] = 0;
    }
  }
};

template <class S>
__device__ __forceinline__ void load_tile(Tile& tile, const Problem& p, int64_t row, int64_t column,
                                          int64_t feature) {
  const S* features = reinterpret_cast<const S*>(p.features);
  const int64_t at = feature + threadIdx.x;  // neighbouring threads read neighbouring features
  const bool inside = at < p.width;
  const float shift = inside ? p.shift[at * p.shift_stride] : 0;
  DL_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int place = int(threadIdx.y) + kSide * i;
    const bool is_row = inside && row + place < p.rows;
    const bool is_centre = inside && column + place < p.columns;
    tile.rows[threadIdx.x][place] =
        is_row
            ? float(
                  load(features[(row + place) * p.feature_strides[0] + at * p.feature_strides[1]]) -
                  shift)
            : 0;
    tile.centres[threadIdx.x][place] =
        is_centre ? p.centres[(column + place) * p.centre_strides[0] + at * p.centre_strides[1]]
                  : 0;
  }
}

// The kSide threads of a row are neighbours in one warp. Every lane gets the merged result.
__device__ __forceinline__ void merge_row(Found& found, float& square) {
  DL_UNROLL
  for (int step = kSide / 2; step > 0; step /= 2) {
    const auto from = [&](auto value) { return __shfl_xor_sync(0xffffffffu, value, step); };
    merge(found, {from(found.first), from(found.second), from(found.third),
                  from(found.first_column), from(found.second_column)});
    square += from(square);
  }
}

template <class S>
__global__ void __launch_bounds__(kSide* kSide)
    nearest_centres_kernel(const __grid_constant__ Problem p) {
  Tile& tile = shared_memory<Tile>();
  const int x = int(threadIdx.x), y = int(threadIdx.y);
  const int64_t first = int64_t(blockIdx.x) * kTile;
  Found found[kEach];
  float squares[kEach] = {};
  DL_UNROLL
  for (int i = 0; i < kEach; ++i) found[i] = nothing_yet<float>();
  DL_ROLL
  for (int64_t column = 0; column == 0 || column < p.columns; column += kTile) {
    Products products;
    DL_ROLL
    for (int64_t feature = 0; feature < p.width; feature += kDepth) {
      load_tile<S>(tile, p, first, column, feature);
      __syncthreads();
      products.add(tile, x, y);
      if (column == 0) {
        DL_UNROLL
        for (int i = 0; i < kEach; ++i) {
          const float value = tile.rows[x][y + kSide * i];
          squares[i] += value * value;
        }
      }
      __syncthreads();
      if ((feature + kDepth) % kSumDepth == 0) products.close();
    }
    products.close();
    DL_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const int64_t at = column + x + kSide * j;
      if (at >= p.columns) continue;
      const float half_norm = p.half_norms[at * p.half_norm_stride];
      DL_UNROLL
      for (int i = 0; i < kEach; ++i) pass(found[i], half_norm - products.total[i][j], at);
    }
  }
  DL_UNROLL
  for (int i = 0; i < kEach; ++i) {
    merge_row(found[i], squares[i]);
    const int64_t row = first + y + kSide * i;
    if (x != 0 || row >= p.rows) continue;
    p.best[row] = found[i].first_column;
    p.second[row] = found[i].second_column;
    p.scores[3 * row] = found[i].first;
    p.scores[3 * row + 1] = found[i].second;
    p.scores[3 * row + 2] = found[i].third;
    p.norms[row] = sqrtf(squares[i]);
  }
}

void nearest_centres(Lane lane, const View& best, const View& second, const View& scores,
                     const View& norms, const View& features, const View& shift,
                     const View& centres, const View& half_norms) {
  require(features.ndim == 2 && shift.ndim == 1 && centres.ndim == 2 && half_norms.ndim == 1,
          "nearest_centres: features and centres are matrices, shift and half_norms vectors.");
  const int64_t rows = features.shape[0], width = features.shape[1], columns = centres.shape[0];
  require(shift.shape[0] == width && centres.shape[1] == width && half_norms.shape[0] == columns,
          "nearest_centres: features are (N, D), shift (D), centres (C, D), half_norms (C).");
  for (const View* view : {&shift, &centres, &half_norms})
    require(view->dtype == DType::f32, "nearest_centres: shift and centres are float32.");
  require(is_contiguous(best, DType::i64, {rows}) && is_contiguous(second, DType::i64, {rows}) &&
              is_contiguous(scores, DType::f32, {rows, 3}) &&
              is_contiguous(norms, DType::f32, {rows}),
          "nearest_centres: best and second are (N) int64, scores (N, 3) and norms (N) float32, "
          "all contiguous.");
  const auto floats = [](const View& view) { return reinterpret_cast<float*>(view.data); };
  const Problem problem{reinterpret_cast<int64_t*>(best.data),
                        reinterpret_cast<int64_t*>(second.data),
                        floats(scores),
                        floats(norms),
                        features.data,
                        floats(shift),
                        floats(centres),
                        floats(half_norms),
                        rows,
                        columns,
                        width,
                        {features.strides[0], features.strides[1]},
                        {centres.strides[0], centres.strides[1]},
                        shift.strides[0],
                        half_norms.strides[0]};
  if (rows == 0) return;
  visit_floating(features.dtype, [&]<class S>() {
    launch(lane.stream, dim3(unsigned(ceil_div(rows, kTile))), dim3(kSide, kSide),
           &nearest_centres_kernel<S>, problem);
  });
}

DLACCEL_REGISTER(nearest_centres, nearest_centres);

}  // namespace
}  // namespace dlaccel::top_two
