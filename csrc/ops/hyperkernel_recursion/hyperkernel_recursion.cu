// CUDA loop of the hyperkernel: four entries a thread at most, each in registers throughout.
#include "../../core/elementwise.cuh"
#include "../../core/registry.h"
#include "hyperkernel_recursion.h"

namespace dlaccel::hyperkernel_recursion {
namespace {

struct Formula {
  Recursion recursion;

  template <class Tile, class Emit>
  __device__ __forceinline__ void operator()(const Tile& tile, const Emit& emit) const {
    using T = std::remove_cvref_t<decltype(tile.at[0][0])>;
    DL_UNROLL
    for (int e = 0; e < Tile::elements; ++e) {
      const auto entry = recursion(Correlation<T>{tile.at[2][e], tile.at[3][e]},
                                   Correlation<T>{tile.at[4][e], tile.at[5][e]}, tile.at[6][e],
                                   tile.at[7][e], tile.at[8][e] * tile.at[9][e]);
      emit(e, 0, entry.nngp);
      emit(e, 1, entry.tangent);
    }
  }
};

void hyperkernel(Lane lane, const View& nngp, const View& tangent, const View& cosine,
                 const View& gap, const View& inputs, const View& input_gap, const View& factor,
                 const View& first, const View& left, const View& right, int64_t layers,
                 double contrast) {
  check(nngp, {&tangent, &cosine, &gap, &inputs, &input_gap, &factor, &first, &left, &right},
        layers, contrast);
  const auto loops =
      plan_loops<10>({nngp, tangent, cosine, gap, inputs, input_gap, factor, first, left, right});
  const Formula formula{Recursion{int(layers), Rectifier(contrast)}};
  if (nngp.dtype == DType::f32) run_elementwise<float, 2>(loops, formula, lane.stream);
  else run_elementwise<double, 2>(loops, formula, lane.stream);
}

DLACCEL_REGISTER(hyperkernel_recursion, hyperkernel);

}  // namespace
}  // namespace dlaccel::hyperkernel_recursion
