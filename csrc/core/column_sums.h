// An element-wise pass that also sums its first results over rows, in an order that neither the
// thread count nor the machine changes: rows are cut into at most kSumBlocks blocks of at least
// kSumRows rows, each summed row by row, and the blocks are added one after another.
#pragma once

#include <vector>

#include "elementwise.h"

namespace dlaccel {

constexpr int64_t kSumBlocks = 64;
constexpr int64_t kSumRows = 32;

// sums += others, n numbers.
template <class A>
void add_row(A* sums, const A* others, int64_t n) {
  int64_t i = 0;
  for (; i + Vec<A>::lanes <= n; i += Vec<A>::lanes)
    store_lanes(sums + i, load_lanes<A>(sums + i) + load_lanes<A>(others + i));
  for (; i < n; ++i) sums[i] += others[i];
}

// totals[k] is a row of the storage type, as long as a row of the loops (Order::keep_columns).
template <class S, int Sums, int Out, int N, class Formula>
void run_with_column_sums(const Loops<N>& loops, Formula formula,
                          const std::array<View, Sums>& totals, int threads) {
  using A = Compute<S>;
  const Elementwise<S, Out, N, Formula> pass(loops, formula);
  const int64_t columns = loops.columns(), rows = columns ? loops.rows() : 0;
  const int64_t blocks = std::clamp<int64_t>(rows / kSumRows, rows > 0, kSumBlocks);
  const int64_t tiles = (columns + kBlock - 1) / kBlock;
  std::vector<A> partial(size_t(blocks * Sums * columns));
  threads = threads_for(rows * columns, threads);
  parallel(blocks * tiles, threads, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t block = task / tiles, begin = task % tiles * kBlock;
      const int64_t end = std::min(begin + kBlock, columns);
      std::array<A*, Sums> sums;
      for (int k = 0; k < Sums; ++k)
        sums[k] = partial.data() + (block * Sums + k) * columns + begin;
      for (int64_t row = rows * block / blocks; row < rows * (block + 1) / blocks; ++row)
        pass.template run<Sums>(row, begin, end, sums);
    }
    pass.finish();
  });
  parallel(Sums * tiles, threads, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t k = task / tiles, begin = task % tiles * kBlock;
      const int64_t end = std::min(begin + kBlock, columns);
      A* sums = partial.data() + k * columns;  // block 0 takes the others' sums
      for (int64_t block = 1; block < blocks; ++block)
        add_row(sums + begin, sums + block * Sums * columns + begin, end - begin);
      const View& total = totals[size_t(k)];
      for (int64_t column = begin; column < end; ++column)
        store(reinterpret_cast<S*>(total.data) + column * total.strides[0],
              blocks ? sums[column] : A(0));
    }
  });
}

}  // namespace dlaccel
