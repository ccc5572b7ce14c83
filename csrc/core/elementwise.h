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

  Elementwise(const Loops<N>& loops, Formula formula) : loops_(loops), formula_(formula) {}

  // Columns [begin, end) of a row. With Sums > 0, sums[k] points at column `begin` of a row to
  // which result k is added, unrounded.
  template <int Sums = 0>
  void run(int64_t row, int64_t begin, int64_t end, std::array<A*, Sums> sums = {}) const {
    std::array<S*, N> at;
    int64_t offsets[N];
    loops_.row_offsets(row, offsets);
    bool contiguous = true, aligned = true;
    for (int k = 0; k < N; ++k) {
      at[k] = reinterpret_cast<S*>(loops_.data[k]) + offsets[k] + begin * loops_.strides[k][0];
      contiguous &= loops_.strides[k][0] == 1;
      aligned &= k >= Out || reinterpret_cast<uintptr_t>(at[k]) % DL_VECTOR_BYTES == 0;
    }
    const int64_t n = end - begin, whole = contiguous ? n / V::lanes * V::lanes : 0;
    vectors<Sums>(at, whole, sums, stream_ && aligned);
    for (int64_t i = whole; i < n; i += kStage)
      staged<Sums>(at, i, int(std::min<int64_t>(kStage, n - i)), sums);
  }

  // Every element once, rows cut into blocks, blocks shared among threads.
  void run_all(int threads) {
    const int64_t columns = loops_.columns(), rows = loops_.rows();
    if (columns == 0 || rows == 0) return;
    stream_ = rows * columns * int64_t(sizeof(S)) >= kStreamBytes;
    const int64_t blocks = (columns + kBlock - 1) / kBlock;
    parallel(rows * blocks, threads_for(rows * columns, threads), [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        const int64_t begin = task % blocks * kBlock;
        run(task / blocks, begin, std::min(begin + kBlock, columns));
      }
    });
  }

 private:
  static constexpr int kStage = 64;  // elements; a multiple of every vector width

  // flatten: the formula is a lambda, which no macro marks for inlining.
  template <int Sums>
  __attribute__((noinline, flatten)) void vectors(std::array<S*, N> at, int64_t n,
                                                  std::array<A*, Sums> sums, bool stream) const {
    for (int64_t i = 0; i < n; i += V::lanes) {
      const auto results = [&]<std::size_t... k>(std::index_sequence<k...>) {
        return formula_(load_lanes<S>(at[Out + k] + i)...);
      }(std::make_index_sequence<In>{});
      for (int k = 0; k < Out; ++k) {
        if (stream) stream_lanes(at[k] + i, results[k]);
        else store_lanes(at[k] + i, results[k]);
      }
      for (int k = 0; k < Sums; ++k)
        store_lanes(sums[k] + i, load_lanes<A>(sums[k] + i) + results[k]);
    }
    if (stream) stream_fence();
  }

  template <int Sums>
  void staged(const std::array<S*, N>& at, int64_t start, int count,
              const std::array<A*, Sums>& sums) const {
    S stage[N][kStage];
    A partial[Sums + 1][kStage] = {};
    std::array<S*, N> buffers;
    std::array<A*, Sums> partials;
    const int padded = (count + V::lanes - 1) / V::lanes * V::lanes;
    for (int k = 0; k < N; ++k) {
      buffers[k] = stage[k];
      const int64_t stride = loops_.strides[k][0];
      if (k >= Out)
        for (int i = 0; i < padded; ++i)
          stage[k][i] = at[k][(start + std::min(i, count - 1)) * stride];
    }
    for (int k = 0; k < Sums; ++k) partials[k] = partial[k];
    vectors<Sums>(buffers, padded, partials, false);
    for (int k = 0; k < Out; ++k)
      for (int i = 0; i < count; ++i) at[k][(start + i) * loops_.strides[k][0]] = stage[k][i];
    for (int k = 0; k < Sums; ++k)
      for (int i = 0; i < count; ++i) sums[k][start + i] += partial[k][i];
  }

  Loops<N> loops_;
  Formula formula_;
  bool stream_ = false;
};

}  // namespace dlaccel
