// An element-wise pass on a device that also sums its first results over rows, in an order that the
// shapes alone fix: rows are cut into blocks, each block's rows are shared by the rows of a thread
// block, and the blocks' sums, kept in a scratch tensor of the caller, are added by one fixed tree.
#pragma once

#include <optional>

#include "elementwise.cuh"
#include "reduce.cuh"

namespace dlaccel {

// Sums of the columns: sum k of block b lies at scratch[(b Sums + k) columns + column]; without
// scratch there is one block, and its sums are the totals.
template <class S, int Sums>
struct Totals {
  S* data[Sums];
  int64_t stride[Sums];
  Compute<S>* scratch;
};

// Thread blocks that a multiprocessor must be able to hold: the most that need no spills.
template <class S, int Bytes, Rows kind>
constexpr int kResident = kind == Rows::any             ? 1
                          : Bytes < 8 || sizeof(S) == 8 ? 2
                                                        : 3;

template <class S, int Bytes, Rows kind, int Sums, int Out, int N, class Formula>
__global__ void __launch_bounds__(kThreads, kResident<S, Bytes, kind>)
    column_sums_kernel(const __grid_constant__ Loops<N> loops, const __grid_constant__ int64_t rows,
                       const __grid_constant__ Formula formula,
                       const __grid_constant__ Totals<S, Sums> totals) {
  using A = Compute<S>;
  using T = Tile<S, Bytes, Out, N, kind>;
  const int64_t columns = loops.shape[0];
  const int64_t begin = int64_t(blockIdx.x) * blockDim.x * T::elements;
  T tile(loops, begin + int64_t(threadIdx.x) * T::width);
  A sums[Sums][T::elements] = {};
  const int64_t end = rows * (blockIdx.y + 1) / gridDim.y;
  DL_ROLL
  for (int64_t row = rows * blockIdx.y / gridDim.y + threadIdx.y; row < end; row += blockDim.y) {
    tile.load(row);
    formula(tile, [&](int e, int k, A result) {
      if (k < Out) store(&tile.at[k][e], result);
      if (k < Sums) sums[k][e] += result;
    });
    tile.store();
  }
  auto& shared = shared_memory<A[Sums * T::elements][kThreads]>();
  const int thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  DL_UNROLL
  for (int k = 0; k < Sums; ++k) {
    DL_UNROLL
    for (int e = 0; e < T::elements; ++e) shared[k * T::elements + e][thread] = sums[k][e];
  }
  __syncthreads();
  if (threadIdx.y != 0) return;
  DL_UNROLL
  for (int k = 0; k < Sums; ++k) {
    DL_UNROLL
    for (int e = 0; e < T::elements; ++e) {
      if (tile.column(e) >= columns) continue;
      A sum = 0;
      for (int y = 0; y < int(blockDim.y); ++y)
        sum += shared[k * T::elements + e][y * blockDim.x + threadIdx.x];
      if (totals.scratch) {
        totals.scratch[(int64_t(blockIdx.y) * Sums + k) * columns + tile.column(e)] = sum;
      } else {
        store(totals.data[k] + tile.column(e) * totals.stride[k], sum);
      }
    }
  }
}

// A block of 32 x 32 threads adds 32 columns of sum blockIdx.y; launched where there is scratch.
template <class S, int Sums>
__global__ void __launch_bounds__(kWarp* kWarp)
    add_blocks_kernel(const __grid_constant__ Totals<S, Sums> totals,
                      const __grid_constant__ int64_t columns,
                      const __grid_constant__ int64_t blocks) {
  using A = Compute<S>;
  const int k = int(blockIdx.y);
  const int64_t first = int64_t(blockIdx.x) * kWarp;
  auto& shared = shared_memory<A[kWarp][kWarp + 1]>();  // padded: columns of it fall in many banks
  A sum = 0;
  if (first + threadIdx.x < columns)
    for (int64_t block = threadIdx.y; block < blocks; block += kWarp)
      sum += totals.scratch[(block * Sums + k) * columns + first + threadIdx.x];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  const int64_t column = first + threadIdx.y;
  const A total = warp_sum(shared[threadIdx.x][threadIdx.y]);
  if (threadIdx.x == 0 && column < columns)
    store(totals.data[k] + column * totals.stride[k], total);
}

constexpr int kSumThreads = 64;  // along a row

// totals[k] is a row as long as a row of the loops (Order::keep_columns). scratch, of shape
// [blocks, Sums, columns] in the compute type, says into how many blocks the rows are cut.
template <class S, int Sums, int Out, int N, class Formula>
void run_with_column_sums(const Loops<N>& loops, const Formula& formula,
                          const std::array<View, Sums>& views, const std::optional<View>& scratch,
                          void* stream) {
  const int64_t columns = loops.columns(), rows = loops.rows();
  if (columns == 0) return;
  Totals<S, Sums> totals{};
  for (int k = 0; k < Sums; ++k) {
    totals.data[k] = reinterpret_cast<S*>(views[k].data);
    totals.stride[k] = views[k].strides[0];
  }
  int64_t blocks = 1;
  if (scratch) {
    View row_major = *scratch;
    int64_t stride = 1;
    for (int i = row_major.ndim - 1; i >= 0; --i) {
      row_major.strides[i] = stride;
      stride *= row_major.shape[i];
    }
    require(scratch->ndim == 3 && scratch->shape[1] == Sums && scratch->shape[2] == columns &&
                scratch->shape[0] >= 1 && scratch->shape[0] <= kMaxGridY &&
                scratch->strides == row_major.strides &&
                scratch->dtype == (sizeof(Compute<S>) == 8 ? DType::f64 : DType::f32),
            "the scratch of column sums must be a contiguous [blocks, sums, columns] tensor of the "
            "compute dtype.");
    blocks = scratch->shape[0];
    totals.scratch = reinterpret_cast<Compute<S>*>(scratch->data);
  }
  // Rows on several axes are rare here: one kernel for each dtype, with narrow accesses, serves
  // them.
  const bool one_axis = loops.ndim <= 2;
  const int bytes = one_axis ? access_bytes<S>(loops) : 0;
  constexpr int elements = kThreadBytes / int(sizeof(S));
  const int x = threads_along(columns, elements, bytes ? kSumThreads : kWarp);
  const dim3 grid(unsigned(ceil_div(columns, int64_t(x) * elements)), unsigned(blocks));
  const auto run = [&](auto kernel) {
    launch(stream, grid, dim3(x, kThreads / x), kernel, loops, rows, formula, totals);
  };
  if (one_axis) {
    visit_access<S>(bytes, [&]<int Bytes>() {
      run(&column_sums_kernel<S, Bytes, Rows::one_axis, Sums, Out, N, Formula>);
    });
  } else {
    run(&column_sums_kernel<S, int(sizeof(S)), Rows::any, Sums, Out, N, Formula>);
  }
  if (scratch)
    launch(stream, dim3(unsigned(ceil_div(columns, kWarp)), Sums), dim3(kWarp, kWarp),
           &add_blocks_kernel<S, Sums>, totals, columns, blocks);
}

}  // namespace dlaccel
