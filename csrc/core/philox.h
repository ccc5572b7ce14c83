// Random words that are a function of a key and a counter, the same on every device: Philox4x32-10
// of Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include <cstdint>

#include "hd.h"

namespace dlaccel {

struct Words {
  uint32_t at[4];
};

// Ten rounds: two products of 32 by 32 bits, whose halves change places, and a key that moves on.
DL_HD Words philox(Words counter, uint64_t key) {
  uint32_t first = uint32_t(key), second = uint32_t(key >> 32);
  auto& c = counter.at;
  DL_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t p = uint64_t(0xD2511F53u) * c[0], q = uint64_t(0xCD9E8D57u) * c[2];
    counter = {{uint32_t(q >> 32) ^ c[1] ^ first, uint32_t(q), uint32_t(p >> 32) ^ c[3] ^ second,
                uint32_t(p)}};
    first += 0x9E3779B9u;   // the golden ratio
    second += 0xBB67AE85u;  // the square root of 3, less 1
  }
  return counter;
}

// floor(w span / 2^64) for the 64-bit word w = (high, low) and 0 < span < 2^32: a number of
// [0, span). Each has floor or ceil of 2^64 / span words, so its probability errs by less
// than 2^-64.
DL_HD int64_t below(uint64_t span, uint32_t high, uint32_t low) {
  return int64_t((high * span + (low * span >> 32)) >> 32);
}

}  // namespace dlaccel
