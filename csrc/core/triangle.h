// The tiles of a triangle of square tiles, counted row by row: 0; 1 2; 3 4 5; ...
#pragma once

#include <cstdint>

#include "hd.h"

namespace dlaccel {

struct TilePlace {
  int64_t row, column;  // row >= column
};

constexpr int64_t tiles_of(int64_t rows) { return rows * (rows + 1) / 2; }

DL_HD TilePlace tile_place(int64_t number) {
  int64_t row = int64_t((::sqrt(8.0 * double(number) + 1.0) - 1.0) / 2.0);
  while (row * (row + 1) / 2 > number) --row;  // the root is rounded
  while ((row + 1) * (row + 2) / 2 <= number) ++row;
  return {row, number - row * (row + 1) / 2};
}

}  // namespace dlaccel
