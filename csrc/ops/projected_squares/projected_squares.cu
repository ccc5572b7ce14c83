// The squared projections of a tile on a device. A block has one class and some columns; it looks
// at every label and sums its own rows, in an order that the tile's shape and labels fix. A label
// outside the classes is nobody's.
#include "projected_squares.h"

#include "../../core/launch.cuh"
#include "arguments.h"

namespace dlaccel::projected_squares {
namespace {

constexpr int kGroups = 8;  // rows that a block takes at a time, one for each warp

struct Sums {
  double squares[kGroups][kWarp], counts[kGroups];
};

template <class Label>
__global__ void __launch_bounds__(kGroups* kWarp)
    projected_squares_kernel(const __grid_constant__ Problem p, const Label* labels) {
  const int64_t tiles = ceil_div(p.classes, kWarp);
  const int64_t mine = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t column = tile * kWarp + threadIdx.x;
  auto& sums = shared_memory<Sums>();
  double sum = 0, count = 0;
  DL_ROLL
  for (int64_t row = threadIdx.y; row < p.rows; row += kGroups) {
    if (labels[row * p.label_stride] != mine) continue;
    const double* products = p.products + row * p.row_stride;
    if (column < p.classes)
      sum += square(products[column * p.column_stride], products[mine * p.column_stride]);
    count += 1;
  }
  sums.squares[threadIdx.y][threadIdx.x] = sum;
  if (threadIdx.x == 0) sums.counts[threadIdx.y] = count;
  __syncthreads();
  if (threadIdx.y != 0 || column >= p.classes) return;
  for (int y = 1; y < kGroups; ++y) {
    sum += sums.squares[y][threadIdx.x];
    count += sums.counts[y];
  }
  p.squares[mine * p.classes + column] += sum;
  if (column == 0) p.counts[mine] += count;
}

void projected_squares(Lane lane, const View& counts, const View& squares, const View& products,
                       const View& labels) {
  const Problem problem = check(counts, squares, products, labels);
  if (problem.rows == 0 || problem.classes == 0) return;
  const int64_t blocks = problem.classes * ceil_div(problem.classes, kWarp);
  require(blocks < int64_t(1) << 31, "projected_squares: there are too many classes.");
  visit_labels(labels, [&](const auto* data) {
    using Label = std::remove_cvref_t<decltype(*data)>;
    launch(lane.stream, dim3(unsigned(blocks)), dim3(kWarp, kGroups),
           &projected_squares_kernel<Label>, problem, data);
  });
}

DLACCEL_REGISTER(projected_squares, projected_squares);

}  // namespace
}  // namespace dlaccel::projected_squares
