// The nearest of an episode's class centres: that of class c is S_c / n, with S_c the sum of its n
// support rows. Distances are compared times n^2, which spares the division: on integers nothing
// rounds, and classes at equal distance tie on every device.
#pragma once

#include <cmath>
#include <cstdint>

#include "../../core/hd.h"

namespace dlaccel::episode_hits {

// One column's share of n^2 |x - S / n|^2, from n x and S. In float64 neither loses anything to an
// offset that float32 features have in common.
template <class T>
DL_HD T share(T scaled, T sum) {
  const T difference = scaled - sum;
  return difference * difference;
}

// n^2 (|x - S / n|^2 - |x|^2) from inner products: `within` is <S, S>, `across` is <x, S>.
DL_HD double from_products(double within, double across, double shots) {
  return within - 2 * shots * across;
}

// The first class at the least distance, or -1 where no distance is finite.
struct Nearest {
  double distance = HUGE_VAL;
  int64_t place = -1;

  DL_HD void see(double other, int64_t where) {
    if (!(other < distance && other > -HUGE_VAL)) return;
    distance = other;
    place = where;
  }
};

}  // namespace dlaccel::episode_hits
