// CPU: squared distances from one symmetric product of the means about their centre, turned into
// the measure while a tile is in the cache.
#include "cdnv_pairs.h"

#include <algorithm>
#include <vector>

#include "../../core/parallel.h"
#include "../../core/rank_k.h"
#include "../../core/registry.h"
#include "../../core/triangle.h"

namespace dlaccel::cdnv_pairs {
namespace {

using V = Vec<double>;
using Panels = dlaccel::Panels<double>;
using Strip = dlaccel::Strip<double>;
using Tile = dlaccel::Tile<double>;
constexpr int kPanel = dlaccel::kPanel<double>, kLanes = V::lanes;

// Below this part of the sum of the squared distances of two means from the centre, their own
// squared distance has lost four digits of the product's sixteen: it is computed anew.
constexpr double kNear = 1e-4;  // as NEAR in dlaccel/ops/cdnv_pairs.py
constexpr int64_t kRun = 64;    // numbers in flight

class Means {
 public:
  Means(const View& means, const View& variances)
      : classes(means.shape[0]),
        width(means.shape[1]),
        data_(reinterpret_cast<const double*>(means.data)),
        row_stride_(means.strides[0]),
        stride_(means.strides[1]),
        variances_(size_t(panels_of<double>(classes) * kPanel)),
        squares_(variances_.size()),
        centre_(size_t(width)),
        panels_(classes, width) {
    const double* from = reinterpret_cast<const double*>(variances.data);
    for (int64_t i = 0; i < classes; ++i) variances_[size_t(i)] = from[i * variances.strides[0]];
  }

  const int64_t classes, width;

  // The centre of the classes that are not left out, and the panels about it.
  void pack(int threads) {
    threads = threads_for(classes * width, threads);
    parallel((width + kRun - 1) / kRun, threads, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task)
        find_centre(task * kRun, std::min((task + 1) * kRun, width));
    });
    parallel(panels_of<double>(classes), threads, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) pack_panel(panel);
    });
  }

  // Squared distances of the rows of one panel from those of another. Lanes past the last class
  // hold something finite or NaN.
  void distances(TilePlace place, Tile& tile) const {
    tile = {};
    add_product(tile, panels_[place.row], panels_[place.column], width);
    V::Bits near{};
    for (int b = 0; b < kPanel; ++b) {
      const V own(squares_[size_t(place.column * kPanel + b)]);
      for (int a = 0; a < kPanel; a += kLanes) {
        const V sum = own + load_lanes(squares_.data() + place.row * kPanel + a);
        double* at = tile.row[b].at + a;
        const V distance = sum - V(2.0) * load_lanes(at);
        store_lanes(at, distance);
        near |= distance < V(kNear) * sum;
      }
    }
    if (any(near)) refine(place, tile);
  }

  const double* variances(int64_t panel) const { return variances_.data() + panel * kPanel; }

 private:
  static bool any(V::Bits mask) {
    int64_t set = 0;
    for (int i = 0; i < kLanes; ++i) set |= mask[i];
    return set != 0;
  }

  void find_centre(int64_t begin, int64_t end) {
    double sums[kRun] = {}, stage[kRun];
    int64_t count = 0;
    for (int64_t i = 0; i < classes; ++i) {
      if (!(variances_[size_t(i)] <= variances_[size_t(i)])) continue;
      ++count;
      const double* row = run(i, begin, end - begin, stage);
      for (int j = 0; j < kRun; j += kLanes)
        store_lanes(sums + j, load_lanes(sums + j) + load_lanes(row + j));
    }
    for (int64_t j = begin; j < end; ++j)
      centre_[size_t(j)] = count ? sums[j - begin] / double(count) : 0;
  }

  void pack_panel(int64_t panel) {
    double stage[kRun];
    Strip* const strips = panels_[panel];
    const int64_t count = std::min<int64_t>(kPanel, classes - panel * kPanel);
    V squares[kVectors] = {};
    for (int64_t k = 0; k < width; k += kRun) {
      const int64_t n = std::min(kRun, width - k);
      for (int64_t a = 0; a < count; ++a) {
        const double* row = run(panel * kPanel + a, k, n, stage);
        for (int64_t j = 0; j < n; ++j) strips[k + j].at[a] = row[j] - centre_[size_t(k + j)];
      }
      for (int64_t j = 0; j < n; ++j) {
        std::fill(strips[k + j].at + count, strips[k + j].at + kPanel, 0.0);
        for (int v = 0; v < kVectors; ++v) {
          const V x = load_lanes(strips[k + j].at + v * kLanes);
          squares[v] = squares[v] + x * x;
        }
      }
    }
    for (int v = 0; v < kVectors; ++v)
      store_lanes(squares_.data() + panel * kPanel + v * kLanes, squares[v]);
  }

  // Numbers begin .. begin+n-1 of a mean, and 0 for the rest of a run: in place or in `stage`.
  const double* run(int64_t row, int64_t begin, int64_t n, double (&stage)[kRun]) const {
    const double* from = data_ + row * row_stride_ + begin * stride_;
    if (stride_ == 1 && n == kRun) return from;
    for (int64_t j = 0; j < n; ++j) stage[j] = from[j * stride_];
    std::fill(stage + n, stage + kRun, 0.0);
    return stage;
  }

  void refine(TilePlace place, Tile& tile) const {
    for (int b = 0; b < kPanel; ++b) {
      for (int a = 0; a < kPanel; ++a) {
        const int64_t i = place.row * kPanel + a, j = place.column * kPanel + b;
        double& distance = tile.row[b].at[a];
        if (i != j && distance < kNear * (squares_[size_t(i)] + squares_[size_t(j)]))
          distance = squared_distance(i, j);
      }
    }
  }

  double squared_distance(int64_t i, int64_t j) const {
    double left[kRun], right[kRun];
    V sums(0.0);
    for (int64_t k = 0; k < width; k += kRun) {
      const int64_t n = std::min(kRun, width - k);
      const double *a = run(i, k, n, left), *b = run(j, k, n, right);
      for (int l = 0; l < kRun; l += kLanes) {
        const V difference = load_lanes(a + l) - load_lanes(b + l);
        sums = sums + difference * difference;
      }
    }
    double sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += sums.v[l];
    return sum;
  }

  const double* data_;
  int64_t row_stride_, stride_;
  std::vector<double> variances_, squares_, centre_;  // squares_: distances from the centre
  Panels panels_;
};

// The measure of a tile's pairs, both ways round: tile.row[b].at[a] is a squared distance.
template <class Measure>
void write_tile(const Means& means, TilePlace place, Tile& tile, double* pairs) {
  const Measure measure;
  const int64_t row = place.column * kPanel, column = place.row * kPanel, classes = means.classes;
  const int rows = int(std::min<int64_t>(kPanel, classes - row));
  const int columns = int(std::min<int64_t>(kPanel, classes - column));
  const double *left = means.variances(place.row), *right = means.variances(place.column);
  for (int b = 0; b < rows; ++b) {
    Strip out;
    for (int a = 0; a < kPanel; a += kLanes) {
      const V distance = load_lanes(tile.row[b].at + a), other = load_lanes(left + a);
      const V value = measured(measure, distance, V(right[b]), other);
      store_lanes(out.at + a, value);
      store_lanes(tile.row[b].at + a,
                  Measure::symmetric ? value : measured(measure, distance, other, V(right[b])));
    }
    std::copy_n(out.at, columns, pairs + (row + b) * classes + column);
  }
  if (row == column) {
    for (int b = 0; b < rows; ++b) pairs[(row + b) * (classes + 1)] = 0;
    return;
  }
  for (int a = 0; a < columns; ++a)
    for (int b = 0; b < rows; ++b) pairs[(column + a) * classes + row + b] = tile.row[b].at[a];
}

void cdnv_pairs(Lane lane, const View& pairs, const View& means, const View& variances,
                int64_t code) {
  check(pairs, means, variances);
  Means packed(means, variances);
  visit_measure(code, [&]<class Measure>(Measure) {
    packed.pack(lane.threads);
    const int64_t tiles = tiles_of(panels_of<double>(packed.classes));
    const int threads = threads_for(tiles * kPanel * (packed.width + kPanel), lane.threads);
    parallel(tiles, threads, [&](int64_t begin, int64_t end) {
      Tile tile;
      for (int64_t task = begin; task < end; ++task) {
        const TilePlace place = tile_place(task);
        packed.distances(place, tile);
        write_tile<Measure>(packed, place, tile, reinterpret_cast<double*>(pairs.data));
      }
    });
  });
}

DLACCEL_REGISTER(cdnv_pairs, cdnv_pairs);

}  // namespace
}  // namespace dlaccel::cdnv_pairs
