// CUDA: a block of threads for each tile of out, one triangle of them where it is symmetric. The
// sum over the layers stays in registers; out is read and written once.
#include "ntk_hadamard.h"

#include "../../core/half.h"
#include "../../core/launch.cuh"
#include "../../core/registry.h"
#include "../../core/triangle.h"

namespace dlaccel::ntk_hadamard {
namespace {

constexpr int kSide = 16;         // threads along a side of a tile,
constexpr int kEdge = 2 * kSide;  // each with 2 x 2 of its entries
constexpr int kThreads = kSide * kSide;
constexpr int kDepth = kSide;  // columns in shared memory at a time

struct Matrix {  // no data: absent
  char* data;
  int64_t network, row, column, width;  // strides in elements, and the number of columns
};

struct Vector {
  const char* data;
  int64_t stride;

  template <class T>
  __device__ __forceinline__ T at(int64_t place) const {
    return reinterpret_cast<const T*>(data)[place * stride];
  }
};

struct Problem {
  Matrix out, gram, a1, a2, g1, g2;
  Matrix widths;
  Vector bias, scale;
  int64_t layers, outputs, rows, columns, tiles, tiles_along;  // tiles: of one network
  bool symmetric;
};

template <class T>
struct Factors {
  T left[kDepth][kEdge + 1], right[kDepth][kEdge + 1];
};

// A tile's place: its network, and its first row and column in out.
struct Place {
  int64_t network, top, side;
};

// Rows first .. first+kEdge-1 of out, of which each of the matrix's own serves `repeats`, as they
// stand in columns k .. k+kDepth-1; 0 past `rows` and from column `end` on.
template <class S, class T>
__device__ __forceinline__ void fetch(const Matrix& m, int64_t network, int64_t first, int64_t rows,
                                      int64_t repeats, int64_t k, int64_t end,
                                      T (&to)[kDepth][kEdge + 1]) {
  const int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  DL_UNROLL
  for (int half = 0; half < kEdge; half += kSide) {
    const int64_t row = first + half + y;
    const bool inside = row < rows && k + x < end;
    to[x][half + y] =
        inside ? load(reinterpret_cast<const S*>(
                     m.data)[network * m.network + row / repeats * m.row + (k + x) * m.column])
               : T(0);
  }
}

// The tile of left right^T over columns begin .. end-1, two entries by two for each thread.
template <class S, class T>
__device__ __forceinline__ void multiply(const Problem& p, const Matrix& left, const Matrix& right,
                                         const Place& place, int64_t repeats, int64_t begin,
                                         int64_t end, T (&sums)[2][2]) {
  auto& factors = shared_memory<Factors<T>>();
  const int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  DL_UNROLL
  for (int i = 0; i < 2; ++i) sums[i][0] = sums[i][1] = T(0);
  for (int64_t k = begin; k < end; k += kDepth) {
    fetch<S>(left, place.network, place.top, p.rows, repeats, k, end, factors.left);
    fetch<S>(right, place.network, place.side, p.columns, repeats, k, end, factors.right);
    __syncthreads();
    for (int depth = 0; depth < kDepth; ++depth) {
      DL_UNROLL
      for (int i = 0; i < 2; ++i) {
        DL_UNROLL
        for (int j = 0; j < 2; ++j)
          sums[i][j] += factors.left[depth][i * kSide + y] * factors.right[depth][j * kSide + x];
      }
    }
    __syncthreads();
  }
}

template <class T>
__device__ __forceinline__ T* entry_of(const Matrix& m, int64_t network, int64_t row,
                                       int64_t column) {
  return reinterpret_cast<T*>(m.data) + network * m.network + row * m.row + column * m.column;
}

// A layer's width on one side, whatever the table says within the columns that are left.
__device__ __forceinline__ int64_t width_of(const Problem& p, int64_t layer, int64_t side,
                                            int64_t left) {
  const int64_t width = *entry_of<const int64_t>(p.widths, 0, layer, side);
  return width < 0 ? 0 : width < left ? width : left;
}

template <class S>
__global__ void __launch_bounds__(kThreads, 2) hadamard_kernel(const __grid_constant__ Problem p) {
  using T = Compute<S>;
  const int64_t number = int64_t(blockIdx.x) % p.tiles;
  const TilePlace tile =
      p.symmetric ? tile_place(number) : TilePlace{number / p.tiles_along, number % p.tiles_along};
  const Place place{int64_t(blockIdx.x) / p.tiles, tile.row * kEdge, tile.column * kEdge};
  const int x = int(threadIdx.x) % kSide, y = int(threadIdx.x) / kSide;
  T totals[2][2] = {}, left[2][2], right[2][2] = {};
  if (p.gram.data) {
    DL_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int64_t row = place.top + e / 2 * kSide + y, column = place.side + e % 2 * kSide + x;
      if (row < p.rows && column < p.columns)
        right[e / 2][e % 2] = *entry_of<T>(p.gram, place.network, row, column);
    }
  }
  int64_t a = 0, g = 0;
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    const int64_t a_end = a + width_of(p, layer, 0, p.a1.width - a);
    const int64_t g_end = g + width_of(p, layer, 1, p.g1.width - g);
    multiply<S>(p, p.a1, p.a2, place, p.outputs, a, a_end, left);
    if (!p.gram.data) multiply<S>(p, p.g1, p.g2, place, 1, g, g_end, right);
    const T bias = T(p.bias.at<double>(layer)), scale = T(p.scale.at<double>(layer));
    DL_UNROLL
    for (int e = 0; e < 4; ++e)
      totals[e / 2][e % 2] += entry(left[e / 2][e % 2], right[e / 2][e % 2], bias, scale);
    a = a_end, g = g_end;
  }
  DL_UNROLL
  for (int e = 0; e < 4; ++e) {
    const int64_t row = place.top + e / 2 * kSide + y, column = place.side + e % 2 * kSide + x;
    if (row >= p.rows || column >= p.columns || (p.symmetric && column > row)) continue;
    T* const to = entry_of<T>(p.out, place.network, row, column);
    const T sum = *to + totals[e / 2][e % 2];
    *to = sum;
    if (p.symmetric) *entry_of<T>(p.out, place.network, column, row) = sum;
  }
}

Matrix matrix(const Maybe& view) {
  if (!view) return {};
  return {view->data, view->strides[0], view->strides[1], view->strides[2], view->shape[2]};
}

void ntk_hadamard(Lane lane, const View& out, const View& a1, const Maybe& g1, const Maybe& a2,
                  const Maybe& g2, const View& widths, const View& bias, const View& scale,
                  const Maybe& gram) {
  const Arguments p = checked(out, a1, g1, a2, g2, widths, bias, scale, gram);
  if (p.empty()) return;
  const int64_t down = ceil_div(p.rows(), kEdge), along = ceil_div(p.columns(), kEdge);
  const int64_t tiles = p.symmetric() ? tiles_of(down) : down * along;
  require(tiles * p.networks <= INT32_MAX, "ntk_hadamard: out is too large for one launch.");
  const Problem problem{matrix(p.out),
                        matrix(p.gram),
                        matrix(p.a1),
                        matrix(p.symmetric() ? p.a1 : p.a2),
                        matrix(p.g1),
                        matrix(p.symmetric() ? p.g1 : p.g2),
                        {widths.data, 0, widths.strides[0], widths.strides[1], 2},
                        {bias.data, bias.strides[0]},
                        {scale.data, scale.strides[0]},
                        p.layers,
                        p.outputs,
                        p.rows(),
                        p.columns(),
                        tiles,
                        along,
                        p.symmetric()};
  visit_floating(a1.dtype, [&]<class S>() {
    launch(lane.stream, dim3(unsigned(tiles * p.networks)), dim3(kThreads), &hadamard_kernel<S>,
           problem);
  });
}

DLACCEL_REGISTER(ntk_hadamard, ntk_hadamard);

}  // namespace
}  // namespace dlaccel::ntk_hadamard
