// CPU pass of the class moments. The rows are sorted by class, so that a class's sums are read and
// written once for several of its rows. The order of every sum follows from the labels and the
// shape: the sorted rows are cut into chunks and the columns into tiles, whatever the thread count.
#include <bit>
#include <memory>
#include <vector>

#include "../../core/class_rows.h"
#include "../../core/column_sums.h"
#include "../../core/widen.h"
#include "arguments.h"
#include "class_moments.h"

namespace dlaccel::class_moments {
namespace {

using V = Vec<double>;

constexpr int kRows = 8;         // of one class, at most, that share one reading of its sums
constexpr int kAhead = 16;       // rows from a row to the one fetched meanwhile
constexpr int64_t kStage = 64;   // columns; a multiple of every vector width
constexpr int64_t kLine = 64;    // bytes that a fetch ahead brings
constexpr int64_t kTile = 1024;  // columns of a task: its sums and shifts stay in the first cache
constexpr int64_t kTasks = 64;   // at most, chunks times tiles, but for the widest rows
constexpr int64_t kChunkRows = 64;  // at least

inline double sum_of_lanes(V x) {
  double lanes[V::lanes], sum = 0;
  memcpy(lanes, &x.v, sizeof lanes);
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Rows order[begin, end), all of one class. What they sum to goes to row `edge` of a side buffer,
// or to the state itself where `edge` is -1.
struct Run {
  int64_t label, begin, end, edge = -1;
  bool adopts = false;  // its first row as the shift
};

template <class S>
const S* row_of(const Problem& p, int64_t row) {
  return reinterpret_cast<const S*>(p.features) + row * p.row_stride;
}

// Columns [begin, end) of a row as a shift. What is not finite stays 0: it must spoil no other
// sample.
template <class S>
void adopt(const Problem& p, int64_t row, double* shift, int64_t begin, int64_t end) {
  const S* x = row_of<S>(p, row);
  int64_t i = begin;
  if (p.column_stride == 1)
    for (; i + V::lanes <= end; i += V::lanes) {
      const V value = load_wide(x + i);
      store_lanes(shift + i, select(value - value <= V(0.0), value, V(0.0)));
    }
  for (; i < end; ++i) {
    const double value = load(x[i * p.column_stride]);
    shift[i] = value - value == 0 ? value : 0;
  }
}

// A class without samples, or a common shift without any, takes the first sample as its shift. Runs
// that are the whole of their class do so on their way.
template <class S>
void adopt_shifts(const Problem& p, const ClassRows& sorted, std::vector<Run>& runs) {
  if (p.shift_stride == 0) {
    const bool used = std::any_of(p.counts, p.counts + p.classes, [](double n) { return n != 0; });
    if (!used && !sorted.order.empty()) {
      const int64_t first = *std::min_element(sorted.order.begin(), sorted.order.end());
      adopt<S>(p, first, p.shifts, 0, p.columns);
    }
    return;
  }
  for (Run& run : runs) {
    if (p.counts[run.label] != 0) continue;
    const int64_t first = sorted.starts[size_t(run.label)];
    if (run.edge < 0) run.adopts = true;
    else if (run.begin == first)
      adopt<S>(p, sorted.order[size_t(first)], p.shift_of(run.label), 0, p.columns);
  }
}

// The pass over one tile of columns of one chunk of sorted rows.
template <class S>
class Pass {
 public:
  Pass(const Problem& problem, const ClassRows& sorted) : p_(problem), sorted_(sorted) {}

  // The rows of a run added to `sums`, from column `begin` to `end`; returns their squares' sum.
  double add(const Run& run, double* sums, int64_t begin, int64_t end) const {
    double* shift = p_.shift_of(run.label);
    if (run.adopts) adopt<S>(p_, sorted_.order[size_t(run.begin)], shift, begin, end);
    V squares(0.0);
    for (int64_t at = run.begin; at < run.end;) {
      const int count = int(std::bit_floor(uint64_t(std::min<int64_t>(kRows, run.end - at))));
      Rows rows = rows_at(at, count, begin);
      columns(rows, shift + begin, sums + begin, end - begin);
      for (int r = 1; r < count; ++r) rows.squares[0] = rows.squares[0] + rows.squares[r];
      squares = squares + rows.squares[0];
      at += count;
    }
    return sum_of_lanes(squares);
  }

 private:
  // Some rows of a class, and what their columns have added so far.
  struct Rows {
    int count;
    const S* data[kRows];
    const S* next[kRows];  // fetched meanwhile
    double weights[kRows];
    V squares[kRows];
  };

  Rows rows_at(int64_t at, int count, int64_t column) const {
    Rows rows;
    rows.count = count;
    column *= p_.column_stride;
    const int64_t last = int64_t(sorted_.order.size()) - 1;
    for (int r = 0; r < count; ++r) {
      const int64_t row = sorted_.order[size_t(at + r)];
      const int64_t next = sorted_.order[size_t(std::min(at + kAhead + r, last))];
      rows.data[r] = row_of<S>(p_, row) + column;
      rows.next[r] = row_of<S>(p_, next) + column;
      rows.weights[r] = sorted_.weights.empty() ? 1 : sorted_.weights[size_t(row)];
      rows.squares[r] = V(0.0);
    }
    return rows;
  }

  // Whole vectors of neighbouring columns in place, whatever else through buffers filled up with 0.
  void columns(Rows& rows, const double* shift, double* sums, int64_t n) const {
    const int64_t whole = p_.column_stride == 1 ? n / V::lanes * V::lanes : 0;
    add_columns(rows, shift, sums, whole);
    for (int64_t i = whole; i < n; i += kStage)
      add_staged(rows, shift + i, sums + i, i, std::min(n - i, kStage));
  }

  __attribute__((noinline)) void add_staged(Rows& rows, const double* shift, double* sums,
                                            int64_t column, int64_t n) const {
    S stage[kRows][kStage];
    double near[kStage] = {}, totals[kStage] = {};
    const int64_t padded = (n + V::lanes - 1) / V::lanes * V::lanes;
    Rows staged = rows;
    for (int r = 0; r < rows.count; ++r) {
      for (int64_t i = 0; i < n; ++i) stage[r][i] = rows.data[r][(column + i) * p_.column_stride];
      std::fill(stage[r] + n, stage[r] + padded, S{});
      staged.data[r] = staged.next[r] = stage[r];
    }
    std::copy_n(shift, n, near);
    std::copy_n(sums, n, totals);
    add_columns(staged, near, totals, padded);
    std::copy_n(totals, n, sums);
    std::copy_n(staged.squares, rows.count, rows.squares);
  }

  static void add_columns(Rows& rows, const double* shift, double* sums, int64_t n) {
    switch (rows.count) {
      case 1: return vectors<1>(rows, shift, sums, n);
      case 2: return vectors<2>(rows, shift, sums, n);
      case 4: return vectors<4>(rows, shift, sums, n);
      default: return vectors<kRows>(rows, shift, sums, n);
    }
  }

  template <int count>
  __attribute__((noinline, flatten)) static void vectors(Rows& rows, const double* shift,
                                                         double* sums, int64_t n) {
    constexpr int64_t line = std::max<int64_t>(kLine / int64_t(sizeof(S)), V::lanes);
    [&]<size_t... r>(std::index_sequence<r...>) {
      const std::array<const S*, count> data = {rows.data[r]...};
      const std::array<const S*, count> next = {rows.next[r]...};
      const std::array<V, count> weights = {V(rows.weights[r])...};
      std::array<V, count> squares = {rows.squares[r]...};
      for (int64_t i = 0; i < n;) {
        (__builtin_prefetch(next[r] + i), ...);
        for (const int64_t end = std::min(i + line, n); i < end; i += V::lanes) {
          const V near = load_lanes<double>(shift + i);
          const std::array parts = {share(load_wide(data[r] + i), near, weights[r])...};
          store_lanes(sums + i, load_lanes<double>(sums + i) + (parts[r].sum + ...));
          ((squares[r] = squares[r] + parts[r].square), ...);
        }
      }
      ((rows.squares[r] = squares[r]), ...);
    }(std::make_index_sequence<count>{});
  }

  const Problem& p_;
  const ClassRows& sorted_;
};

// The sorted rows cut into chunks, chunks into runs. A run that may go on in another chunk, the
// first and the last, has a row of its own in a side buffer: no two tasks write the same sums.
struct Chunks {
  std::vector<Run> runs;
  std::vector<size_t> first{0};  // run of each chunk, and the end

  Chunks(const ClassRows& sorted, int64_t classes, int64_t count) {
    const int64_t rows = int64_t(sorted.order.size());
    int64_t label = 0;
    for (int64_t chunk = 0; chunk < count; ++chunk) {
      const int64_t end = rows * (chunk + 1) / count;
      for (int64_t at = rows * chunk / count; at < end;) {
        while (label < classes && sorted.starts[size_t(label) + 1] <= at) ++label;
        const int64_t stop = std::min(sorted.starts[size_t(label) + 1], end);
        runs.push_back({label, at, stop});
        at = stop;
      }
      runs[first.back()].edge = 2 * chunk;
      if (runs.size() - first.back() > 1) runs.back().edge = 2 * chunk + 1;
      first.push_back(runs.size());
    }
  }
};

template <class S>
void add_moments(const Problem& p, const ClassRows& sorted, int threads) {
  const int64_t rows = int64_t(sorted.order.size());
  const int64_t tiles = (p.columns + kTile - 1) / kTile;
  const int64_t most = std::max<int64_t>(kTasks / std::max<int64_t>(tiles, 1), 1);
  const int64_t chunks = std::clamp<int64_t>(rows / kChunkRows, rows > 0, most);
  Chunks cut(sorted, p.classes, chunks);
  const auto edges = std::make_unique_for_overwrite<double[]>(size_t(2 * chunks * p.columns));
  std::vector<double> squares(cut.runs.size() * size_t(tiles));
  if (p.adopt) adopt_shifts<S>(p, sorted, cut.runs);
  const Pass<S> pass(p, sorted);
  parallel(chunks * tiles, threads_for(rows * p.columns, threads), [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t chunk = task / tiles, tile = task % tiles, begin = tile * kTile;
      const int64_t end = std::min(begin + kTile, p.columns);
      for (size_t r = cut.first[size_t(chunk)]; r < cut.first[size_t(chunk) + 1]; ++r) {
        const Run& run = cut.runs[r];
        double* sums =
            run.edge < 0 ? p.sums + run.label * p.columns : edges.get() + run.edge * p.columns;
        if (run.edge >= 0) std::fill(sums + begin, sums + end, 0.0);
        squares[r * size_t(tiles) + size_t(tile)] = pass.add(run, sums, begin, end);
      }
    }
  });
  for (size_t r = 0; r < cut.runs.size(); ++r) {
    const Run& run = cut.runs[r];
    double count = double(run.end - run.begin), square = 0;
    if (!sorted.weights.empty()) {
      count = 0;
      for (int64_t at = run.begin; at < run.end; ++at)
        count += sorted.weights[size_t(sorted.order[size_t(at)])];
    }
    for (int64_t tile = 0; tile < tiles; ++tile)
      square += squares[r * size_t(tiles) + size_t(tile)];
    p.counts[run.label] += count;
    p.samples[run.label] += double(run.end - run.begin);
    p.squares[run.label] += square;
    if (run.edge >= 0)
      add_row(p.sums + run.label * p.columns, edges.get() + run.edge * p.columns, p.columns);
  }
}

void class_moments(Lane lane, const View& counts, const View& samples, const View& sums,
                   const View& squares, const View& shifts, const View& fault, const View& features,
                   const View& labels, const Maybe& weight, int64_t adopt,
                   const Maybe& /*places: CUDA's, all five*/, const Maybe& /*starts*/,
                   const Maybe& /*order*/, const Maybe& /*edges*/, const Maybe& /*runs*/) {
  const Problem problem =
      check(counts, samples, sums, squares, shifts, fault, features, labels, weight, adopt);
  const ClassRows sorted(labels, weight, problem.classes, problem.classes);
  visit_floating(features.dtype, [&]<class S>() { add_moments<S>(problem, sorted, lane.threads); });
}

DLACCEL_REGISTER(class_moments, class_moments);

}  // namespace
}  // namespace dlaccel::class_moments
