// CPU loop of the hyperkernel.
#include "hyperkernel_recursion.h"

#include "../../core/elementwise.h"
#include "../../core/registry.h"

namespace dlaccel::hyperkernel_recursion {
namespace {

template <class S>
void run(Lane lane, const std::array<View, 10>& views, const Recursion& recursion) {
  using V = Vec<S>;
  const auto formula = [=](V cosine, V gap, V input, V input_gap, V factor, V tangent, V left,
                           V right) {
    const auto entry = recursion(Correlation<V>{cosine, gap}, Correlation<V>{input, input_gap},
                                 factor, tangent, left * right);
    return std::array{entry.nngp, entry.tangent};
  };
  Elementwise<S, 2, 10, decltype(formula)>(plan_loops<10>(views), formula).run_all(lane.threads);
}

void hyperkernel(Lane lane, const View& nngp, const View& tangent, const View& cosine,
                 const View& gap, const View& inputs, const View& input_gap, const View& factor,
                 const View& first, const View& left, const View& right, int64_t layers,
                 double contrast) {
  check(nngp, {&tangent, &cosine, &gap, &inputs, &input_gap, &factor, &first, &left, &right},
        layers, contrast);
  const std::array<View, 10> views = {nngp,      tangent, cosine, gap,  inputs,
                                      input_gap, factor,  first,  left, right};
  const Recursion recursion{int(layers), Rectifier(contrast)};
  if (nngp.dtype == DType::f32) run<float>(lane, views, recursion);
  else run<double>(lane, views, recursion);
}

DLACCEL_REGISTER(hyperkernel_recursion, hyperkernel);

}  // namespace
}  // namespace dlaccel::hyperkernel_recursion
