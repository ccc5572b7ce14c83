// out (+)= a b^T, where b is converted to float32 while its panels are packed: no float32 copy of b
// is made but for one panel at a time, in the cache nearest to the core.
#include <vector>

#include "../../core/dispatch.h"
#include "../../core/micro_kernel.h"
#include "../../core/pack.h"
#include "../../core/parallel.h"
#include "../../core/registry.h"

namespace dlaccel {
namespace {

constexpr int64_t kDepth = 384;    // of a panel: 24 kB with AVX2, 48 kB with AVX-512
constexpr int64_t kCutRows = 128;  // of a cut at least: packing is then a small part of the work
using Block = RegisterBlock<float>;

template <class S>
struct Matrix {
  const S* data;
  int64_t rows, columns, row_stride, column_stride;

  const S* at(int64_t row, int64_t column) const {
    return data + row * row_stride + column * column_stride;
  }
};

template <class S>
Matrix<S> matrix(const View& v) {
  return {reinterpret_cast<const S*>(v.data), v.shape[0], v.shape[1], v.strides[0], v.strides[1]};
}

// a itself where its rows have unit stride, as those of activations have; else its copy.
Matrix<float> with_unit_rows(const Matrix<float>& a, std::vector<float>& copy) {
  if (a.column_stride == 1 || a.columns <= 1) return a;
  copy.resize(size_t(a.rows * a.columns));
  for (int64_t row = 0; row < a.rows; ++row)
    for (int64_t column = 0; column < a.columns; ++column)
      copy[size_t(row * a.columns + column)] = *a.at(row, column);
  return {copy.data(), a.rows, a.columns, a.columns, 1};
}

// Rows [begin, end) of the columns of out that a panel holds.
void multiply_panel(const Matrix<float>& a, int64_t first, int64_t depth, const float* panel,
                    const View& out, int64_t column, int64_t begin, int64_t end, bool add) {
  const int64_t stride = out.strides[0];
  const int64_t width = std::min<int64_t>(Block::columns, out.shape[1] - column);
  float* c = reinterpret_cast<float*>(out.data) + column;
  for (int64_t row = begin; row < end; row += Block::rows) {
    const int rows = int(std::min<int64_t>(Block::rows, end - row));
    if (width == Block::columns) {
      multiply_rows<float>(rows, a.at(row, first), a.row_stride, panel, depth, c + row * stride,
                           stride, add);
      continue;
    }
    float edge[Block::rows * Block::columns];
    multiply_rows<float>(rows, a.at(row, first), a.row_stride, panel, depth, edge, Block::columns,
                         false);
    for (int i = 0; i < rows; ++i)
      for (int64_t j = 0; j < width; ++j) {
        float& to = c[(row + i) * stride + j];
        to = add ? to + edge[i * Block::columns + j] : edge[i * Block::columns + j];
      }
  }
}

void mixed_product(Lane lane, const View& out, const View& a, const View& b, int64_t add) {
  require(out.ndim == 2 && a.ndim == 2 && b.ndim == 2 && a.shape[0] == out.shape[0] &&
              b.shape[0] == out.shape[1] && a.shape[1] == b.shape[1],
          "mixed_product: shapes must be (M, N), (M, K) and (N, K).");
  require(out.dtype == DType::f32 && a.dtype == DType::f32,
          "mixed_product: out and a must have dtype float32.");
  require(out.strides[1] == 1 || out.shape[1] <= 1,
          "mixed_product: rows of out must have unit stride.");
  std::vector<float> copy;
  const Matrix<float> left = with_unit_rows(matrix<float>(a), copy);
  const int64_t rows = out.shape[0], panels = (out.shape[1] + Block::columns - 1) / Block::columns;
  const int64_t depth = a.shape[1], blocks = std::max<int64_t>(1, (depth + kDepth - 1) / kDepth);
  const int threads = threads_for(rows * out.shape[1] * depth / 64, lane.threads);
  // Threads take rows of their own, which so stay in their caches from one product to the next, and
  // pack all panels; where rows are few, threads share the panels out.
  const int64_t cuts = std::clamp<int64_t>(rows / kCutRows, 1, threads);
  visit_floating(b.dtype, [&]<class S>() {
    if constexpr (std::is_same_v<S, double>) {
      require(false, "mixed_product: b must have dtype float32, bfloat16 or float16.");
    } else {
      const Matrix<S> right = matrix<S>(b);
      parallel(panels * cuts, threads, [&](int64_t first_task, int64_t last_task) {
        alignas(64) float panel[kDepth * Block::columns];
        for (int64_t task = first_task; task < last_task; ++task) {
          const int64_t column = task % panels * Block::columns, cut = task / panels;
          for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = depth * block / blocks;
            const int64_t length = depth * (block + 1) / blocks - first;
            pack_panel(right.at(column, first), right.row_stride, right.column_stride,
                       right.rows - column, length, Block::vectors, panel);
            multiply_panel(left, first, length, panel, out, column, rows * cut / cuts,
                           rows * (cut + 1) / cuts, add || block > 0);
          }
        }
      });
    }
  });
}

DLACCEL_REGISTER(mixed_product, mixed_product);

}  // namespace
}  // namespace dlaccel
