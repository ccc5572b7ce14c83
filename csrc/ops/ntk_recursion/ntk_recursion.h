// Kernels of infinitely wide networks, entry by entry, through all layers at once. Everything is
// carried relative to the standard deviations of its row and of its column: of an entry there are
// the correlation c with its gap 1 - |c|, and t, the tangent kernel.
//
// A linear layer of weight deviation w and bias deviation b takes the deviation n to
// m = hypot(w n, b). With C = w n / m and S = b / m of a row and of a column
//   c' = C C' c + S S',   1 - c' = C C' (1 - c) + ((C - C')^2 + (S - S')^2) / 2,
// which is 0 for equal points, and t' = c' + C C' slope t. Rows and columns come as tables of what
// a point has in each layer; accessors row(k) and column(k) give entry k of a table.
#pragma once

#include "../../core/arc_cosine.h"

namespace dlaccel::ntk_recursion {

template <class T>
struct Entry {
  T nngp, tangent, gap;  // `gap` is that of the nngp's correlation
};

// A linear layer's part in the correlation.
template <class T>
struct Blend {
  T weight, offset, apart;  // C C', S S', ((C - C')^2 + (S - S')^2) / 2

  DL_HD Blend(T c, T d, T s, T z)
      : weight(c * d), offset(s * z), apart(T(0.5) * ((c - d) * (c - d) + (s - z) * (s - z))) {}

  DL_HD Correlation<T> operator()(Correlation<T> x) const {
    const T one = T(1);
    const T cosine = weight * x.cosine + offset;
    const auto obtuse = cosine < T(0);
    const T to_one = select(x.cosine < T(0), one - x.cosine, x.gap);
    const T same = weight * to_one + apart;
    const T opposite = weight * x.gap + (apart + T(2) * offset);
    const T gap = select(obtuse, opposite, same);
    const T near = select(obtuse, gap - one, one - gap);  // C^2 + S^2 is 1 but for a rounding
    return {select(gap < T(0.5), near, cosine), gap};
  }

  DL_HD T acute(T gap) const { return weight * gap + apart; }
};

// Tables of layers + 1 linear layers, the read-out the last: C of all, S of all, n behind the last.
struct Rectified {
  int layers;
  bool biased;  // where not, C is 1 and S is 0
  Rectifier rectifier;

  template <class T, class Row, class Column>
  DL_HD Blend<T> blend(int layer, const Row& row, const Column& column) const {
    const int bias = layers + 1 + layer;
    return {row(layer), column(layer), row(bias), column(bias)};
  }

  template <class T, class Row, class Column>
  DL_HD Entry<T> operator()(Correlation<T> x, const Row& row, const Column& column) const {
    if (biased) x = blend<T>(0, row, column)(x);
    T tangent = x.cosine;
    int layer = 1;
    // The first layer may unfold the sign; behind it a folding rectifier needs the gap alone.
    for (; layer <= (rectifier.folds() && layers > 0 ? 1 : layers); ++layer) {
      const auto image = rectifier(x);
      x = image.correlation;
      T passed = image.slope * tangent;
      if (biased) {
        const auto linear = blend<T>(layer, row, column);
        x = linear(x);
        passed = linear.weight * passed;
      }
      tangent = x.cosine + passed;
    }
    if (layer <= layers) {
      T gap = x.gap;
      for (; layer <= layers; ++layer) {
        T slope;
        gap = rectifier.acute(gap, slope);
        T passed = slope * tangent;
        if (biased) {
          const auto linear = blend<T>(layer, row, column);
          gap = linear.acute(gap);
          passed = linear.weight * passed;
        }
        tangent = (T(1) - gap) + passed;
      }
      x = {T(1) - gap, gap};
    }
    const T size = row(2 * (layers + 1)) * column(2 * (layers + 1));
    return {size * x.cosine, size * tangent, x.gap};
  }
};

// erf: with u = 1 / sqrt(1 + 2 n^2) of a row and v of a column and r = 2 u v k for a covariance k,
//   E[f f'] = (2 / pi) asin r,   E[f' f'] = (4 / pi) u v / sqrt(1 - r^2);
// Williams 1996, "Computing with infinite networks". Tables: C, S and n of the first linear layer,
// u of every hidden layer, 1 / n behind the last. Always in double: f is smooth, so that what a
// gap loses there counts as itself, not as its root.
struct Erf {
  int layers;
  double weight2, bias2, last_weight2,
      last_bias2;  // squares, of the hidden layers and the read-out

  template <class T, class Row, class Column>
  DL_HD Entry<T> operator()(Correlation<T> x, const Row& row, const Column& column) const {
    const T one = T(1), half_pi = T(1.5707963267948966);
    x = Blend<T>(row(0), column(0), row(1), column(1))(x);
    const T size = row(2) * column(2);
    T covariance = size * x.cosine, tangent = covariance;
    for (int layer = 1; layer <= layers; ++layer) {
      const T u = row(2 + layer), v = column(2 + layer), both = u * v;
      const T r = T(2) * both * covariance;
      T rest = (one - r) * (one + r);  // 1 - r^2
      if (layer == 1) {                // the deviations are bounded in no other
        const T top = T(2) * both * size;
        rest = u * u + v * v - both * both + top * top * (x.gap * (T(2) - x.gap));
      }
      const T small = magnitude(r), e = rest / (one + small);
      const auto middle = small < T(0.5);
      const T ratio = arc_ratio(select(middle, T(2) * r * r, e));
      const T outer = half_pi - sqrt(e + e) * ratio;
      const T arc = select(middle, r * ratio, select(r < T(0), -outer, outer));
      const bool last = layer == layers;
      const T weight = T((last ? last_weight2 : weight2) / 1.5707963267948966);
      const T bias = T(last ? last_bias2 : bias2);
      covariance = weight * arc + bias;
      tangent = covariance + T(2) * weight * both / sqrt(rest) * tangent;
    }
    const T cosine = covariance * (row(layers + 3) * column(layers + 3));
    return {covariance, tangent, layers ? one - magnitude(cosine) : x.gap};
  }
};

}  // namespace dlaccel::ntk_recursion
