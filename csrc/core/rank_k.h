// Products of the rows of one matrix with those of another, or of its own, by square tiles, of
// which a caller may take one triangle. A matrix is packed into panels of kPanel neighbouring rows,
// k after k, so that one panel serves as either side; a tile is the product of two panels, summed
// over k in ascending order. Blocks of k, where a caller makes them, are its own: nothing here
// depends on the number of threads.
#pragma once

#include <memory>

#include "vec.h"

namespace dlaccel {

// Registers decide: kVectors x kColumns accumulators, kVectors operands and a broadcast.
constexpr int kVectors = DL_VECTOR_BYTES == 16 ? 2 : 3;
constexpr int kColumns = DL_VECTOR_BYTES == 64 ? 8 : 4;
template <class T>
constexpr int kPanel = kVectors * Vec<T>::lanes;

template <class T>
struct alignas(DL_VECTOR_BYTES) Strip {
  T at[kPanel<T>];  // one k of a panel's rows
};

template <class T>
struct Tile {
  Strip<T> row[kPanel<T>];  // row[b].at[a]: row a of the left panel with row b of the right one
};

template <class T>
constexpr int64_t panels_of(int64_t rows) {
  return (rows + kPanel<T> - 1) / kPanel<T>;
}

// Room for `depth` strips of each panel of a matrix; left as it comes.
template <class T>
class Panels {
 public:
  Panels(int64_t rows, int64_t depth)
      : depth_(depth), strips_(new Strip<T>[size_t(panels_of<T>(rows) * depth)]) {}
  Strip<T>* operator[](int64_t panel) const { return strips_.get() + panel * depth_; }

 private:
  int64_t depth_;
  std::unique_ptr<Strip<T>[]> strips_;
};

// tile += left^T right over strips 0 .. depth-1, in its rows begin .. end-1 alone: multiples of
// kColumns.
template <class T>
__attribute__((noinline)) void add_product(Tile<T>& tile, const Strip<T>* left,
                                           const Strip<T>* right, int64_t depth, int begin = 0,
                                           int end = kPanel<T>) {
  using V = Vec<T>;
  static_assert(kPanel<T> % kColumns == 0);
  for (int first = begin; first < end; first += kColumns) {
    V sums[kColumns][kVectors];
#pragma GCC unroll 8
    for (int b = 0; b < kColumns; ++b)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[b][v] = V(T(0));
    for (int64_t k = 0; k < depth; ++k) {
      V a[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) a[v] = load_lanes(left[k].at + v * V::lanes);
#pragma GCC unroll 8
      for (int b = 0; b < kColumns; ++b) {
        const V factor(right[k].at[first + b]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[b][v] = sums[b][v] + a[v] * factor;
      }
    }
#pragma GCC unroll 8
    for (int b = 0; b < kColumns; ++b) {
      T* to = tile.row[first + b].at;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        store_lanes(to + v * V::lanes, load_lanes(to + v * V::lanes) + sums[b][v]);
    }
  }
}

}  // namespace dlaccel
