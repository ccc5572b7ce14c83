// Gated linear unit: y = a(g) b(v), with a the activation of the gate g and b the identity on the
// value v, but for the clamped form. Shazeer 2020, "GLU variants improve Transformer"; the clamped
// form is that of the gpt-oss models: a(g) = c s(alpha c), c = min(g, limit), b(v) = 1 + clamp(v).
#pragma once

#include <cstdint>

#include "../../core/check.h"
#include "../../core/hd.h"

namespace dlaccel::glu {

// What an activation gives at a point: its value and its derivative.
template <class T>
struct Slope {
  T value, derivative;
};

// s(x) = 1 / (1 + e^-x)
template <class T>
DL_HD T logistic(T x) {
  return T(1) / (T(1) + exp(-x));
}

struct PlainValue {
  template <class T>
  DL_HD T branch(T v) const {
    return v;
  }
  template <class T>
  DL_HD T branch_slope(T) const {
    return T(1);
  }
};

struct Identity : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    return {x, T(1)};
  }
};

struct Sigmoid : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T s = logistic(x);
    return {s, s * (T(1) - s)};
  }
};

// x s(x);  s + x s (1 - s). The second division spares the value a rounding.
struct Silu : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T d = T(1) + exp(-x), s = T(1) / d;
    return {x / d, s * (T(1) + x * (T(1) - s))};
  }
};

// x P(x) with P the normal distribution function and p its density;  P + x p
struct Gelu : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T below = T(0.5f) * (T(1) + erf(x * T(0.70710678118654752440)));
    const T density = T(0.39894228040143267794) * exp(T(-0.5f) * x * x);
    return {x * below, below + x * density};
  }
};

// x (1 + t) / 2, t = tanh u, u = sqrt(2 / pi) (x + 0.044715 x^3); Hendrycks and Gimpel 2016
struct GeluTanh : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T c = T(0.79788456080286535588), cube = T(0.044715);
    const T t = tanh(c * x * (T(1) + cube * x * x));
    const T du = c * (T(1) + T(3) * cube * x * x);
    const T below = T(0.5f) * (T(1) + t);
    return {x * below, below + T(0.5f) * x * (T(1) - t * t) * du};
  }
};

// x s(1.702 x); Hendrycks and Gimpel 2016
struct QuickGelu : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T scale = T(1.702);
    const T s = logistic(scale * x);
    return {x * s, s * (T(1) + scale * x * (T(1) - s))};
  }
};

struct Relu : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    return {select(x <= T(0), T(0), x), select(x <= T(0), T(0), T(1))};
  }
};

struct ReluSquared : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T r = select(x <= T(0), T(0), x);
    return {r * r, T(2) * r};
  }
};

struct Tanh : PlainValue {
  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T t = tanh(x);
    return {t, T(1) - t * t};
  }
};

struct Clamped {
  double alpha, limit;

  template <class T>
  DL_HD Slope<T> operator()(T x) const {
    const T scale = T(alpha), top = T(limit);
    const T c = select(x > top, top, x);
    const T s = logistic(scale * c);
    const T slope = s * (T(1) + scale * c * (T(1) - s));
    return {c * s, select(x > top, T(0), slope)};
  }
  template <class T>
  DL_HD T branch(T v) const {
    const T top = T(limit);
    return T(1) + select(v > top, top, select(v < -top, -top, v));
  }
  template <class T>
  DL_HD T branch_slope(T v) const {
    const T top = T(limit);
    return select(v > top, T(0), select(v < -top, T(0), T(1)));
  }
};

template <class T, class Activation>
DL_HD T forward(const Activation& activation, T g, T v) {
  return activation(g).value * activation.branch(v);  // the unused derivative costs nothing
}

template <class T>
struct Gradient {
  T gate, value, product;
};

// (dL/dg, dL/dv) = (dy b(v) a'(g), dy a(g) b'(v)), and y itself, which costs nothing more.
template <class T, class Activation>
DL_HD Gradient<T> backward(const Activation& activation, T dy, T g, T v) {
  const Slope<T> a = activation(g);
  const T b = activation.branch(v);
  return {dy * b * a.derivative, dy * a.value * activation.branch_slope(v), a.value * b};
}

constexpr int64_t kActivations = 10;

// Calls body(activation). The codes are the places in ACTIVATIONS of dlaccel/ops/glu.py; a caller
// has checked that the code is one.
template <class Body>
DL_HD void visit_activation(int64_t code, double alpha, double limit, Body&& body) {
  switch (code) {
    case 0: return body(Identity{});
    case 1: return body(Sigmoid{});
    case 2: return body(Silu{});
    case 3: return body(Gelu{});
    case 4: return body(GeluTanh{});
    case 5: return body(QuickGelu{});
    case 6: return body(Relu{});
    case 7: return body(ReluSquared{});
    case 8: return body(Tanh{});
    case 9: return body(Clamped{alpha, limit});
    default: return;
  }
}

}  // namespace dlaccel::glu
