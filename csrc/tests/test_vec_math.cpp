// exp, tanh and erf on float vectors against the C library in double precision: within 2 ulp on a
// walk over the bit patterns of all floats, and right at infinities, NaN, zeros and denormals.
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <limits>

#include "../core/vec_math.h"
#include "expect.h"

namespace dlaccel {
namespace {

using V = Vec<float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Distance in units of the last place of the float nearest to `exact`.
double ulps(float result, double exact) {
  const float nearest = float(exact);
  if (std::isinf(nearest)) return result == nearest ? 0 : 1e9;
  const float magnitude = std::max(std::fabs(nearest), std::numeric_limits<float>::min());
  const double unit = std::ldexp(1.0, std::ilogb(magnitude) - 23);
  return std::fabs(double(result) - exact) / unit;
}

float lane(V (*function)(V), float x) { return function(V(x)).v[0]; }

// Every 311th bit pattern: 13.8 million floats, coprime to the lanes and to powers of two.
double worst(const char* name, V (*function)(V), double (*exact)(double)) {
  double largest = 0;
  float where = 0, input[V::lanes];
  int filled = 0;
  for (uint64_t pattern = 0; pattern < (uint64_t(1) << 32); pattern += 311) {
    const uint32_t bits = uint32_t(pattern);
    float x;
    memcpy(&x, &bits, 4);
    if (std::isnan(x)) continue;
    input[filled++] = x;
    if (filled < V::lanes) continue;
    filled = 0;
    const V result = function(load_lanes(input));
    for (int i = 0; i < V::lanes; ++i) {
      const double error = ulps(result.v[i], exact(input[i]));
      if (!(error <= largest)) largest = error, where = input[i];
    }
  }
  std::printf("%s: %.3f ulp at %.9g\n", name, largest, where);
  return largest;
}

V vector_exp(V x) { return exp(x); }
V vector_tanh(V x) { return tanh(x); }
V vector_erf(V x) { return erf(x); }

void test_special_values() {
  EXPECT(lane(vector_exp, kInfinity) == kInfinity);
  EXPECT(lane(vector_exp, -kInfinity) == 0);
  EXPECT(lane(vector_exp, 0) == 1);
  EXPECT(lane(vector_tanh, kInfinity) == 1);
  EXPECT(lane(vector_tanh, -kInfinity) == -1);
  EXPECT(lane(vector_erf, kInfinity) == 1);
  EXPECT(lane(vector_erf, -kInfinity) == -1);
  for (auto function : {vector_exp, vector_tanh, vector_erf})
    EXPECT(std::isnan(lane(function, std::nanf(""))));
  for (auto function : {vector_tanh, vector_erf}) {
    EXPECT(lane(function, 0.0f) == 0 && !std::signbit(lane(function, 0.0f)));
    EXPECT(lane(function, -0.0f) == 0 && std::signbit(lane(function, -0.0f)));
  }
  EXPECT(lane(vector_tanh, 1e-42f) == 1e-42f);
}

}  // namespace
}  // namespace dlaccel

int main() {
  using namespace dlaccel;
  test_special_values();
  EXPECT(worst("exp", vector_exp, [](double x) { return std::exp(x); }) <= 2);
  EXPECT(worst("tanh", vector_tanh, [](double x) { return std::tanh(x); }) <= 2);
  EXPECT(worst("erf", vector_erf, [](double x) { return std::erf(x); }) <= 2);
  return failures() != 0;
}
