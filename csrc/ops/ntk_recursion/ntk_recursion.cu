// CUDA: a block of threads for each tile of the panel; a tile's other half, where symmetric, is
// written through shared memory, so that neighbouring threads write neighbouring entries.
#include "../../core/launch.cuh"
#include "../../core/registry.h"
#include "arguments.h"

namespace dlaccel::ntk_recursion {
namespace {

constexpr int kEdge = 32;  // of a tile
constexpr int kTall = 8;   // rows of threads
constexpr int kThreads = kEdge * kTall;

template <class S>
struct Tile {
  S at[3][kEdge][kEdge + 1];
};

template <class S, class A, class Formula>
__global__ void __launch_bounds__(kThreads, 2)
    panel_kernel(const __grid_constant__ Problem p, const __grid_constant__ Formula formula) {
  auto& tile = shared_memory<Tile<S>>();
  const int64_t top = int64_t(blockIdx.y) * kEdge, side = int64_t(blockIdx.x) * kEdge;
  if (p.above_diagonal(top + kEdge - 1, side)) return;
  const int x = int(threadIdx.x), y = int(threadIdx.y);
  S* const outputs[3] = {reinterpret_cast<S*>(p.nngp), reinterpret_cast<S*>(p.tangent),
                         reinterpret_cast<S*>(p.gap)};
  DL_ROLL
  for (int i = y; i < kEdge; i += kTall) {
    const int64_t row = top + i, column = side + x;
    if (row >= p.count || column >= p.used || p.above_diagonal(row, column)) continue;
    const bool own = p.on_diagonal(row, column);
    const double cosine = own ? 1.0 : p.cosine(row, column);
    const double gap = own ? 0.0 : p.gap_at(row, column, cosine);
    const auto entry = formula(
        Correlation<A>{A(cosine), A(gap)}, [&](int k) { return A(p.of_row(k, row)); },
        [&](int k) { return A(p.of_column(k, column)); });
    const S values[3] = {S(entry.nngp), S(entry.tangent), S(entry.gap)};
    DL_UNROLL
    for (int k = 0; k < 3; ++k) {
      if (outputs[k]) outputs[k][(p.first + row) * p.width + column] = values[k];
      tile.at[k][i][x] = values[k];
    }
  }
  if (!p.symmetric) return;
  __syncthreads();
  DL_ROLL
  for (int j = y; j < kEdge; j += kTall) {
    const int64_t row = top + x, column = side + j;
    if (row >= p.count || column >= p.used || p.above_diagonal(row, column)) continue;
    DL_UNROLL
    for (int k = 0; k < 3; ++k)
      if (outputs[k]) outputs[k][column * p.width + p.first + row] = tile.at[k][x][j];
  }
}

template <class S, class A, class Formula>
void run(const Problem& p, const Formula& formula, void* stream) {
  if (p.count == 0 || p.used == 0) return;
  const int64_t tall = ceil_div(p.count, kEdge);
  require(tall <= kMaxGridY, "ntk_recursion: too many rows for one launch.");
  launch(stream, dim3(unsigned(ceil_div(p.used, kEdge)), unsigned(tall)), dim3(kEdge, kTall),
         &panel_kernel<S, A, Formula>, p, formula);
}

void rectified(Lane lane, const View& nngp, const View& tangent, const View& gap,
               const View& cosine, const Maybe& gaps, const View& rows, const View& columns,
               int64_t layers, double contrast, int64_t biased, int64_t first, int64_t symmetric) {
  visit_rectified(nngp, tangent, gap, cosine, gaps, rows, columns, layers, contrast, biased, first,
                  symmetric, [&](const Problem& p, const Rectified& formula) {
                    if (p.dtype == DType::f32) run<float, float>(p, formula, lane.stream);
                    else run<double, double>(p, formula, lane.stream);
                  });
}

void erf(Lane lane, const View& nngp, const View& tangent, const View& gap, const View& cosine,
         const Maybe& gaps, const View& rows, const View& columns, int64_t layers, double weight2,
         double bias2, double last_weight2, double last_bias2, int64_t first, int64_t symmetric) {
  visit_erf(nngp, tangent, gap, cosine, gaps, rows, columns, layers, weight2, bias2, last_weight2,
            last_bias2, first, symmetric, [&](const Problem& p, const Erf& formula) {
              if (p.dtype == DType::f32) run<float, double>(p, formula, lane.stream);
              else run<double, double>(p, formula, lane.stream);
            });
}

DLACCEL_REGISTER(ntk_rectified, rectified);
DLACCEL_REGISTER(ntk_erf, erf);

}  // namespace
}  // namespace dlaccel::ntk_recursion
