// y = (x outer z) W^T: W is read where it lies, by rows o; the outer products of 32 rows of x (16
// in float64) and some hundred pairs (i, k) are a panel, formed in the cache nearest to the core.
#include "../../core/registry.h"
#include "arguments.h"
#include "hyper_linear.h"

namespace dlaccel::hyper_linear {
namespace {

constexpr int64_t kDepth = 256;    // pairs (i, k) of a panel: 32 kB with AVX-512
constexpr int64_t kGroup = 8;      // panels that follow each other with the same part of W
constexpr int64_t kOutputs = 384;  // rows of that part: 384 kB in float32

template <class T>
class Forward {
  using Block = RegisterBlock<T>;
  static constexpr int64_t kColumns = Block::columns;

 public:
  Forward(const Sizes& n, const View& y, const View& x, const View& z, const View& weight)
      : n_(n),
        x_(x, 1),
        z_(z, n.each),
        weight_(reinterpret_cast<const T*>(weight.data)),
        y_(reinterpret_cast<T*>(y.data)) {}

  void run(int threads) const {
    const int64_t panels = divide_up(n_.rows(), kColumns);
    threads = threads_for(n_.rows() * n_.outputs * n_.depth() / 64, threads);
    const int64_t group = std::min(kGroup, divide_up(panels, threads));
    const int64_t groups = divide_up(panels, group);
    // Where rows are few, threads share out the outputs.
    const int64_t cuts = std::clamp<int64_t>(threads / groups, 1, n_.outputs);
    const int64_t step = divide_up(n_.outputs, cuts);
    const int64_t chunks = std::max(cuts, divide_up(n_.outputs, kOutputs));
    std::vector<Scratch<T>> scratch;
    for (int t = 0; t < threads; ++t)
      scratch.emplace_back(kColumns *
                           (group * (n_.inputs + n_.width + std::min(step, kOutputs)) + kDepth));
    parallel(threads, threads, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker)
        for (int64_t task = groups * cuts * worker / threads,
                     end = groups * cuts * (worker + 1) / threads;
             task < end; ++task) {
          const int64_t from = task / cuts * group, cut = task % cuts;
          pass(scratch[size_t(worker)].get(), from, std::min(group, panels - from),
               chunks * cut / cuts, chunks * (cut + 1) / cuts, chunks);
        }
    });
  }

 private:
  // The group's rows, and of the outputs, cut into `chunks`, those of [first, last).
  void pass(T* memory, int64_t panel, int64_t panels, int64_t first, int64_t last,
            int64_t chunks) const {
    T* const x = memory;
    T* const z = x + panels * n_.inputs * kColumns;
    T* const formed = z + panels * n_.width * kColumns;
    T* const sums = formed + kDepth * kColumns;
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t row = (panel + p) * kColumns;
      x_.transpose_into(row, kColumns, x + p * n_.inputs * kColumns, kColumns);
      z_.transpose_into(row, kColumns, z + p * n_.width * kColumns, kColumns);
    }
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = n_.outputs * chunk / chunks;
      const int64_t outputs = n_.outputs * (chunk + 1) / chunks - begin;
      for (int64_t d = 0; d < n_.depth(); d += kDepth) {
        const int64_t end = std::min(d + kDepth, n_.depth());
        for (int64_t p = 0; p < panels; ++p) {
          form(x + p * n_.inputs * kColumns, kColumns, z + p * n_.width * kColumns, kColumns,
               n_.width, d, end, kColumns, formed, kColumns);
          add_product(begin, outputs, d, end - d, formed, sums + p * outputs * kColumns);
        }
      }
      for (int64_t p = 0; p < panels; ++p) {
        const int64_t row = (panel + p) * kColumns;
        store_transposed(sums + p * outputs * kColumns, kColumns, outputs,
                         std::min(kColumns, n_.rows() - row), y_ + row * n_.outputs + begin,
                         n_.outputs);
      }
    }
  }

  void add_product(int64_t begin, int64_t outputs, int64_t d, int64_t depth, const T* formed,
                   T* sums) const {
    for (int64_t o = 0; o < outputs; o += Block::rows)
      multiply_rows<T>(int(std::min<int64_t>(Block::rows, outputs - o)),
                       weight_ + (begin + o) * n_.depth() + d, n_.depth(), formed, depth,
                       sums + o * kColumns, kColumns, d > 0);
  }

  Sizes n_;
  Rows<T> x_, z_;
  const T* weight_;
  T* y_;
};

void hyper_linear(Lane lane, const View& y, const View& x, const View& z, const View& weight) {
  require(weight.ndim == 3, "hyper_linear: weight must be (O, I, K).");
  const Sizes n = sizes_of(x, z, weight.shape[0]);
  require_shape(weight, {n.outputs, n.inputs, n.width});
  require_shape(y, {n.codes, n.each, n.outputs});
  require_contiguous(weight);
  require_contiguous(y);
  visit({&y, &x, &z, &weight}, [&]<class T>() {
    if (n.depth() > 0)
      return n.rows() * n.outputs > 0 ? Forward<T>(n, y, x, z, weight).run(lane.threads) : void();
    std::fill_n(reinterpret_cast<T*>(y.data), y.numel(), T(0));
  });
}

DLACCEL_REGISTER(hyper_linear, hyper_linear);

}  // namespace
}  // namespace dlaccel::hyper_linear
