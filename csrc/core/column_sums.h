// An element-wise pass that also sums its first results over rows, in an order that neither the
// thread count nor the machine changes: rows are cut into at most kSumBlocks fixed blocks, each
// summed row by row, and the blocks are added one after another.
#pragma once

#include <vector>

#include "elementwise.h"

namespace dlaccel {

constexpr int64_t kSumBlocks = 64;

// totals[k] is a row of the storage type, as long as a row of the loops (Order::keep_columns).
template <class S, int Sums, int Out, int N, class Formula>
void run_with_column_sums(const Loops<N>& loops, Formula formula,
                          const std::array<View, Sums>& totals, int threads) {
  using A = Compute<S>;
  const Elementwise<S, Out, N, Formula> pass(loops, formula);
  const int64_t columns = loops.columns(), rows = columns ? loops.rows() : 0;
  const int64_t blocks = std::min(rows, kSumBlocks);
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
  });
  for (int k = 0; k < Sums; ++k) {
    S* total = reinterpret_cast<S*>(totals[k].data);
    for (int64_t column = 0; column < columns; ++column) {
      A sum = 0;
      for (int64_t block = 0; block < blocks; ++block)
        sum += partial[size_t((block * Sums + k) * columns + column)];
      store(total + column * totals[k].strides[0], sum);
    }
  }
}

}  // namespace dlaccel
