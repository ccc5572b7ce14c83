// What rectifiers do to the angle between two Gaussian numbers, in a form that loses nothing where
// the angle is small or nearly pi: a correlation is carried beside its gap to 1. Cho and Saul 2009,
// "Kernel methods for deep learning" (the arc-cosine kernels of degree 0 and 1).
//
// With e = 1 - |cos t| in [0, 1] the acute angle is a = s P(e) and sin a - a cos a = s e Q(e),
// where s = sqrt(2 e); P and Q are analytic up to e = 2. Both polynomials are our own minimax fits
// (Remez' exchange in 50 digits) on [0, 1]; the fits leave 1.5e-8 for float and 1.6e-17 for double.
#pragma once

#include <type_traits>

#include "hd.h"

namespace dlaccel {

namespace detail {

template <class T, class... C>
DL_HD T polynomial(T x, double first, C... rest) {
  if constexpr (sizeof...(rest) == 0) return T(first);
  else return T(first) + x * polynomial(x, double(rest)...);
}

template <class T>
struct ScalarOf {
  using type = T;
};
template <template <class> class V, class T>
struct ScalarOf<V<T>> {
  using type = T;
};
template <class T>
constexpr bool is_single = std::is_same_v<typename ScalarOf<T>::type, float>;

}  // namespace detail

// P(e) = asin(x) / x with x = sqrt(e / 2).
template <class T>
DL_HD T arc_ratio(T e) {
  if constexpr (detail::is_single<T>) {
    return detail::polynomial(e, 0.999999985, 0.0833351016, 0.0187149351, 0.0058426943,
                              0.000951455803, 0.00250028066, -0.0015100546, 0.000886319981);
  } else {
    return detail::polynomial(
        e, 1.0, 0.08333333333332239, 0.018750000001281062, 0.0055803570834283695,
        0.001898872982101677, 0.00069910830450649071, 0.00027135082499630346,
        0.00010762335295100425, 5.2523309860742992e-5, -8.4840369294760345e-6,
        8.5618589815715354e-5, -0.00016199954129459358, 0.000271322718129025,
        -0.00033206783704930532, 0.0003063849102625884, -0.00020372061553984664,
        9.3313821720871172e-5, -2.6342890024938525e-5, 3.5402280534497642e-6);
  }
}

// Q(e) = (sqrt(1 - e / 2) - (1 - e) P(e)) / e.
template <class T>
DL_HD T segment_ratio(T e) {
  if constexpr (detail::is_single<T>) {
    return detail::polynomial(e, 0.666666676, 0.0333324364, 0.00537063238, 0.00116493065,
                              0.000539774182, -0.000137964315, 0.000170285233);
  } else {
    return detail::polynomial(e, 0.66666666666666666, 0.033333333333335741, 0.0053571428568904863,
                              0.0012400793755539698, 0.00034524913973371088, 0.00010756149630298362,
                              3.6124954807133385e-5, 1.2997929539563038e-5, 4.0341833125205394e-6,
                              4.1397014294358143e-6, -4.9266976869515927e-6, 1.0563086664352582e-5,
                              -1.3904854269049618e-5, 1.4181230197233563e-5, -1.0222404425312419e-5,
                              5.0803947438875523e-6, -1.5450598069949377e-6, 2.2585355814838554e-7);
  }
}

// A correlation and 1 - |correlation|, each with a small relative error of its own.
template <class T>
struct Correlation {
  T cosine, gap;
};

template <class T>
DL_HD T magnitude(T x) {
  return select(x < T(0), -x, x);
}

// The correlation with the given sign whose gap is `gap`.
template <class T>
DL_HD Correlation<T> from_gap(T sign, T gap) {
  return {select(sign < T(0), gap - T(1), T(1) - gap), gap};
}

// f(x) = a min(x, 0) + b max(x, 0): all that counts is k = (a - b)^2 / (a^2 + b^2), the contrast,
// 1 for ReLU, 2 for |x|, 0 for a linear map.
class Rectifier {
 public:
  DL_HD explicit Rectifier(double contrast)
      : contrast_(contrast),
        scale_(2.0 * contrast * contrast / 9.869604401089358) {}  // 2 k^2 / pi^2

  // Of f(u), f(v) for Gaussian u, v of the given correlation: their correlation, and
  // `slope`, E[f'(u) f'(v)] by its value at correlation 1.
  template <class T>
  struct Image {
    Correlation<T> correlation;
    T slope;
  };

  template <class T>
  DL_HD Image<T> operator()(Correlation<T> x) const {
    const T k = T(contrast_), one = T(1);
    const T s = sqrt(T(scale_) * x.gap);
    const T arc = s * arc_ratio(x.gap), segment = s * x.gap * segment_ratio(x.gap);  // k / pi times
    const auto obtuse = x.cosine < T(0);
    const T size = magnitude(x.cosine);
    const T cosine = select(obtuse, (k - one) * size, size) + segment;
    const T negative = k + (one - k) * x.gap + segment;
    const T positive = (T(2) - k) - (one - k) * x.gap - segment;
    const T folded = select(cosine < T(0), negative, positive);
    return {{cosine, select(obtuse, folded, x.gap - segment)},
            select(obtuse, (one - k) + arc, one - arc)};
  }

  // The same for a correlation that is not negative, from its gap alone: the gap, and the slope.
  template <class T>
  DL_HD T acute(T gap, T& slope) const {
    const T s = sqrt(T(scale_) * gap);
    slope = T(1) - s * arc_ratio(gap);
    return gap - gap * (s * segment_ratio(gap));
  }

  // Whether images are never negatively correlated.
  DL_HD bool folds() const { return contrast_ >= 1.0; }

 private:
  double contrast_, scale_;
};

}  // namespace dlaccel
