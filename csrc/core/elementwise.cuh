// Element-wise formulas on a device: any strides, accesses as wide as the pointers allow, column
// tiles. Odd widths cost narrower accesses, not fewer bytes in flight.
#pragma once

#include "half.h"
#include "launch.cuh"
#include "loops.h"

namespace dlaccel {

constexpr int kThreads = 256;
constexpr int kThreadBytes = 16;  // of a row of each operand, for each thread

template <int Bytes>
struct Word;
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<4> {
  using type = uint32_t;
};
template <>
struct Word<2> {
  using type = uint16_t;
};

template <class T>
__device__ __forceinline__ void store_word(T* to, T word) {
  *to = word;
}
#ifdef __CUDA_ARCH__
__device__ __forceinline__ void store_word(uint2* to, uint2 word) {  // nvcc 13.0 would split it
  asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(word.x), "r"(word.y) : "memory");
}
#endif

// Rows on one axis at most need no division, and fewer registers.
enum class Rows { one_axis, any };

// What one thread holds of a row: for each operand kThreadBytes, as groups of `width` neighbours
// that lie a thread row apart, so that a warp always touches neighbouring addresses. An operand
// whose data is null is absent: neither read nor written. Operands 0 .. Out-1 are written, the
// others read.
template <class S, int Bytes, int Out, int N, Rows kind = Rows::any>
class Tile {
 public:
  static constexpr int width = Bytes / int(sizeof(S));
  static constexpr int elements = kThreadBytes / int(sizeof(S));

  S at[N][elements];

  // `column`: the thread's first column. A width above one implies neighbouring columns.
  __device__ __forceinline__ Tile(const Loops<N>& loops, int64_t column)
      : loops_(loops), column_(column), step_(int64_t(blockDim.x) * width) {}

  __device__ __forceinline__ void load(int64_t row) {
    if constexpr (kind == Rows::any) loops_.row_offsets(row, offsets_);
    else offsets_[0] = row;
    DL_UNROLL
    for (int k = Out; k < N; ++k) {
      if (!loops_.data[k]) continue;
      DL_UNROLL
      for (int group = 0; group < elements; group += width) read(k, group);
    }
  }

  __device__ __forceinline__ void store() const {
    DL_UNROLL
    for (int k = 0; k < Out; ++k) {
      if (!loops_.data[k]) continue;
      DL_UNROLL
      for (int group = 0; group < elements; group += width) write(k, group);
    }
  }

  // The column of element `e`.
  __device__ __forceinline__ int64_t column(int e) const {
    return column_ + e / width * step_ + e % width;
  }

 private:
  using Access = typename Word<Bytes>::type;

  __device__ __forceinline__ S* address(int k, int64_t column) const {
    const int64_t stride = width == 1 ? loops_.strides[k][0] : 1;
    const int64_t row = kind == Rows::any ? offsets_[k] : offsets_[0] * loops_.strides[k][1];
    return reinterpret_cast<S*>(loops_.data[k]) + row + column * stride;
  }

  __device__ __forceinline__ void read(int k, int group) {
    const int64_t first = column(group), left = loops_.shape[0] - first;
    const S* from = address(k, first);
    if (left >= width) {
      const Access word = *reinterpret_cast<const Access*>(from);
      memcpy(at[k] + group, &word, Bytes);
    } else {
      DL_UNROLL
      for (int i = 0; i < width; ++i) at[k][group + i] = i < left ? from[i] : S{};
    }
  }

  __device__ __forceinline__ void write(int k, int group) const {
    const int64_t first = column(group), left = loops_.shape[0] - first;
    S* to = address(k, first);
    if (left >= width) {
      Access word;
      memcpy(&word, at[k] + group, Bytes);
      store_word(reinterpret_cast<Access*>(to), word);
    } else {
      DL_UNROLL
      for (int i = 0; i < width; ++i)
        if (i < left) to[i] = at[k][group + i];
    }
  }

  const Loops<N>& loops_;
  const int64_t column_, step_;
  int64_t offsets_[kind == Rows::any ? N : 1];  // of the row in each operand; or the row's number
};

// The widest access in bytes that every operand of the plan allows; 0 where columns do not
// neighbour.
template <class S, int N>
int access_bytes(const Loops<N>& loops) {
  uintptr_t places = kThreadBytes;  // the lowest set bit of an OR is the common alignment
  for (int k = 0; k < N; ++k) {
    if (!loops.data[k]) continue;
    if (loops.strides[k][0] != 1 && loops.columns() > 1) return 0;
    places |= reinterpret_cast<uintptr_t>(loops.data[k]);
    for (int i = 1; i < loops.ndim; ++i) places |= uintptr_t(loops.strides[k][i]) * sizeof(S);
  }
  return int(places & -places);
}

// Calls body.operator()<Bytes>() with the access width in bytes, at least that of one element.
template <class S, class Body>
void visit_access(int bytes, Body&& body) {
  if (bytes == 16) return body.template operator()<16>();
  if constexpr (sizeof(S) < 8)
    if (bytes == 8) return body.template operator()<8>();
  if constexpr (sizeof(S) < 4)
    if (bytes == 4) return body.template operator()<4>();
  return body.template operator()<int(sizeof(S))>();
}

// Threads along a row: the most that leave at most an eighth of the padded row idle.
inline int threads_along(int64_t columns, int elements, int most) {
  int threads = most;
  for (; threads > 1; threads /= 2) {
    const int64_t tile = int64_t(threads) * elements;
    if ((ceil_div(columns, tile) * tile - columns) * 8 <= columns) break;
  }
  return threads;
}

template <class S, int Bytes, int Out, int N, class Formula>
__global__ void __launch_bounds__(kThreads)
    elementwise_kernel(const __grid_constant__ Loops<N> loops,
                       const __grid_constant__ int64_t first, const __grid_constant__ int64_t rows,
                       const __grid_constant__ Formula formula) {
  using T = Tile<S, Bytes, Out, N>;
  const int64_t begin = int64_t(blockIdx.x) * blockDim.x * T::elements;
  T tile(loops, begin + int64_t(threadIdx.x) * T::width);
  const int64_t row = first + int64_t(blockIdx.y) * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  tile.load(row);
  formula(tile, [&](int e, int k, Compute<S> result) { store(&tile.at[k][e], result); });
  tile.store();
}

// formula(tile, emit) calls emit(e, k, result) for each element e and output k.
template <class S, int Out, int N, class Formula>
void run_elementwise(const Loops<N>& loops, const Formula& formula, void* stream) {
  const int64_t columns = loops.columns(), rows = loops.rows();
  if (columns == 0 || rows == 0) return;
  const int bytes = access_bytes<S>(loops);
  constexpr int elements = kThreadBytes / int(sizeof(S));
  // Where columns do not neighbour, rows may: a squarer block shares their cache lines.
  const int x = threads_along(columns, elements, bytes ? kThreads : kWarp);
  const int y = int(std::min<int64_t>(kThreads / x, rows));
  const int64_t tiles = ceil_div(columns, int64_t(x) * elements);
  visit_access<S>(bytes, [&]<int Bytes>() {
    for (int64_t first = 0; first < rows; first += kMaxGridY * y) {
      const int64_t blocks = std::min(ceil_div(rows - first, y), kMaxGridY);
      launch(stream, dim3(unsigned(tiles), unsigned(blocks)), dim3(x, y),
             &elementwise_kernel<S, Bytes, Out, N, Formula>, loops, first, rows, formula);
    }
  });
}

}  // namespace dlaccel
