// CPU loops for element-wise formulas: any strides, vectors throughout, a tail padded in registers.
#pragma once

#include <utility>

#include "dispatch.h"
#include "loops.h"
#include "parallel.h"
#include "vec_math.h"

namespace dlaccel {

// Results larger than this bypass the cache: nothing of them would be left there for a reader.
constexpr int64_t kStreamBytes = 8 << 20;
constexpr int64_t kBlock = 4096;  // elements of a row that one task takes

// Operands 0 .. Out-1 of `Loops` are written, the others read. formula(Vec...) -> array of Out
// Vecs. There is one compiled loop for each formula: runs of vectors. Strided rows and tails are
// staged through small buffers, whose unused lanes repeat a neighbour so that they raise nothing
// new.
template <class S, int Out, int N, class Formula>
class Elementwise {
 public:
  using A = Compute<S>;
  using V = Vec<A>;
  static constexpr int In = N - Out;

  Elementwise(const Loops<N>& loops, Formula formula)
      : loops_(loops),
        formula_(formula),
        stream_(loops.rows() * loops.columns() * int64_t(sizeof(S)) >= kStreamBytes) {}

  // Columns [begin, end) of a row. With Sums > 0, sums[k] points at column `begin` of a row to
  // which result k is added, unrounded. finish() follows the last call of a thread.
  template <int Sums = 0>
  void run(int64_t row, int64_t begin, int64_t end, std::array<A*, Sums> sums = {}) const {
    Row at;
    S splat[In][V::lanes];
    int64_t offsets[N];
    loops_.row_offsets(row, offsets);
    bool contiguous = true, aligned = true;
    for (int k = 0; k < N; ++k) {
      const int64_t stride = loops_.strides[k][0];
      at.data[k] = reinterpret_cast<S*>(loops_.data[k]) + offsets[k] + begin * stride;
      if (k >= Out && stride == 0) {  // one value for the whole row
        std::fill_n(splat[k - Out], V::lanes, *at.data[k]);
        at.data[k] = splat[k - Out];
        at.mask[k] = 0;
      } else {
        contiguous &= stride == 1;
      }
      aligned &= k >= Out || reinterpret_cast<uintptr_t>(at.data[k]) % DL_VECTOR_BYTES == 0;
    }
    const int64_t n = end - begin;
    if (contiguous && n >= V::lanes) {
      across<Sums>(at, n, sums, stream_ && aligned);
    } else {
      for (int64_t i = 0; i < n; i += kStage)
        staged<Sums>(at, i, int(std::min<int64_t>(kStage, n - i)), sums);
    }
  }

  void finish() const {
    if (stream_) stream_fence();
  }

  // Every element once, rows cut into blocks, blocks shared among threads.
  void run_all(int threads) const {
    const int64_t columns = loops_.columns(), rows = loops_.rows();
    if (columns == 0 || rows == 0) return;
    const int64_t blocks = (columns + kBlock - 1) / kBlock;
    parallel(rows * blocks, threads_for(rows * columns, threads), [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        const int64_t begin = task % blocks * kBlock;
        run(task / blocks, begin, std::min(begin + kBlock, columns));
      }
      finish();
    });
  }

 private:
  static constexpr int kStage = 64;  // elements; a multiple of every vector width

  // Where a row's operands lie. Element i is at data[k] + (i & mask[k]): a mask of 0 stands still.
  struct Row {
    std::array<S*, N> data;
    std::array<int64_t, N> mask;
    Row() { mask.fill(-1); }
  };

  // flatten: the formula is a lambda, which no macro marks for inlining.
  template <int Sums>
  __attribute__((noinline, flatten)) void vectors(Row at, int64_t n, std::array<A*, Sums> sums,
                                                  bool stream) const {
    for (int64_t i = 0; i < n; i += V::lanes) {
      const auto results = [&]<std::size_t... k>(std::index_sequence<k...>) {
        return formula_(load_lanes<S>(at.data[Out + k] + (i & at.mask[Out + k]))...);
      }(std::make_index_sequence<In>{});
      for (int k = 0; k < Out; ++k) {
        if (stream) stream_lanes(at.data[k] + i, results[k]);
        else store_lanes(at.data[k] + i, results[k]);
      }
      for (int k = 0; k < Sums; ++k)
        store_lanes(sums[k] + i, load_lanes<A>(sums[k] + i) + results[k]);
    }
  }

  // A row of neighbours. What is left past the last whole vector is the end of one vector that
  // reaches back; it is computed first, since its inputs may be the memory that is written.
  template <int Sums>
  void across(const Row& at, int64_t n, const std::array<A*, Sums>& sums, bool stream) const {
    const int64_t whole = n / V::lanes * V::lanes, back = n - V::lanes;
    const int count = int(n - whole), skip = V::lanes - count;
    if (count == 0) return vectors<Sums>(at, n, sums, stream);
    S stage[Out][V::lanes];
    A partial[Sums + 1][V::lanes] = {};
    Row last = at;
    std::array<A*, Sums> partials;
    for (int k = 0; k < N; ++k)
      last.data[k] = k < Out ? stage[k] : at.data[k] + (back & at.mask[k]);
    for (int k = 0; k < Sums; ++k) partials[k] = partial[k];
    vectors<Sums>(last, V::lanes, partials, false);
    vectors<Sums>(at, whole, sums, stream);
    for (int k = 0; k < Out; ++k) std::copy_n(stage[k] + skip, count, at.data[k] + whole);
    for (int k = 0; k < Sums; ++k)
      for (int i = 0; i < count; ++i) sums[k][whole + i] += partial[k][skip + i];
  }

  // At most kStage elements of any strides, through buffers.
  template <int Sums>
  void staged(const Row& at, int64_t start, int count, const std::array<A*, Sums>& sums) const {
    S stage[N][kStage];
    A partial[Sums + 1][kStage] = {};
    Row buffers;
    std::array<A*, Sums> partials;
    const int padded = (count + V::lanes - 1) / V::lanes * V::lanes;
    for (int k = 0; k < N; ++k) {
      buffers.data[k] = stage[k];
      const int64_t stride = loops_.strides[k][0];
      if (k >= Out)
        for (int i = 0; i < padded; ++i)
          stage[k][i] = at.data[k][(start + std::min(i, count - 1)) * stride];
    }
    for (int k = 0; k < Sums; ++k) partials[k] = partial[k];
    vectors<Sums>(buffers, padded, partials, false);
    for (int k = 0; k < Out; ++k)
      for (int i = 0; i < count; ++i) at.data[k][(start + i) * loops_.strides[k][0]] = stage[k][i];
    for (int k = 0; k < Sums; ++k)
      for (int i = 0; i < count; ++i) sums[k][start + i] += partial[k][i];
  }

  Loops<N> loops_;
  Formula formula_;
  bool stream_;
};

}  // namespace dlaccel
