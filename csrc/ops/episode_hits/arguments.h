// What episode_hits demands of its arguments, on every device. predictions [E, k, q] and hits
// [E, k] are written, row-major; support [E, k, n] and query [E, k, q] name rows of `values`,
// features [N, D] or, with `gram`, float64 inner products [N, N].
#pragma once

#include "../../core/contiguous.h"
#include "../../core/hd.h"
#include "../../core/registry.h"

namespace dlaccel::episode_hits {

// Row numbers [E, k, ...] of any strides.
struct Rows {
  const int64_t* data;
  int64_t strides[3];

  DL_HD int64_t operator()(int64_t episode, int64_t label, int64_t i) const {
    return data[episode * strides[0] + label * strides[1] + i * strides[2]];
  }
};

struct Problem {
  int64_t *predictions, *hits;
  const char* values;
  int64_t samples, columns, row_stride, column_stride;
  Rows support, query;
  int64_t episodes, ways, shots, queries;  // queries of one class

  DL_HD bool holds(int64_t row) const { return row >= 0 && row < samples; }
  // An episode's queries are numbered class by class.
  DL_HD int64_t questions() const { return ways * queries; }
  DL_HD int64_t question(int64_t episode, int64_t i) const {
    return query(episode, i / queries, i % queries);
  }
  template <class S>
  DL_HD const S* row(int64_t number) const {
    return reinterpret_cast<const S*>(values) + number * row_stride;
  }
};

inline Problem check(const View& predictions, const View& hits, const View& values,
                     const View& support, const View& query, int64_t gram) {
  require(values.ndim == 2 && support.ndim == 3 && query.ndim == 3,
          "episode_hits: features are a matrix, support is (E, k, n), query (E, k, q).");
  require(support.dtype == DType::i64 && query.dtype == DType::i64,
          "episode_hits: rows are int64.");
  const int64_t episodes = query.shape[0], ways = query.shape[1], queries = query.shape[2];
  require(support.shape[0] == episodes && support.shape[1] == ways,
          "episode_hits: support and query must agree in episodes and ways.");
  require(is_contiguous(predictions, DType::i64, {episodes, ways, queries}) &&
              is_contiguous(hits, DType::i64, {episodes, ways}),
          "episode_hits: predictions (E, k, q) and hits (E, k) are contiguous and int64.");
  require(support.shape[2] > 0, "episode_hits: a class needs support.");
  require(!gram || (values.dtype == DType::f64 && values.shape[0] == values.shape[1]),
          "episode_hits: inner products are a square float64 matrix.");
  const auto numbers = [](const View& view) { return reinterpret_cast<int64_t*>(view.data); };
  const auto rows = [&](const View& view) {
    return Rows{numbers(view), {view.strides[0], view.strides[1], view.strides[2]}};
  };
  return {numbers(predictions),
          numbers(hits),
          values.data,
          values.shape[0],
          values.shape[1],
          values.strides[0],
          values.strides[1],
          rows(support),
          rows(query),
          episodes,
          ways,
          support.shape[2],
          queries};
}

}  // namespace dlaccel::episode_hits
