// Labelled rows on the host: which of them count, and their order by class.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "dispatch.h"

namespace dlaccel {

// The rows that count, neither labelled -1 nor weighing 0, in groups: one for each class, or one of
// all. Group g has rows order[starts[g]] .. order[starts[g + 1] - 1], in the order of the rows.
struct ClassRows {
  std::vector<int64_t> order, starts;
  std::vector<double> weights;  // of every row; empty where all weigh 1

  ClassRows(const View& labels, const std::optional<View>& weight, int64_t classes, int64_t groups)
      : starts(size_t(groups) + 1) {
    if (weight) read(*weight);
    if (labels.dtype == DType::i64) sort<int64_t>(labels, classes);
    else sort<int32_t>(labels, classes);
  }

 private:
  void read(const View& weight) {
    weights.resize(size_t(weight.shape[0]));
    visit_floating(weight.dtype, [&]<class S>() {
      const S* data = reinterpret_cast<const S*>(weight.data);
      for (size_t i = 0; i < weights.size(); ++i) {
        weights[i] = load(data[int64_t(i) * weight.strides[0]]);
        require(weights[i] >= 0 && std::isfinite(weights[i]),
                "weight must be finite and not negative.");
      }
    });
  }

  template <class Label>
  void sort(const View& labels, int64_t classes) {
    const Label* data = reinterpret_cast<const Label*>(labels.data);
    const bool by_class = int64_t(starts.size()) == classes + 1;
    const auto group_of = [&](int64_t row) -> int64_t {
      const int64_t label = data[row * labels.strides[0]];
      require(label >= -1 && label < classes, "labels must lie in [0, C) or be -1.");
      if (label < 0 || (!weights.empty() && weights[size_t(row)] == 0)) return -1;
      return by_class ? label : 0;
    };
    for (int64_t row = 0; row < labels.shape[0]; ++row)
      if (const int64_t group = group_of(row); group >= 0) ++starts[size_t(group) + 1];
    for (size_t g = 1; g < starts.size(); ++g) starts[g] += starts[g - 1];
    order.resize(size_t(starts.back()));
    std::vector<int64_t> next(starts.begin(), starts.end() - 1);
    for (int64_t row = 0; row < labels.shape[0]; ++row)
      if (const int64_t group = group_of(row); group >= 0)
        order[size_t(next[size_t(group)]++)] = row;
  }
};

}  // namespace dlaccel
