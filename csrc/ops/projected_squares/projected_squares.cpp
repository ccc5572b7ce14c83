// CPU pass over a tile of products. Each thread takes some columns of every row, so that an entry
// is the sum over its samples in their order, whatever the threads and the tiles.
#include "projected_squares.h"

#include <algorithm>

#include "../../core/parallel.h"
#include "../../core/vec.h"
#include "arguments.h"

namespace dlaccel::projected_squares {
namespace {

using V = Vec<double>;

constexpr int64_t kColumns = 64;  // threads part columns at multiples of it
static_assert(kColumns % V::lanes == 0);

// n is a multiple of the lanes.
template <class T>
__attribute__((noinline)) void vectors(T* squares, const T* products, T own, int64_t n) {
  const Vec<T> centre(own);
  for (int64_t i = 0; i < n; i += Vec<T>::lanes)
    store_lanes(squares + i, load_lanes(squares + i) + square(load_lanes(products + i), centre));
}

// Columns [begin, end) of one row. Whole vectors of neighbours in place, the rest through buffers.
void add_row(const Problem& p, double* squares, const double* products, double own, int64_t begin,
             int64_t end) {
  const int64_t n = end - begin;
  const int64_t whole = p.column_stride == 1 ? n / V::lanes * V::lanes : 0;
  vectors(squares + begin, products + begin * p.column_stride, own, whole);
  for (int64_t at = begin + whole; at < end; at += kColumns) {
    double sums[kColumns] = {}, stage[kColumns] = {};
    const int64_t count = std::min(end - at, kColumns);
    std::copy_n(squares + at, count, sums);
    for (int64_t k = 0; k < count; ++k) stage[k] = products[(at + k) * p.column_stride];
    vectors(sums, stage, own, (count + V::lanes - 1) / V::lanes * V::lanes);
    std::copy_n(sums, count, squares + at);
  }
}

template <class Label>
void add_squares(const Problem& p, const Label* labels, int threads) {
  for (int64_t row = 0; row < p.rows; ++row) {
    const int64_t label = labels[row * p.label_stride];
    require(label >= -1 && label < p.classes,
            "projected_squares: a label lies outside the classes.");
  }
  for (int64_t row = 0; row < p.rows; ++row) {
    const int64_t label = labels[row * p.label_stride];
    if (label >= 0) p.counts[label] += 1;
  }
  const int64_t blocks = (p.classes + kColumns - 1) / kColumns;
  parallel(blocks, threads_for(p.rows * p.classes, threads), [&](int64_t first, int64_t last) {
    const int64_t begin = first * kColumns, end = std::min(last * kColumns, p.classes);
    for (int64_t row = 0; row < p.rows; ++row) {
      const int64_t label = labels[row * p.label_stride];
      if (label < 0) continue;
      const double* products = p.products + row * p.row_stride;
      add_row(p, p.squares + label * p.classes, products, products[label * p.column_stride], begin,
              end);
    }
  });
}

void projected_squares(Lane lane, const View& counts, const View& squares, const View& products,
                       const View& labels) {
  const Problem problem = check(counts, squares, products, labels);
  visit_labels(labels, [&](const auto* data) { add_squares(problem, data, lane.threads); });
}

DLACCEL_REGISTER(projected_squares, projected_squares);

}  // namespace
}  // namespace dlaccel::projected_squares
