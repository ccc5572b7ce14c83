// The two best columns of a row and the third best score, kept while scores pass by. Lower is
// better; of equal scores the lower column is. NaN never wins. A place that no score has taken
// holds column -1 and +infinity. T and Column are scalars, or vectors of them: then each lane has
// its own.
#pragma once

#include <cstdint>
#include <limits>

#include "../../core/hd.h"

namespace dlaccel::top_two {

template <class T, class Column>
struct Best {
  T first, second, third;
  Column first_column, second_column;
};

template <class T>
DL_HD Best<T, int64_t> nothing_yet() {
  constexpr T far = std::numeric_limits<T>::infinity();
  return {far, far, far, -1, -1};
}

// Of columns in ascending order: an equal score that comes later does not win. The scores are kept
// by minima and maxima alone, so that the next one's waits for no mask.
template <class T, class Column>
DL_HD void pass(Best<T, Column>& best, T score, Column column) {
  const auto lower = [](T a, T b) { return select(a < b, a, b); };  // b where a is NaN
  const auto higher = [](T a, T b) { return select(a > b, a, b); };
  const T first = lower(score, best.first), second = lower(score, best.second);
  const auto beats_first = first < best.first, beats_second = second < best.second;
  best.second_column =
      select(beats_first, best.first_column, select(beats_second, column, best.second_column));
  best.first_column = select(beats_first, column, best.first_column);
  best.third = higher(lower(score, best.third), best.second);
  best.second = higher(second, best.first);
  best.first = first;
}

namespace detail {

// A scalar score of any column.
template <class T>
DL_HD void insert(Best<T, int64_t>& best, T score, int64_t column) {
  const auto beats = [&](T other, int64_t other_column) {
    return score < other || (score == other && column < other_column);
  };
  if (beats(best.first, best.first_column)) {
    best = {score, best.first, best.second, column, best.first_column};
  } else if (beats(best.second, best.second_column)) {
    best = {best.first, score, best.second, best.first_column, column};
  } else {
    best.third = select(score < best.third, score, best.third);
  }
}

}  // namespace detail

// The best of both, which have no column in common.
template <class T>
DL_HD void merge(Best<T, int64_t>& best, const Best<T, int64_t>& other) {
  if (other.first_column >= 0) detail::insert(best, other.first, other.first_column);
  if (other.second_column >= 0) detail::insert(best, other.second, other.second_column);
  best.third = select(other.third < best.third, other.third, best.third);
}

}  // namespace dlaccel::top_two
