// CPU pass over few-shot episodes, episodes shared among threads. Columns come in blocks: in each,
// the support rows are summed by class into a small buffer and the query rows pass by in groups.
#include "episode_hits.h"

#include <vector>

#include "../../core/dispatch.h"
#include "../../core/parallel.h"
#include "../../core/widen.h"
#include "arguments.h"

namespace dlaccel::episode_hits {
namespace {

using V = Vec<double>;

constexpr int64_t kColumns = 512;  // of a block
constexpr int64_t kVectors = kColumns / V::lanes;
constexpr int kQueries = 4;  // compared in registers with so many labels, 32 or 16 registers:
constexpr int kLabels = DL_VECTOR_BYTES == 64 ? 5 : 2;
constexpr int64_t kPending = 128;  // queries whose distances wait while the blocks pass

// Hands the vectors of `count` columns of a row to put(i, vector), the last one filled up with
// zeros.
template <class S, class Put>
void walk(const S* row, int64_t stride, int64_t count, const Put& put) {
  int64_t i = 0, column = 0;
  if (stride == 1)
    for (; column + V::lanes <= count; column += V::lanes) put(i++, load_wide(row + column));
  for (; column < count; column += V::lanes) {
    S stage[V::lanes] = {};
    for (int64_t lane = 0; lane < std::min<int64_t>(V::lanes, count - column); ++lane)
      stage[lane] = row[(column + lane) * stride];
    put(i++, load_wide(stage));
  }
}

inline double sum_of_lanes(V x) {
  double lanes[V::lanes], sum = 0;
  store_lanes(lanes, x);
  for (const double lane : lanes) sum += lane;
  return sum;
}

// What one thread keeps of the episode it is at.
template <class S>
class Worker {
 public:
  explicit Worker(const Problem& p)
      : p_(p),
        rows_(size_t(p.ways * (p.shots + p.queries))),
        sums_(size_t(p.ways * kVectors)),
        scaled_(size_t(kQueries * kVectors), V(0.0)),
        distances_(size_t(p.ways * kPending)) {}

  void run(int64_t episode) {
    list_rows(episode);
    for (int64_t first = 0; first < p_.questions(); first += kPending) {
      const int64_t end = std::min(first + kPending, p_.questions());
      std::fill(distances_.begin(), distances_.end(), 0.0);
      for (int64_t column = 0; column < p_.columns; column += kColumns) {
        count_ = std::min(kColumns, p_.columns - column);
        vectors_ = (count_ + V::lanes - 1) / V::lanes;
        offset_ = column * p_.column_stride;
        sum_support();
        for (int64_t i = first; i < end; i += kQueries)
          compare(i, int(std::min<int64_t>(kQueries, end - i)), &distances_[(i - first) * p_.ways]);
      }
      for (int64_t i = first; i < end; ++i)
        p_.predictions[episode * p_.questions() + i] = nearest(&distances_[(i - first) * p_.ways]);
    }
  }

 private:
  void list_rows(int64_t episode) {
    int64_t row = 0;
    for (int64_t label = 0; label < p_.ways; ++label)
      for (int64_t i = 0; i < p_.shots; ++i)
        rows_[row++] = p_.row<S>(p_.support(episode, label, i));
    for (int64_t i = 0; i < p_.questions(); ++i) rows_[row++] = p_.row<S>(p_.question(episode, i));
  }

  template <class Put>
  void walk_row(int64_t row, const Put& put) const {
    walk(rows_[size_t(row)] + offset_, p_.column_stride, count_, put);
  }

  // Where the row lies that comes `ahead` rows after a row.
  const S* coming(int64_t row, int64_t ahead) const {
    return rows_[size_t(std::min(row + ahead, int64_t(rows_.size()) - 1))] + offset_;
  }

  void sum_support() {
    for (int64_t label = 0; label < p_.ways; ++label) {
      V* sum = &sums_[label * kVectors];
      for (int64_t shot = 0; shot < p_.shots; ++shot) {
        const int64_t row = label * p_.shots + shot;
        const S* next = coming(row, kQueries);
        walk_row(row, [=](int64_t i, V x) {
          __builtin_prefetch(next + i * V::lanes);
          sum[i] = shot ? sum[i] + x : x;
        });
      }
    }
  }

  // Adds a block's share in the distances of `some` queries, from the first on, to every class.
  void compare(int64_t first, int some, double* distances) {
    const V shots(double(p_.shots));
    for (int q = 0; q < some; ++q) {
      V* scaled = &scaled_[q];
      walk_row(p_.ways * p_.shots + first + q,
               [=](int64_t i, V x) { scaled[i * kQueries] = shots * x; });
    }
    int64_t label = 0;
    for (; label + kLabels <= p_.ways; label += kLabels)
      compare_labels<kLabels>(first, label, some, distances);
    for (; label < p_.ways; ++label) compare_labels<1>(first, label, some, distances);
  }

  // Meanwhile rows of the queries to come are fetched, as many as there are labels.
  template <int Labels>
  void compare_labels(int64_t first, int64_t label, int some, double* distances) const {
    const V *scaled = scaled_.data(), *sums = &sums_[label * kVectors];
    const S* next[Labels];
    for (int c = 0; c < Labels; ++c)
      next[c] =
          coming(p_.ways * p_.shots + first, kQueries + std::min<int64_t>(label + c, kQueries - 1));
    V total[kQueries][Labels];
    for (auto& row : total)
      for (V& x : row) x = V(0.0);
    for (int64_t i = 0; i < vectors_; ++i, scaled += kQueries) {
      V sum[Labels];
#pragma GCC unroll 5
      for (int c = 0; c < Labels; ++c) {
        sum[c] = sums[c * kVectors + i];
        __builtin_prefetch(next[c] + i * V::lanes);
      }
#pragma GCC unroll 4
      for (int q = 0; q < kQueries; ++q) {  // past `some` for nothing
        const V x = scaled[q];
#pragma GCC unroll 5
        for (int c = 0; c < Labels; ++c) total[q][c] = total[q][c] + share(x, sum[c]);
      }
    }
    for (int q = 0; q < some; ++q)
      for (int c = 0; c < Labels; ++c)
        distances[q * p_.ways + label + c] += sum_of_lanes(total[q][c]);
  }

  int64_t nearest(const double* distances) const {
    Nearest nearest;
    for (int64_t label = 0; label < p_.ways; ++label) nearest.see(distances[label], label);
    return nearest.place;
  }

  Problem p_;
  std::vector<const S*> rows_;    // the support's, class by class, then the queries'
  std::vector<V> sums_, scaled_;  // of a block of columns: class by class; queries side by side
  std::vector<double> distances_;
  int64_t count_ = 0, vectors_ = 0, offset_ = 0;  // of the block
};

// From inner products: nothing here is as long as a row of features.
class GramWorker {
 public:
  explicit GramWorker(const Problem& p)
      : p_(p), support_(size_t(p.ways * p.shots)), within_(size_t(p.ways)) {}

  void run(int64_t episode) {
    for (int64_t label = 0; label < p_.ways; ++label) {
      for (int64_t i = 0; i < p_.shots; ++i)
        support_[size_t(label * p_.shots + i)] = p_.support(episode, label, i);
      within_[size_t(label)] = 0;
      for (int64_t i = 0; i < p_.shots; ++i)
        within_[size_t(label)] += across(p_.support(episode, label, i), label);
    }
    for (int64_t i = 0; i < p_.questions(); ++i) {
      Nearest nearest;
      for (int64_t label = 0; label < p_.ways; ++label)
        nearest.see(from_products(within_[size_t(label)], across(p_.question(episode, i), label),
                                  double(p_.shots)),
                    label);
      p_.predictions[episode * p_.questions() + i] = nearest.place;
    }
  }

 private:
  // <x, S> of row `x` and the class's sum.
  double across(int64_t x, int64_t label) const {
    const double* row = p_.row<double>(x);
    double sum = 0;
    for (int64_t i = 0; i < p_.shots; ++i)
      sum += row[support_[size_t(label * p_.shots + i)] * p_.column_stride];
    return sum;
  }

  Problem p_;
  std::vector<int64_t> support_;
  std::vector<double> within_;
};

void count_hits(const Problem& p, int64_t episode) {
  for (int64_t label = 0; label < p.ways; ++label) {
    const int64_t* predicted = p.predictions + (episode * p.ways + label) * p.queries;
    p.hits[episode * p.ways + label] = std::count(predicted, predicted + p.queries, label);
  }
}

template <class Work>
void run_all(const Problem& p, int64_t work, int threads) {
  const int64_t count = std::min<int64_t>(threads_for(work, threads), p.episodes);
  std::vector<Work> workers(size_t(count), Work{p});
  parallel(count, int(count), [&](int64_t first, int64_t last) {
    for (int64_t w = first; w < last; ++w)
      for (int64_t e = p.episodes * w / count; e < p.episodes * (w + 1) / count; ++e) {
        workers[size_t(w)].run(e);
        count_hits(p, e);
      }
  });
}

void require_rows(const Problem& p) {
  for (int64_t e = 0; e < p.episodes; ++e)
    for (int64_t label = 0; label < p.ways; ++label) {
      for (int64_t i = 0; i < p.shots; ++i)
        require(p.holds(p.support(e, label, i)), "episode_hits: a support row does not exist.");
      for (int64_t i = 0; i < p.queries; ++i)
        require(p.holds(p.query(e, label, i)), "episode_hits: a query row does not exist.");
    }
}

void episode_hits(Lane lane, const View& predictions, const View& hits, const View& values,
                  const View& support, const View& query, int64_t gram) {
  const Problem p = check(predictions, hits, values, support, query, gram);
  require_rows(p);
  const int64_t compared = p.episodes * p.questions() * p.ways;
  if (gram) return run_all<GramWorker>(p, compared * p.shots, lane.threads);
  visit_floating(values.dtype, [&]<class S>() {
    run_all<Worker<S>>(p, compared * p.columns / V::lanes, lane.threads);
  });
}

DLACCEL_REGISTER(episode_hits, episode_hits);

}  // namespace
}  // namespace dlaccel::episode_hits
