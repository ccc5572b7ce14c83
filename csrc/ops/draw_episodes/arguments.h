// What draw_episodes demands of its arguments, on every device: all int64. classes [E, k] and
// samples [E, k, s] are written, row-major; class c has members [offsets[c], offsets[c + 1]), and
// classes are drawn from `eligible`.
#pragma once

#include "../../core/contiguous.h"
#include "../../core/hd.h"
#include "../../core/registry.h"

namespace dlaccel::draw_episodes {

struct Problem {
  int64_t *classes, *samples;
  const int64_t *members, *offsets, *eligible;
  int64_t member_count, class_count, eligible_count;
  int64_t episodes, ways, each;
  int64_t seed;
};

inline Problem check(const View& classes, const View& samples, const View& members,
                     const View& offsets, const View& eligible, int64_t seed) {
  require(samples.ndim == 3 && members.ndim == 1 && offsets.ndim == 1 && eligible.ndim == 1 &&
              offsets.shape[0] > 0,
          "draw_episodes: samples are (E, k, s); members, offsets and eligible are vectors.");
  const int64_t episodes = samples.shape[0], ways = samples.shape[1], each = samples.shape[2];
  require(is_contiguous(classes, DType::i64, {episodes, ways}) &&
              is_contiguous(samples, DType::i64, {episodes, ways, each}),
          "draw_episodes: classes (E, k) and samples (E, k, s) are contiguous and int64.");
  for (const View* table : {&members, &offsets, &eligible})
    require(is_contiguous(*table, DType::i64, {table->shape[0]}),
            "draw_episodes: members, offsets and eligible are contiguous and int64.");
  require(members.shape[0] < int64_t(1) << 31, "draw_episodes: there are too many members.");
  require(ways <= eligible.shape[0], "draw_episodes: there are too few classes.");
  const auto numbers = [](const View& view) { return reinterpret_cast<int64_t*>(view.data); };
  return {numbers(classes),
          numbers(samples),
          numbers(members),
          numbers(offsets),
          numbers(eligible),
          members.shape[0],
          offsets.shape[0] - 1,
          eligible.shape[0],
          episodes,
          ways,
          each,
          seed};
}

// The members of a class; none where the tables lead outside.
struct Members {
  const int64_t* first;
  int64_t count;
};

DL_HD Members members_of(const Problem& p, int64_t label) {
  if (label < 0 || label >= p.class_count) return {nullptr, 0};
  const int64_t begin = p.offsets[label], end = p.offsets[label + 1];
  if (begin < 0 || end > p.member_count || end < begin) return {nullptr, 0};
  return {p.members + begin, end - begin};
}

}  // namespace dlaccel::draw_episodes
