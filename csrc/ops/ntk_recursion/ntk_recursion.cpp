// CPU: tiles of the kernels, each computed in the cache and written from there, once or both ways
// round.
#include <algorithm>
#include <memory>

#include "../../core/elementwise.h"
#include "../../core/registry.h"
#include "arguments.h"

namespace dlaccel::ntk_recursion {
namespace {

constexpr int kRows = 32, kColumns = 64;  // of a tile; a row is a multiple of every vector's width

// S: the outputs' type. A: the type in which the formula is computed.
template <class S, class A, class Formula>
class Tiles {
 public:
  using V = Vec<A>;

  Tiles(const Problem& problem, const Formula& formula)
      : p(problem),
        formula_(formula),
        strips_((p.count + kRows - 1) / kRows),
        blocks_((p.used + kColumns - 1) / kColumns),
        rows_(new A[size_t(p.count * p.entries)]),
        columns_(new A[size_t(blocks_ * p.entries * kColumns)]),
        stream_(p.height * p.width * int64_t(sizeof(S)) >= kStreamBytes) {}

  void run(int threads) const {
    for (int64_t i = 0; i < p.count; ++i)
      for (int k = 0; k < p.entries; ++k) rows_[i * p.entries + k] = A(p.of_row(k, i));
    parallel(blocks_, threads_for(p.used * p.entries, threads), [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) pack(block);
    });
    const int64_t work = p.count * p.used * (formula_.layers + 1);
    parallel(strips_ * blocks_, threads_for(work, threads), [&](int64_t begin, int64_t end) {
      const auto tile = std::make_unique<Tile>();  // zeros: what lies past the last row is read
      for (int64_t task = begin; task < end; ++task)
        make(task / blocks_ * kRows, task % blocks_ * kColumns, *tile);
      if (stream_) stream_fence();
    });
  }

 private:
  static constexpr int kOutputs = 3;
  struct Tile {
    S at[kOutputs][kRows][kColumns];
  };

  // A block's tables, entry by entry; columns past the last repeat it.
  void pack(int64_t block) const {
    A* to = columns_.get() + block * p.entries * kColumns;
    for (int k = 0; k < p.entries; ++k)
      for (int j = 0; j < kColumns; ++j)
        *to++ = A(p.of_column(k, std::min(block * kColumns + j, p.used - 1)));
  }

  void make(int64_t row, int64_t column, Tile& tile) const {
    const int height = int(std::min<int64_t>(kRows, p.count - row));
    const int width = int(std::min<int64_t>(kColumns, p.used - column));
    if (p.above_diagonal(row + height - 1, column)) return;
    for (int i = 0; i < height; ++i) compute(row + i, column, i, width, tile);
    S* const outputs[kOutputs] = {reinterpret_cast<S*>(p.nngp), reinterpret_cast<S*>(p.tangent),
                                  reinterpret_cast<S*>(p.gap)};
    for (int k = 0; k < kOutputs; ++k)
      if (outputs[k]) write(tile.at[k], outputs[k], row, column, height, width);
  }

  __attribute__((noinline, flatten)) void compute(int64_t row, int64_t column, int place, int width,
                                                  Tile& tile) const {
    A cosines[kColumns], gaps[kColumns];
    if (p.singles) stage(p.singles, row, column, width, cosines, gaps);
    else stage(p.cosines, row, column, width, cosines, gaps);
    if (const int64_t j = p.first + row - column; p.symmetric && j >= 0 && j < width) {
      cosines[j] = 1;
      gaps[j] = 0;
    }
    std::fill(cosines + width, cosines + kColumns, A(1));
    std::fill(gaps + width, gaps + kColumns, A(0));
    const A* const mine = rows_.get() + row * p.entries;
    const A* const theirs = columns_.get() + column * p.entries;
    for (int j = 0; j < width; j += V::lanes) {
      const auto entry = formula_(
          Correlation<V>{load_lanes(cosines + j), load_lanes(gaps + j)},
          [=](int k) { return V(mine[k]); },
          [=](int k) { return load_lanes(theirs + k * kColumns + j); });
      put(tile.at[0][place] + j, entry.nngp);
      put(tile.at[1][place] + j, entry.tangent);
      if (p.gap) put(tile.at[2][place] + j, entry.gap);
    }
  }

  template <class From>
  void stage(const From* from, int64_t row, int64_t column, int width, A* cosines, A* gaps) const {
    using Wide = std::common_type_t<From, A>;
    from += row * p.cosine_strides[0] + column * p.cosine_strides[1];
    if (width == kColumns && p.cosine_strides[1] == 1 && !p.gaps) {  // the compiler's vectors
      for (int j = 0; j < kColumns; ++j) {
        const auto gap = Wide(1) - std::abs(Wide(from[j]));
        cosines[j] = A(from[j]);
        gaps[j] = A(gap < 0 ? 0 : gap);
      }
      return;
    }
    for (int j = 0; j < width; ++j) {
      const double cosine = from[j * p.cosine_strides[1]];
      cosines[j] = A(cosine);
      gaps[j] = A(p.gap_at(row, column + j, cosine));
    }
  }

  static void put(S* to, V x) {
    if constexpr (std::is_same_v<S, A>) {
      store_lanes(to, x);
    } else {
      for (int l = 0; l < V::lanes; ++l) to[l] = S(x.v[l]);
    }
  }

  // Row by row and, where symmetric, column by column.
  void write(const S (&tile)[kRows][kColumns], S* to, int64_t row, int64_t column, int height,
             int width) const {
    const int64_t place = p.first + row;  // of the tile's first row in the kernel
    for (int i = 0; i < height; ++i) {
      const int64_t kept =
          p.symmetric ? std::min<int64_t>(width, place + i - column + 1) : int64_t(width);
      if (kept > 0) put_run<kColumns>(tile[i], kept, to + (place + i) * p.width + column);
    }
    if (!p.symmetric) return;
    for (int j = 0; j < width; ++j) {
      const int start = int(std::max<int64_t>(0, column + j - place));
      S run[kRows];
      for (int i = 0; i < kRows; ++i) run[i] = tile[i][j];
      put_run<kRows>(run + start, height - start, to + (column + j) * p.width + place + start);
    }
  }

  // Past the cache, where the kernel is larger than it and the run is whole and aligned.
  template <int whole>
  void put_run(const S* from, int64_t count, S* to) const {
    if (count == whole && stream_ && reinterpret_cast<uintptr_t>(to) % DL_VECTOR_BYTES == 0) {
      for (int l = 0; l < whole; l += Vec<S>::lanes) stream_lanes(to + l, load_lanes(from + l));
    } else {
      std::copy_n(from, count, to);
    }
  }

  const Problem& p;
  Formula formula_;
  int64_t strips_, blocks_;
  std::unique_ptr<A[]> rows_, columns_;  // tables as the loops read them
  bool stream_;
};

void rectified(Lane lane, const View& nngp, const View& tangent, const View& gap,
               const View& cosine, const Maybe& gaps, const View& rows, const View& columns,
               int64_t layers, double contrast, int64_t biased, int64_t first, int64_t symmetric) {
  visit_rectified(nngp, tangent, gap, cosine, gaps, rows, columns, layers, contrast, biased, first,
                  symmetric, [&](const Problem& p, const Rectified& formula) {
                    if (p.count == 0 || p.used == 0) return;
                    if (p.dtype == DType::f32)
                      Tiles<float, float, Rectified>(p, formula).run(lane.threads);
                    else Tiles<double, double, Rectified>(p, formula).run(lane.threads);
                  });
}

void erf(Lane lane, const View& nngp, const View& tangent, const View& gap, const View& cosine,
         const Maybe& gaps, const View& rows, const View& columns, int64_t layers, double weight2,
         double bias2, double last_weight2, double last_bias2, int64_t first, int64_t symmetric) {
  visit_erf(nngp, tangent, gap, cosine, gaps, rows, columns, layers, weight2, bias2, last_weight2,
            last_bias2, first, symmetric, [&](const Problem& p, const Erf& formula) {
              if (p.count == 0 || p.used == 0) return;
              if (p.dtype == DType::f32) Tiles<float, double, Erf>(p, formula).run(lane.threads);
              else Tiles<double, double, Erf>(p, formula).run(lane.threads);
            });
}

DLACCEL_REGISTER(ntk_rectified, rectified);
DLACCEL_REGISTER(ntk_erf, erf);

}  // namespace
}  // namespace dlaccel::ntk_recursion
