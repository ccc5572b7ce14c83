// Draws without replacement, as counters name them: word i of row (episode, stream) is half of
// Philox's block (i / 2, stream, episode), keyed by the seed. Stream 0 draws an episode's classes,
// stream 1 + a the samples of its a-th class. So no draw knows of any other, nor of how many there
// are.
//
// A row is the start of a Fisher-Yates shuffle of [0, size): swap i exchanges the items of places i
// and j_i, uniform in [i, size). The shuffled items are never stored, see undo().
#pragma once

#include "../../core/philox.h"

namespace dlaccel::draw_episodes {

// Which row of draws: its seed, episode and stream.
struct Row {
  int64_t seed, episode, stream;

  // j_i for i = 2 pair and i = 2 pair + 1, as far as they lie below count.
  template <class Put>
  DL_HD void draw(int64_t pair, int64_t count, int64_t size, const Put& put) const {
    const Words words =
        philox({{uint32_t(pair), uint32_t(stream), uint32_t(episode), uint32_t(episode >> 32)}},
               uint64_t(seed));
    for (int half = 0; half < 2; ++half) {
      const int64_t i = 2 * pair + half;
      if (i < count)
        put(i, i + below(uint64_t(size - i), words.at[2 * half + 1], words.at[2 * half]));
    }
  }
};

// One step of reading the shuffle backwards. What stands at `place` after swap `step`, which
// exchanged places `step` and `partner`, stood before it at the place returned; place > step. From
// place j_i over the steps i - 1 to 0 this leads to the item that the shuffle brings to place i.
DL_HD int64_t undo(int64_t place, int64_t step, int64_t partner) {
  return place == partner ? step : place;
}

}  // namespace dlaccel::draw_episodes
