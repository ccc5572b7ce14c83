// The kernel of a hypernetwork whose two networks are infinitely wide: entry by entry, through all
// layers of the generated network. Its weights are Gaussian with the covariance that the first
// network has, so that every layer multiplies the correlation c of the second by that of the first,
// s; Littwin, Galanti, Wolf, Yang 2020, "On infinite-width hypernetworks", arXiv 2003.12193.
#pragma once

#include <cstdint>
#include <optional>

#include "../../core/arc_cosine.h"
#include "../../core/check.h"
#include "../../core/view.h"

namespace dlaccel::hyperkernel_recursion {

template <class T>
struct Entry {
  T nngp, tangent;
};

// `size` is the product of the two points' deviations, `tangent` the first network's kernel over
// its deviations; `factor` is what a backward step multiplies by, s in the kernel as derived.
struct Recursion {
  int layers;
  Rectifier rectifier;

  template <class T>
  DL_HD Entry<T> operator()(Correlation<T> s, Correlation<T> x, T factor, T tangent, T size) const {
    T t = x.cosine;
    for (int layer = 0; layer < layers; ++layer) {
      // 1 - |s c| = (1 - |s|) + (1 - |c|) - (1 - |s|) (1 - |c|)
      const auto image =
          rectifier(Correlation<T>{s.cosine * x.cosine, s.gap + x.gap * (T(1) - s.gap)});
      x = image.correlation;
      t = x.cosine + factor * image.slope * t;
    }
    return {size * (s.cosine * x.cosine), size * (tangent * t)};
  }
};

inline void check(const View& nngp, std::initializer_list<const View*> others, int64_t layers,
                  double contrast) {
  require(nngp.dtype == DType::f32 || nngp.dtype == DType::f64,
          "hyperkernel_recursion: operands must be float32 or float64.");
  for (const View* other : others)
    require(other->dtype == nngp.dtype, "hyperkernel_recursion: operands must have one dtype.");
  require(layers >= 0 && layers < 1 << 20 && contrast >= 0 && contrast <= 2,
          "hyperkernel_recursion: layers must not be negative, contrast must lie in [0, 2].");
}

}  // namespace dlaccel::hyperkernel_recursion
