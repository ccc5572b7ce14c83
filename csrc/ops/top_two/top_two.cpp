// CPU pass over a tile of products while it is in cache: scores are formed, compared and dropped.
#include "top_two.h"

#include <algorithm>
#include <vector>

#include "../../core/parallel.h"
#include "../../core/registry.h"
#include "../../core/vec.h"

namespace dlaccel::top_two {
namespace {

constexpr int64_t kStage = 256;  // products of a strided row gathered at a time
static_assert(kStage % Vec<float>::lanes == 0);

// A column's number in each lane of Vec<S>.
template <class S>
struct Columns {
  using Bits = typename Vec<S>::Bits;
  Bits v;
  friend DL_HD Columns select(Bits mask, Columns yes, Columns no) { return {mask ? yes.v : no.v}; }
};

template <class S>
using Lanes = Best<Vec<S>, Columns<S>>;

// n products of neighbouring columns from `column` on; n is a multiple of the lanes.
template <class S>
__attribute__((noinline)) void compare(Lanes<S>& best, const S* products, const S* half_norms,
                                       int64_t column, int64_t n) {
  using V = Vec<S>;
  Columns<S> columns{};
  for (int lane = 0; lane < V::lanes; ++lane) columns.v[lane] = column + lane;
  Lanes<S> kept = best;
  for (int64_t i = 0; i < n; i += V::lanes) {
    pass(kept, load_lanes<S>(half_norms + i) - load_lanes<S>(products + i), columns);
    columns.v += V::lanes;
  }
  best = kept;
}

template <class S>
Best<S, int64_t> over_lanes(const Lanes<S>& lanes) {
  Best<S, int64_t> best = nothing_yet<S>();
  for (int i = 0; i < Vec<S>::lanes; ++i)
    merge(best, {lanes.first.v[i], lanes.second.v[i], lanes.third.v[i],
                 int64_t(lanes.first_column.v[i]), int64_t(lanes.second_column.v[i])});
  return best;
}

// half_norms end with infinities up to a whole vector, so that what stands there in `stage` is
// never taken.
template <class S>
Best<S, int64_t> best_of_row(const S* products, int64_t stride, int64_t n, const S* half_norms) {
  using V = Vec<S>;
  const auto start = nothing_yet<S>();
  const Columns<S> none{typename V::Bits{} - 1};
  Lanes<S> lanes{V(start.first), V(start.first), V(start.first), none, none};
  const int64_t whole = stride == 1 ? n / V::lanes * V::lanes : 0;
  compare(lanes, products, half_norms, 0, whole);
  for (int64_t i = whole; i < n; i += kStage) {
    S stage[kStage];
    const int64_t count = std::min(n - i, kStage);
    const int64_t padded = (count + V::lanes - 1) / V::lanes * V::lanes;
    for (int64_t k = 0; k < count; ++k) stage[k] = products[(i + k) * stride];
    std::fill(stage + count, stage + padded, S(0));
    compare(lanes, stage, half_norms + i, i, padded);
  }
  return over_lanes(lanes);
}

template <class S>
std::vector<S> padded(const View& half_norms) {
  const int64_t n = half_norms.shape[0];
  std::vector<S> row(size_t(n + Vec<S>::lanes), std::numeric_limits<S>::infinity());
  for (int64_t i = 0; i < n; ++i)
    row[size_t(i)] = reinterpret_cast<const S*>(half_norms.data)[i * half_norms.strides[0]];
  return row;
}

template <class S>
void run(const View& best, const View& second, const View& scores, const View& products,
         const View& half_norms, int threads) {
  const int64_t rows = products.shape[0], columns = products.shape[1];
  const std::vector<S> norms = padded<S>(half_norms);
  parallel(rows, threads_for(rows * columns, threads), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto found =
          best_of_row(reinterpret_cast<const S*>(products.data) + row * products.strides[0],
                      products.strides[1], columns, norms.data());
      reinterpret_cast<int64_t*>(best.data)[row * best.strides[0]] = found.first_column;
      reinterpret_cast<int64_t*>(second.data)[row * second.strides[0]] = found.second_column;
      S* score = reinterpret_cast<S*>(scores.data) + row * scores.strides[0];
      score[0] = found.first;
      score[scores.strides[1]] = found.second;
      score[2 * scores.strides[1]] = found.third;
    }
  });
}

void top_two(Lane lane, const View& best, const View& second, const View& scores,
             const View& products, const View& half_norms) {
  require(products.ndim == 2 && half_norms.ndim == 1 && half_norms.shape[0] == products.shape[1] &&
              half_norms.dtype == products.dtype && products.shape[1] < INT32_MAX,
          "top_two: products are (n, C), half_norms (C), of one dtype.");
  const int64_t rows = products.shape[0];
  for (const View* index : {&best, &second})
    require(index->ndim == 1 && index->shape[0] == rows && index->dtype == DType::i64,
            "top_two: best and second are (n), int64.");
  require(scores.ndim == 2 && scores.shape[0] == rows && scores.shape[1] == 3 &&
              scores.dtype == products.dtype,
          "top_two: scores are (n, 3), of products' dtype.");
  switch (products.dtype) {
    case DType::f64: return run<double>(best, second, scores, products, half_norms, lane.threads);
    case DType::f32: return run<float>(best, second, scores, products, half_norms, lane.threads);
    default: require(false, "top_two: products are float64 or float32.");
  }
}

DLACCEL_REGISTER(top_two, top_two);

}  // namespace
}  // namespace dlaccel::top_two
