// What a sample of class i adds to entry (i, j): the square of its deviation along the line from
// centre i to centre j, from the deviation's products with the two centres.
#pragma once

#include "../../core/hd.h"

namespace dlaccel::projected_squares {

template <class T>
DL_HD T square(T product, T own) {
  const T along = product - own;
  return along * along;
}

}  // namespace dlaccel::projected_squares
