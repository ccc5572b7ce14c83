// Host parallelism: OpenMP with the caller's thread count, one thread without a region.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace dlaccel {

// GNU's OpenMP hangs in a forked child whose parent had used threads: the child runs alone.
inline bool& in_forked_child() {
  static bool forked = false;
  return forked;
}
inline void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { in_forked_child() = true; });
  (void)registered;
}

// Waking threads takes microseconds: fewer elements than this for each do not pay.
constexpr int64_t kGrain = 16384;

inline int threads_for(int64_t work, int threads) {
  if (in_forked_child()) return 1;
  return int(std::clamp<int64_t>(work / kGrain, 1, std::max(threads, 1)));
}

// body(begin, end) over [0, tasks), cut into one range for each thread. body must not throw.
template <class Body>
void parallel(int64_t tasks, int threads, Body&& body) {
  threads = int(std::min<int64_t>(threads, tasks));
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    {
      const int64_t index = omp_get_thread_num(), count = omp_get_num_threads();
      body(tasks * index / count, tasks * (index + 1) / count);
    }
    return;
  }
#endif
  if (tasks > 0) body(int64_t(0), tasks);
}

}  // namespace dlaccel
