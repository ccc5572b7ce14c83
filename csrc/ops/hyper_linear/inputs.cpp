// dx and dz from one product: V = dy W, of which some rows d = (i, k) of V^T at a time are made in
// registers and meet z on their way into dx and x on their way into dz.
#include "../../core/registry.h"
#include "arguments.h"
#include "hyper_linear.h"

namespace dlaccel::hyper_linear {
namespace {

constexpr int64_t kRows = 48;  // of V^T that are made with one packed part of W

template <class T>
class Inputs {
  using Block = RegisterBlock<T>;
  static constexpr int64_t kColumns = Block::columns;
  static constexpr int kLanes = Vec<T>::lanes;
  static_assert(kRows % Block::rows == 0 && kRows % kLanes == 0);

 public:
  Inputs(const Sizes& n, const View& dx, const View& dz, const View& dy, const View& x,
         const View& z, const View& weight)
      : n_(n),
        dy_(dy, 1),
        x_(x, 1),
        z_(z, n.each),
        weight_(reinterpret_cast<const T*>(weight.data)),
        dx_(reinterpret_cast<T*>(dx.data)),
        dz_(reinterpret_cast<T*>(dz.data)) {}

  void run(int threads) const {
    const int64_t panels = divide_up(n_.rows(), kColumns);
    threads = int(
        std::min<int64_t>(threads_for(n_.rows() * n_.outputs * n_.depth() / 64, threads), panels));
    const int64_t each = kColumns * (n_.outputs + 2 * n_.inputs + 2 * n_.width);
    const Scratch<T> operands(panels * each), packed(threads * kRows * padded());
    parallel(threads, threads, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker)
        pass(panels * worker / threads, panels * (worker + 1) / threads, operands.get(), each,
             packed.get() + worker * kRows * padded());
    });
  }

 private:
  // One panel of rows, features side by side for its lanes.
  struct Panel {
    T *dy, *x, *z, *dx, *dz;
  };

  int64_t padded() const { return divide_up(n_.outputs, kLanes) * kLanes; }

  Panel panel(T* at) const {
    T* const x = at + n_.outputs * kColumns;
    T* const z = x + n_.inputs * kColumns;
    T* const dx = z + n_.width * kColumns;
    return {at, x, z, dx, dx + n_.inputs * kColumns};
  }

  void pass(int64_t first, int64_t last, T* operands, int64_t each, T* packed) const {
    for (int64_t p = first; p < last; ++p) {
      const Panel to = panel(operands + p * each);
      dy_.transpose_into(p * kColumns, kColumns, to.dy, kColumns);
      x_.transpose_into(p * kColumns, kColumns, to.x, kColumns);
      z_.transpose_into(p * kColumns, kColumns, to.z, kColumns);
      std::fill_n(to.dx, (n_.inputs + n_.width) * kColumns, T(0));
    }
    for (int64_t d = 0; d < n_.depth(); d += kRows) {
      const int64_t rows = std::min(kRows, n_.depth() - d);
      for (int64_t o = 0; o < n_.outputs; o += kLanes)
        pack_lanes_of_rows(weight_ + o * n_.depth() + d, n_.depth(), int64_t(1),
                           std::min<int64_t>(kLanes, n_.outputs - o), rows, packed + o, padded());
      for (int64_t p = first; p < last; ++p)
        for (int64_t r = 0; r < rows; r += Block::rows)
          add(packed + r * padded(), d + r, int(std::min<int64_t>(Block::rows, rows - r)),
              panel(operands + p * each));
    }
    for (int64_t p = first; p < last; ++p) {
      const Panel from = panel(operands + p * each);
      const int64_t row = p * kColumns, rows = std::min(kColumns, n_.rows() - row);
      store_transposed(from.dx, kColumns, n_.inputs, rows, dx_ + row * n_.inputs, n_.inputs);
      store_transposed(from.dz, kColumns, n_.width, rows, dz_ + row * n_.width, n_.width);
    }
  }

  // Rows d .. d + rows - 1 of V^T, and what they add to dx and dz.
  void add(const T* packed, int64_t d, int rows, const Panel& at) const {
    using V = Vec<T>;
    alignas(64) T v[Block::rows * kColumns];
    multiply_rows<T>(rows, packed, padded(), at.dy, n_.outputs, v, kColumns, false);
    int64_t i = d / n_.width, k = d % n_.width;
    for (int r = 0; r < rows;) {
      const int stop = int(std::min<int64_t>(rows, r + n_.width - k));  // of this i
      for (int lane = 0; lane < kColumns; lane += kLanes) {
        const V x = load_lanes<T>(at.x + i * kColumns + lane);
        T* const dx = at.dx + i * kColumns + lane;
        V sum = load_lanes<T>(dx);
        for (int q = r; q < stop; ++q) {
          const V value = load_lanes<T>(v + q * kColumns + lane);
          const int64_t place = (k + q - r) * kColumns + lane;
          sum = sum + value * load_lanes<T>(at.z + place);
          store_lanes<T>(at.dz + place, load_lanes<T>(at.dz + place) + value * x);
        }
        store_lanes<T>(dx, sum);
      }
      r = stop, k = 0, ++i;
    }
  }

  Sizes n_;
  Rows<T> dy_, x_, z_;
  const T* weight_;
  T *dx_, *dz_;
};

// dz comes row by row, (B, N, K): its caller adds up the rows of a code.
void hyper_linear_inputs(Lane lane, const View& dx, const View& dz, const View& dy, const View& x,
                         const View& z, const View& weight) {
  require(weight.ndim == 3, "hyper_linear: weight must be (O, I, K).");
  const Sizes n = sizes_of(x, z, weight.shape[0]);
  require_shape(weight, {n.outputs, n.inputs, n.width});
  require_shape(dy, {n.codes, n.each, n.outputs});
  require_shape(dx, {n.codes, n.each, n.inputs});
  require_shape(dz, {n.codes, n.each, n.width});
  for (const View* v : {&weight, &dx, &dz}) require_contiguous(*v);
  visit({&dx, &dz, &dy, &x, &z, &weight}, [&]<class T>() {
    if (n.rows() == 0) return;
    Inputs<T>(n, dx, dz, dy, x, z, weight).run(lane.threads);
  });
}

DLACCEL_REGISTER(hyper_linear_inputs, hyper_linear_inputs);

}  // namespace
}  // namespace dlaccel::hyper_linear
