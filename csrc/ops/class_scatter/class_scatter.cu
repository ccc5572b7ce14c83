// CUDA: a block of threads for each tile of a matrix's triangle. It walks over the rows in their
// order, picks those that count, and adds their products: one order, no atomics, no host.
#include "class_scatter.h"

#include "../../core/half.h"
#include "../../core/launch.cuh"
#include "../../core/registry.h"
#include "../../core/triangle.h"

namespace dlaccel::class_scatter {
namespace {

constexpr int kSide = 16;                // threads along a side of a tile,
constexpr int kEdge = 2 * kSide;         // each with 2 x 2 of its entries
constexpr int kThreads = kSide * kSide;  // and rows looked at together
constexpr int kDepth = kSide;            // rows in shared memory at a time

struct Problem {
  double* scatter;
  const double* shifts;
  const char *features, *labels, *weight;  // no weight: null
  int64_t rows, width, classes, tiles;
  int64_t shift_row, shift_column, row, column, label, weighing;  // strides
  DType label_dtype, weight_dtype;
  bool by_class;
};

struct Used {  // the rows that count among those looked at
  int64_t row[kThreads], label[kThreads];
  double root[kThreads];
  int count[kThreads / kWarp];  // of each warp
};

struct Factors {  // rows about their shifts, for the two sides of a tile
  double left[kDepth][kEdge + 1], right[kDepth][kEdge + 1];
};

DL_HD int bits_in(uint32_t x) {
#ifdef __CUDA_ARCH__
  return __popc(x);
#else
  return __builtin_popcount(x);
#endif
}

// sqrt of a row's weight; 0 where the row does not count for the matrix.
__device__ __forceinline__ double root_of(const Problem& p, int64_t row, int64_t matrix,
                                          int64_t& label) {
  if (row >= p.rows) return 0;
  label = p.label_dtype == DType::i64 ? reinterpret_cast<const int64_t*>(p.labels)[row * p.label]
                                      : reinterpret_cast<const int32_t*>(p.labels)[row * p.label];
  if (label < 0 || label >= p.classes || (p.by_class && label != matrix)) return 0;
  if (!p.weight) return 1;
  const int64_t at = row * p.weighing;
  double weight = 0;
  switch (p.weight_dtype) {
    case DType::f64: weight = reinterpret_cast<const double*>(p.weight)[at]; break;
    case DType::f32: weight = reinterpret_cast<const float*>(p.weight)[at]; break;
    case DType::f16: weight = load(reinterpret_cast<const f16*>(p.weight)[at]); break;
    default: weight = load(reinterpret_cast<const bf16*>(p.weight)[at]);
  }
  return weight > 0 ? ::sqrt(weight) : 0;
}

// Fills `used` with the rows that count among kThreads from `first` on; returns how many.
__device__ __forceinline__ int choose(const Problem& p, int64_t first, int64_t matrix, Used& used) {
  const int thread = int(threadIdx.x), warp = thread / kWarp;
  int64_t label = -1;
  const double root = root_of(p, first + thread, matrix, label);
  const uint32_t votes = __ballot_sync(0xffffffffu, root > 0);
  if (thread % kWarp == 0) used.count[warp] = bits_in(votes);
  __syncthreads();
  int before = 0, all = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) before += used.count[w];
    all += used.count[w];
  }
  if (root > 0) {
    const int place = before + bits_in(votes & ((1u << thread % kWarp) - 1));
    used.row[place] = first + thread;
    used.label[place] = label;
    used.root[place] = root;
  }
  __syncthreads();
  return all;
}

template <class S>
__device__ __forceinline__ double factor(const Problem& p, const Used& used, int place, int count,
                                         int64_t column) {
  if (place >= count || column >= p.width) return 0;
  const S x = reinterpret_cast<const S*>(p.features)[used.row[place] * p.row + column * p.column];
  const double shift = p.shifts[used.label[place] * p.shift_row + column * p.shift_column];
  return deviation<double>(load(x), shift, used.root[place]);
}

template <class S>
__global__ void __launch_bounds__(kThreads, 2) scatter_kernel(const __grid_constant__ Problem p) {
  auto& used = shared_memory<Used>();
  auto& factors = shared_memory<Factors>();
  const int64_t matrix = int64_t(blockIdx.x) / p.tiles;
  const TilePlace place = tile_place(int64_t(blockIdx.x) % p.tiles);
  const int64_t top = place.row * kEdge, side = place.column * kEdge;
  const int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  double sums[2][2] = {};
  for (int64_t first = 0; first < p.rows; first += kThreads) {
    const int count = choose(p, first, matrix, used);
    for (int start = 0; start < count; start += kDepth) {
      DL_UNROLL
      for (int half = 0; half < kEdge; half += kSide) {
        factors.left[y][half + x] = factor<S>(p, used, start + y, count, top + half + x);
        factors.right[y][half + x] = factor<S>(p, used, start + y, count, side + half + x);
      }
      __syncthreads();
      for (int k = 0; k < kDepth; ++k) {
        DL_UNROLL
        for (int i = 0; i < 2; ++i) {
          DL_UNROLL
          for (int j = 0; j < 2; ++j)
            sums[i][j] += factors.left[k][i * kSide + y] * factors.right[k][j * kSide + x];
        }
      }
      __syncthreads();
    }
  }
  double* const total = p.scatter + matrix * p.width * p.width;
  DL_UNROLL
  for (int i = 0; i < 2; ++i) {
    DL_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int64_t row = top + i * kSide + y, column = side + j * kSide + x;
      if (row >= p.width || column > row) continue;
      const double sum = total[row * p.width + column] + sums[i][j];
      total[row * p.width + column] = sum;
      total[column * p.width + row] = sum;
    }
  }
}

void class_scatter(Lane lane, const View& scatter, const View& shifts, const View& features,
                   const View& labels, const Maybe& weight, int64_t classes) {
  check(scatter, shifts, features, labels, weight, classes);
  const int64_t width = features.shape[1], tiles = tiles_of(ceil_div(width, kEdge));
  const int64_t blocks = scatter.shape[0] * tiles;
  if (features.shape[0] == 0 || blocks == 0) return;
  require(blocks <= INT32_MAX, "class_scatter: too many classes and features for one launch.");
  const Problem problem{reinterpret_cast<double*>(scatter.data),
                        reinterpret_cast<const double*>(shifts.data),
                        features.data,
                        labels.data,
                        weight ? weight->data : nullptr,
                        features.shape[0],
                        width,
                        classes,
                        tiles,
                        shifts.shape[0] > 1 ? shifts.strides[0] : 0,
                        shifts.strides[1],
                        features.strides[0],
                        features.strides[1],
                        labels.strides[0],
                        weight ? weight->strides[0] : 0,
                        labels.dtype,
                        weight ? weight->dtype : DType::f64,
                        scatter.shape[0] == classes};
  visit_floating(features.dtype, [&]<class S>() {
    launch(lane.stream, dim3(unsigned(blocks)), dim3(kThreads), &scatter_kernel<S>, problem);
  });
}

DLACCEL_REGISTER(class_scatter, class_scatter);

}  // namespace
}  // namespace dlaccel::class_scatter
