// CPU product of deviations from class means, which are formed a few rows at a time on the way into
// the registers. An entry sums its features in ascending order, block after block, whatever the
// threads and the tiles.
#include <algorithm>
#include <memory>

#include "../../core/contiguous.h"
#include "../../core/dispatch.h"
#include "../../core/micro_kernel.h"
#include "../../core/parallel.h"
#include "../../core/registry.h"
#include "../../core/widen.h"
#include "arguments.h"

namespace dlaccel::projected_squares {
namespace {

using V = Vec<double>;
using Block = RegisterBlock<double>;

constexpr int64_t kDepth = 256;             // features of a panel: 32 kB with AVX-512
constexpr int64_t kRows = 8 * Block::rows;  // deviations in the second cache, 96 or 48 rows

// The axes in panels of Block::columns, feature after feature; the last panel is filled up with
// zeros. Memory is left as it comes until packed.
class Panels {
 public:
  Panels(const View& axes)
      : axes_(axes),
        width_(axes.shape[1]),
        count_((axes.shape[0] + Block::columns - 1) / Block::columns),
        numbers_(new double[size_t(count_ * Block::columns * width_)]) {}

  int64_t count() const { return count_; }

  // Features [first, first + depth) of a panel.
  double* at(int64_t panel, int64_t first) const {
    return numbers_.get() + (panel * width_ + first) * Block::columns;
  }

  void pack(int64_t panel) const {
    const int64_t row = panel * Block::columns;
    const int64_t rows = std::min<int64_t>(Block::columns, axes_.shape[0] - row);
    const double* data = reinterpret_cast<const double*>(axes_.data);
    double* to = at(panel, 0);
    for (int64_t k = 0; k < width_; ++k, to += Block::columns) {
      for (int64_t i = 0; i < rows; ++i)
        to[i] = data[(row + i) * axes_.strides[0] + k * axes_.strides[1]];
      std::fill(to + rows, to + Block::columns, 0.0);
    }
  }

 private:
  const View& axes_;
  int64_t width_, count_;
  std::unique_ptr<double[]> numbers_;
};

template <class S>
struct Rows {
  const S* data;
  int64_t row_stride, column_stride;
  const double* means;
  int64_t mean_row_stride, mean_stride, width;

  // Features [first, first + depth) of a row about the mean of its class; none of a row without.
  void deviate(int64_t row, int64_t label, int64_t first, int64_t depth, double* to) const {
    if (label < 0) {
      std::fill_n(to, depth, 0.0);
      return;
    }
    const S* x = data + row * row_stride + first * column_stride;
    const double* mean = means + label * mean_row_stride + first * mean_stride;
    int64_t k = 0;
    if (column_stride == 1 && mean_stride == 1)
      for (; k + V::lanes <= depth; k += V::lanes)
        store_lanes(to + k, load_wide(x + k) - load_lanes(mean + k));
    for (; k < depth; ++k) to[k] = double(load(x[k * column_stride])) - mean[k * mean_stride];
  }
};

// Up to Block::rows rows of deviations with a panel, into the columns that it holds.
void multiply(int rows, const double* deviations, const double* panel, int64_t depth, double* out,
              int64_t stride, int64_t columns, bool add) {
  if (columns >= Block::columns)
    return multiply_rows<double>(rows, deviations, kDepth, panel, depth, out, stride, add);
  double edge[Block::rows * Block::columns];
  multiply_rows<double>(rows, deviations, kDepth, panel, depth, edge, Block::columns, false);
  for (int i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double& to = out[i * stride + j];
      to = edge[i * Block::columns + j] + (add ? to : 0);
    }
}

template <class S, class Label>
void multiply_all(const Rows<S>& rows, const Label* labels, int64_t label_stride, int64_t count,
                  const Panels& panels, double* out, int64_t columns, int threads) {
  const int64_t tasks = (count + kRows - 1) / kRows;
  parallel(tasks, threads, [&](int64_t from, int64_t to) {
    alignas(64) double deviations[kRows * kDepth];
    for (int64_t task = from; task < to; ++task) {
      const int64_t begin = task * kRows, end = std::min(begin + kRows, count);
      for (int64_t first = 0; first < rows.width; first += kDepth) {
        const int64_t depth = std::min(kDepth, rows.width - first);
        for (int64_t row = begin; row < end; ++row)
          rows.deviate(row, int64_t(labels[row * label_stride]), first, depth,
                       deviations + (row - begin) * kDepth);
        for (int64_t panel = 0; panel < panels.count(); ++panel) {
          const int64_t column = panel * Block::columns;
          for (int64_t row = begin; row < end; row += Block::rows)
            multiply(int(std::min<int64_t>(Block::rows, end - row)),
                     deviations + (row - begin) * kDepth, panels.at(panel, first), depth,
                     out + row * columns + column, columns, columns - column, first > 0);
        }
      }
    }
  });
}

void deviation_products(Lane lane, const View& products, const View& features, const View& labels,
                        const View& means, const View& axes) {
  require(features.ndim == 2 && means.ndim == 2 && axes.ndim == 2 && labels.ndim == 1,
          "deviation_products: features, means and axes are matrices, labels a vector.");
  const int64_t count = features.shape[0], width = features.shape[1];
  const int64_t classes = means.shape[0], columns = axes.shape[0];
  require(means.shape[1] == width && axes.shape[1] == width && means.dtype == DType::f64 &&
              axes.dtype == DType::f64,
          "deviation_products: features are (n, D), means (C, D) and axes (K, D), both float64.");
  require(is_contiguous(products, DType::f64, {count, columns}),
          "deviation_products: products (n, K) are contiguous and float64.");
  require(labels.shape[0] == count && (labels.dtype == DType::i64 || labels.dtype == DType::i32),
          "deviation_products: every row has a label, int64 or int32.");
  visit_labels(labels, [&](const auto* label) {
    for (int64_t row = 0; row < count; ++row) {
      const int64_t own = label[row * labels.strides[0]];
      require(own >= -1 && own < classes, "deviation_products: a label lies outside the classes.");
    }
    double* out = reinterpret_cast<double*>(products.data);
    if (width == 0) std::fill_n(out, count * columns, 0.0);
    const int threads = threads_for(count * columns * width / 64, lane.threads);
    const Panels panels(axes);
    parallel(panels.count(), threads, [&](int64_t from, int64_t to) {
      for (int64_t panel = from; panel < to; ++panel) panels.pack(panel);
    });
    visit_floating(features.dtype, [&]<class S>() {
      const Rows<S> rows{reinterpret_cast<const S*>(features.data),
                         features.strides[0],
                         features.strides[1],
                         reinterpret_cast<const double*>(means.data),
                         means.strides[0],
                         means.strides[1],
                         width};
      multiply_all(rows, label, labels.strides[0], count, panels, out, columns, threads);
    });
  });
}

DLACCEL_REGISTER(deviation_products, deviation_products);

}  // namespace
}  // namespace dlaccel::projected_squares
