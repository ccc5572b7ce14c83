// dW^T = (x outer z)^T dy: some rows d = (i, k) of the outer products at a time are formed along t,
// in the cache, and multiplied with panels of dy, whose outputs lie side by side.
#include "../../core/registry.h"
#include "arguments.h"
#include "hyper_linear.h"

namespace dlaccel::hyper_linear {
namespace {

constexpr int64_t kRows = 48;    // pairs (i, k) formed together
constexpr int64_t kDepth = 256;  // rows t: 48 kB of them in float32

template <class T>
class Weight {
  using Block = RegisterBlock<T>;
  static constexpr int64_t kColumns = Block::columns;
  static constexpr int kLanes = Vec<T>::lanes;

 public:
  Weight(const Sizes& n, const View& dw, const View& dy, const View& x, const View& z)
      : n_(n),
        dy_(dy, 1),
        x_(x, 1),
        z_(z, n.each),
        dw_(reinterpret_cast<T*>(dw.data)),
        length_(divide_up(n.rows(), kLanes) * kLanes),
        panels_(divide_up(n.outputs, kColumns)) {}

  void run(int threads) const {
    threads = threads_for(n_.rows() * n_.outputs * n_.depth() / 64, threads);
    const int64_t blocks = divide_up(n_.depth(), kRows);
    const Scratch<T> x(n_.inputs * length_), z(n_.width * length_),
        dy(panels_ * length_ * kColumns);
    const int64_t each = kRows * (kDepth + panels_ * kColumns);
    const Scratch<T> scratch(threads * each);
    parallel(length_ / kLanes, threads, [&](int64_t first, int64_t last) {
      for (int64_t t = first * kLanes; t < last * kLanes; t += kLanes) {
        x_.transpose_into(t, kLanes, x.get() + t, length_);
        z_.transpose_into(t, kLanes, z.get() + t, length_);
        for (int64_t row = t; row < t + kLanes; ++row) pack_row(row, dy.get());
      }
    });
    parallel(threads, threads, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker)
        for (int64_t block = blocks * worker / threads; block < blocks * (worker + 1) / threads;
             ++block)
          add_block(block * kRows, x.get(), z.get(), dy.get(), scratch.get() + worker * each);
    });
  }

 private:
  // Row t of dy into its place in every panel, with zeros past its end and past the last row.
  void pack_row(int64_t t, T* panels) const {
    const T* const from = t < n_.rows() ? dy_.row(t) : nullptr;
    for (int64_t o = 0; o < panels_ * kColumns; ++o)
      panels[(o / kColumns * length_ + t) * kColumns + o % kColumns] =
          from && o < n_.outputs ? from[o * dy_.column] : T(0);
  }

  void add_block(int64_t d, const T* x, const T* z, const T* dy, T* formed) const {
    const int64_t rows = std::min(kRows, n_.depth() - d);
    T* const sums = formed + kRows * kDepth;
    for (int64_t t = 0; t < length_; t += kDepth) {
      const int64_t depth = std::min(kDepth, length_ - t);
      form(x + t, length_, z + t, length_, n_.width, d, d + rows, depth, formed, kDepth);
      for (int64_t p = 0; p < panels_; ++p)
        for (int64_t r = 0; r < rows; r += Block::rows)
          multiply_rows<T>(int(std::min<int64_t>(Block::rows, rows - r)), formed + r * kDepth,
                           kDepth, dy + (p * length_ + t) * kColumns, depth,
                           sums + (p * kRows + r) * kColumns, kColumns, t > 0);
    }
    for (int64_t p = 0; p < panels_; ++p) {
      const int64_t o = p * kColumns;
      store_transposed(sums + p * kRows * kColumns, kColumns, rows,
                       std::min(kColumns, n_.outputs - o), dw_ + o * n_.depth() + d, n_.depth());
    }
  }

  Sizes n_;
  Rows<T> dy_, x_, z_;
  T* dw_;
  int64_t length_, panels_;  // rows t, filled up with zeros; panels of outputs
};

void hyper_linear_weight(Lane lane, const View& dw, const View& dy, const View& x, const View& z) {
  require(dy.ndim == 3, "hyper_linear: dy must be (B, N, O).");
  const Sizes n = sizes_of(x, z, dy.shape[2]);
  require_shape(dy, {n.codes, n.each, n.outputs});
  require_shape(dw, {n.outputs, n.inputs, n.width});
  require_contiguous(dw);
  visit({&dw, &dy, &x, &z}, [&]<class T>() {
    if (n.rows() == 0) {
      std::fill_n(reinterpret_cast<T*>(dw.data), dw.numel(), T(0));
    } else if (dw.numel() > 0) {
      Weight<T>(n, dw, dy, x, z).run(lane.threads);
    }
  });
}

DLACCEL_REGISTER(hyper_linear_weight, hyper_linear_weight);

}  // namespace
}  // namespace dlaccel::hyper_linear
