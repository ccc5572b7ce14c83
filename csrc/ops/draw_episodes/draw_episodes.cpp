// CPU draws of few-shot episodes, one episode after another, episodes shared among threads.
#include "draw_episodes.h"

#include "../../core/parallel.h"
#include "arguments.h"

namespace dlaccel::draw_episodes {
namespace {

// The first `count` items of a shuffle of table[0, size).
void shuffle(const Row& row, const int64_t* table, int64_t size, int64_t count, int64_t* items) {
  for (int64_t pair = 0; 2 * pair < count; ++pair)
    row.draw(pair, count, size, [=](int64_t i, int64_t place) { items[i] = place; });
  for (int64_t step = count - 2; step >= 0; --step) {
    const int64_t partner = items[step];  // still as drawn: only later ones have changed
    for (int64_t i = step + 1; i < count; ++i) items[i] = undo(items[i], step, partner);
  }
  for (int64_t i = 0; i < count; ++i) items[i] = table[items[i]];
}

void draw_episodes(Lane lane, const View& classes, const View& samples, const View& members,
                   const View& offsets, const View& eligible, int64_t seed) {
  const Problem p = check(classes, samples, members, offsets, eligible, seed);
  for (int64_t i = 0; i < p.eligible_count; ++i)
    require(members_of(p, p.eligible[i]).count >= p.each,
            "draw_episodes: an eligible class has too few members.");
  const int64_t work = p.episodes * p.ways * p.each * (p.each + 1);
  parallel(p.episodes, threads_for(work, lane.threads), [&](int64_t first, int64_t last) {
    for (int64_t episode = first; episode < last; ++episode) {
      int64_t* labels = p.classes + episode * p.ways;
      shuffle({p.seed, episode, 0}, p.eligible, p.eligible_count, p.ways, labels);
      for (int64_t a = 0; a < p.ways; ++a) {
        const Members of = members_of(p, labels[a]);
        shuffle({p.seed, episode, 1 + a}, of.first, of.count, p.each,
                p.samples + (episode * p.ways + a) * p.each);
      }
    }
  });
}

DLACCEL_REGISTER(draw_episodes, draw_episodes);

}  // namespace
}  // namespace dlaccel::draw_episodes
