// CPU: the rows, sorted by class where each class has its matrix, are packed block by block; a
// block is a symmetric rank-k update of every matrix that has rows in it.
#include "class_scatter.h"

#include "../../core/class_rows.h"
#include "../../core/parallel.h"
#include "../../core/rank_k.h"
#include "../../core/registry.h"
#include "../../core/triangle.h"
#include "../../core/widen.h"

namespace dlaccel::class_scatter {
namespace {

using Panels = dlaccel::Panels<double>;
using Tile = dlaccel::Tile<double>;
constexpr int kPanel = dlaccel::kPanel<double>, kLanes = Vec<double>::lanes;

constexpr int64_t kPackRows = 8;    // rows that one task packs,
constexpr int64_t kPackPanels = 8;  // and panels before it goes to the next row

// Rows about the shifts of their classes, by panels of columns.
template <class S>
class Packer {
 public:
  Packer(const View& features, const View& shifts, const View& labels, const ClassRows& rows)
      : features_(features), shifts_(shifts), labels_(labels), rows_(rows) {}

  // Rows begin .. end-1 in their order become strips 0 .. end-begin-1 of every panel.
  void pack(int64_t begin, int64_t end, const Panels& panels, int threads) const {
    const int64_t width = features_.shape[1], count = panels_of<double>(width), rows = end - begin;
    parallel((rows + kPackRows - 1) / kPackRows, threads_for(rows * width, threads),
             [&](int64_t from, int64_t to) {
               for (int64_t first = from * kPackRows; first < to * kPackRows; first += kPackRows)
                 for (int64_t panel = 0; panel < count; panel += kPackPanels)
                   for (int64_t k = first; k < std::min(first + kPackRows, rows); ++k)
                     pack_row(rows_.order[size_t(begin + k)], k, panels, panel,
                              std::min(panel + kPackPanels, count));
             });
  }

 private:
  void pack_row(int64_t row, int64_t k, const Panels& panels, int64_t first, int64_t last) const {
    const S* x = reinterpret_cast<const S*>(features_.data) + row * features_.strides[0];
    const double* shift = reinterpret_cast<const double*>(shifts_.data);
    if (shifts_.shape[0] > 1) shift += label_at(labels_, row) * shifts_.strides[0];
    const double root = rows_.weights.empty() ? 1 : std::sqrt(rows_.weights[size_t(row)]);
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t column = panel * kPanel;
      const int n = int(std::min<int64_t>(kPanel, features_.shape[1] - column));
      pack_run(x + column * features_.strides[1], shift + column * shifts_.strides[1], root, n,
               panels[panel][k].at);
    }
  }

  void pack_run(const S* x, const double* shift, double root, int n, double* to) const {
    const int64_t x_stride = features_.strides[1], shift_stride = shifts_.strides[1];
    int a = 0;
    if (x_stride == 1 && shift_stride == 1)
      for (; a + kLanes <= n; a += kLanes)
        store_lanes(to + a, deviation(load_wide(x + a), load_lanes(shift + a), Vec<double>(root)));
    for (; a < n; ++a)
      to[a] = deviation<double>(load(x[a * x_stride]), shift[a * shift_stride], root);
    std::fill(to + n, to + kPanel, 0.0);
  }

  const View &features_, &shifts_, &labels_;
  const ClassRows& rows_;
};

// Adds a tile to its place above the diagonal of a [width, width] matrix; with `mirror`, what then
// stands there is written below it too. A tile on the diagonal is whole as it is.
void add_tile(Tile& tile, TilePlace place, double* matrix, int64_t width, bool mirror) {
  const int64_t row = place.column * kPanel, column = place.row * kPanel;
  const int rows = int(std::min<int64_t>(kPanel, width - row));
  const int columns = int(std::min<int64_t>(kPanel, width - column));
  for (int b = 0; b < rows; ++b) {
    double *sums = tile.row[b].at, *to = matrix + (row + b) * width + column;
    int a = 0;
    for (; a + kLanes <= columns; a += kLanes) {
      const Vec<double> sum = load_lanes(to + a) + load_lanes(sums + a);
      store_lanes(sums + a, sum);
      store_lanes(to + a, sum);
    }
    for (; a < columns; ++a) to[a] = sums[a] += to[a];
  }
  if (!mirror || row == column) return;
  for (int a = 0; a < columns; ++a)
    for (int b = 0; b < rows; ++b) matrix[(column + a) * width + row + b] = tile.row[b].at[a];
}

// Rows of a block that add to one matrix, counted from the block's first; `last` ends the matrix.
struct Run {
  int64_t matrix, begin, end;
  bool last;
};

// Rows begin .. end-1 in their order as runs, where matrix m takes rows starts[m] .. starts[m + 1]
// - 1.
std::vector<Run> runs_of(const std::vector<int64_t>& starts, int64_t begin, int64_t end) {
  std::vector<Run> runs;
  auto stop = std::upper_bound(starts.begin(), starts.end(), begin);  // past the first run
  for (int64_t at = begin; at < end; ++stop) {
    if (*stop == at) continue;  // a class without rows
    const int64_t until = std::min(*stop, end);
    runs.push_back({stop - starts.begin() - 1, at - begin, until - begin, until == *stop});
    at = until;
  }
  return runs;
}

void class_scatter(Lane lane, const View& scatter, const View& shifts, const View& features,
                   const View& labels, const Maybe& weight, int64_t classes) {
  check(scatter, shifts, features, labels, weight, classes);
  const ClassRows rows(labels, weight, classes, scatter.shape[0]);
  const int64_t count = int64_t(rows.order.size()), width = features.shape[1];
  if (count == 0 || width == 0) return;
  // A block takes 8 MB at most, but for the widest rows: the last cache keeps it, and threads that
  // share a busy machine seldom wait for one another.
  const int64_t depth = std::min(count, std::clamp<int64_t>((1 << 20) / width, 256, 4096));
  const Panels panels(width, depth);
  const int64_t tiles = tiles_of(panels_of<double>(width));
  double* const state = reinterpret_cast<double*>(scatter.data);
  visit_floating(features.dtype, [&]<class S>() {
    const Packer<S> packer(features, shifts, labels, rows);
    for (int64_t begin = 0; begin < count; begin += depth) {
      const int64_t end = std::min(begin + depth, count);
      packer.pack(begin, end, panels, lane.threads);
      const std::vector<Run> runs = runs_of(rows.starts, begin, end);
      const int threads = threads_for((end - begin) * tiles * kPanel, lane.threads);
      parallel(int64_t(runs.size()) * tiles, threads, [&](int64_t from, int64_t to) {
        for (int64_t task = from; task < to; ++task) {
          const Run& run = runs[size_t(task / tiles)];
          const TilePlace place = tile_place(task % tiles);
          Tile tile{};
          add_product(tile, panels[place.row] + run.begin, panels[place.column] + run.begin,
                      run.end - run.begin);
          add_tile(tile, place, state + run.matrix * width * width, width, run.last);
        }
      });
    }
  });
}

DLACCEL_REGISTER(class_scatter, class_scatter);

}  // namespace
}  // namespace dlaccel::class_scatter
