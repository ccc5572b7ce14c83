// Products of a matrix with its own transpose in float64, by tiles of one triangle. The matrix is
// packed into panels of kPanel neighbouring rows, k after k, so that one panel serves as either
// side; a tile is the product of two panels, summed over k in ascending order. Blocks of k, where
// a caller makes them, are its own: nothing here depends on the number of threads.
#pragma once

#include <memory>

#include "vec.h"

namespace dlaccel {

// Registers decide: kVectors x kColumns accumulators, kVectors operands and a broadcast.
constexpr int kLanes = Vec<double>::lanes;
constexpr int kVectors = DL_VECTOR_BYTES == 16 ? 2 : 3;
constexpr int kColumns = DL_VECTOR_BYTES == 64 ? 8 : 4;
constexpr int kPanel = kVectors * kLanes;
static_assert(kPanel % kColumns == 0);

struct alignas(DL_VECTOR_BYTES) Strip {
  double at[kPanel];  // one k of a panel's rows
};

struct Tile {
  Strip row[kPanel];  // row[b].at[a]: row a of the left panel with row b of the right one
};

constexpr int64_t panels_of(int64_t rows) { return (rows + kPanel - 1) / kPanel; }

// Room for `depth` strips of each panel of a matrix; left as it comes.
class Panels {
 public:
  Panels(int64_t rows, int64_t depth)
      : depth_(depth), strips_(new Strip[size_t(panels_of(rows) * depth)]) {}
  Strip* operator[](int64_t panel) const { return strips_.get() + panel * depth_; }

 private:
  int64_t depth_;
  std::unique_ptr<Strip[]> strips_;
};

// tile += left^T right over strips 0 .. depth-1.
__attribute__((noinline)) inline void add_product(Tile& tile, const Strip* left, const Strip* right,
                                                  int64_t depth) {
  using V = Vec<double>;
  for (int first = 0; first < kPanel; first += kColumns) {
    V sums[kColumns][kVectors];
#pragma GCC unroll 8
    for (int b = 0; b < kColumns; ++b)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[b][v] = V(0.0);
    for (int64_t k = 0; k < depth; ++k) {
      V a[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) a[v] = load_lanes(left[k].at + v * kLanes);
#pragma GCC unroll 8
      for (int b = 0; b < kColumns; ++b) {
        const V factor(right[k].at[first + b]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[b][v] = sums[b][v] + a[v] * factor;
      }
    }
#pragma GCC unroll 8
    for (int b = 0; b < kColumns; ++b) {
      double* to = tile.row[first + b].at;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        store_lanes(to + v * kLanes, load_lanes(to + v * kLanes) + sums[b][v]);
    }
  }
}

}  // namespace dlaccel
