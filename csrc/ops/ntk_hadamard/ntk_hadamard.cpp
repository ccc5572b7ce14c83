// CPU: rows are packed once into panels that serve as either side of a tile. A task is a tile of
// the left Gram matrices of every layer and the tiles of out that its samples reach; the sum over
// the layers stays in the nearest cache, and out is read and written once. The order of every sum
// follows from the layers' widths alone, so that neither threads nor a cut of the samples show.
#include "ntk_hadamard.h"

#include <atomic>
#include <vector>

#include "../../core/pack.h"
#include "../../core/parallel.h"
#include "../../core/rank_k.h"
#include "../../core/registry.h"
#include "../../core/triangle.h"

namespace dlaccel::ntk_hadamard {
namespace {

constexpr int64_t kDepth = 256;  // of one run of sums: longer ones would round more

struct Layer {
  int64_t a, a_width, g, g_width;  // first columns and widths
  double bias, scale;
};

std::vector<Layer> layers_of(const Arguments& p) {
  const auto at = [](const View& view, int64_t place) {
    return view.data + place * size_of(view.dtype);
  };
  const auto width = [&](int64_t layer, int64_t side) {
    const View& w = p.widths;
    return *reinterpret_cast<const int64_t*>(at(w, layer * w.strides[0] + side * w.strides[1]));
  };
  const auto number = [&](const View& view, int64_t layer) {
    return *reinterpret_cast<const double*>(at(view, layer * view.strides[0]));
  };
  std::vector<Layer> layers;
  int64_t a = 0, g = 0;
  const int64_t a_end = p.a1.shape[2], g_end = p.g1 ? p.g1->shape[2] : 0;
  for (int64_t l = 0; l < p.layers; ++l) {
    const Layer layer{a, width(l, 0), g, width(l, 1), number(p.bias, l), number(p.scale, l)};
    require(layer.a_width >= 0 && layer.a_width <= a_end - a && layer.g_width >= 0 &&
                layer.g_width <= g_end - g,
            "ntk_hadamard: widths must be those of the layers that a1 and g1 hold.");
    a += layer.a_width;
    g += layer.g_width;
    layers.push_back(layer);
  }
  require(a == a_end && g == g_end, "ntk_hadamard: widths must add up to those of a1 and g1.");
  return layers;
}

// Whether all networks have the same rows, in one place.
bool is_shared(const View& rows) { return rows.shape[0] == 1 || rows.strides[0] == 0; }

// The rows of every network as panels; those that networks share, once.
template <class T>
class Side {
 public:
  Side() = default;
  Side(const View& rows, int threads)
      : networks_(is_shared(rows) ? 1 : rows.shape[0]),
        count_(panels_of<T>(rows.shape[1])),
        panels_(new Panels<T>(networks_ * count_ * kPanel<T>, rows.shape[2])) {
    visit_floating(rows.dtype, [&]<class S>() {
      if constexpr (std::is_same_v<Compute<S>, T>) pack<S>(rows, threads);
    });
  }
  int64_t panels() const { return count_; }
  const Strip<T>* at(int64_t network, int64_t panel, int64_t column) const {
    return (*panels_)[(networks_ > 1 ? network * count_ : 0) + panel] + column;
  }

 private:
  template <class S>
  void pack(const View& rows, int threads) {
    const int64_t depth = rows.shape[2];
    parallel(networks_ * count_, threads_for(rows.numel(), threads),
             [&](int64_t begin, int64_t end) {
               for (int64_t task = begin; task < end; ++task) {
                 const int64_t first = task % count_ * kPanel<T>;
                 const S* from = reinterpret_cast<const S*>(rows.data) +
                                 task / count_ * rows.strides[0] + first * rows.strides[1];
                 pack_panel(from, rows.strides[1], rows.strides[2], rows.shape[1] - first, depth,
                            kVectors, (*panels_)[task]->at);
               }
             });
  }

  int64_t networks_ = 0, count_ = 0;
  std::unique_ptr<Panels<T>> panels_;
};

// tile = right left^T over `depth` columns, in rows begin .. end-1 of the tile and their groups.
template <class T>
void multiply(Tile<T>& tile, const Strip<T>* left, const Strip<T>* right, int64_t depth,
              int begin = 0, int end = kPanel<T>) {
  begin = begin / kColumns * kColumns;
  end = (end + kColumns - 1) / kColumns * kColumns;
  std::fill(tile.row + begin, tile.row + end, Strip<T>{});
  for (int64_t k = 0; k < depth; k += kDepth)
    add_product(tile, left + k, right + k, std::min(kDepth, depth - k), begin, end);
}

// A part of a matrix as large as a tile; at its edges, less.
template <class T>
struct Block {
  T* at;
  int64_t stride;
  int rows, columns;
};

// Where tile (row, column) of panels lies in a network's matrix.
template <class T>
Block<T> block_of(const View& view, int64_t network, int64_t row, int64_t column) {
  const int64_t i = row * kPanel<T>, j = column * kPanel<T>;
  return {reinterpret_cast<T*>(view.data) + network * view.strides[0] + i * view.strides[1] +
              j * view.strides[2],
          view.strides[1], int(std::min<int64_t>(kPanel<T>, view.shape[1] - i)),
          int(std::min<int64_t>(kPanel<T>, view.shape[2] - j))};
}

template <class T>
void read(const Block<T>& block, int64_t column_stride, Tile<T>& tile) {
  for (int b = 0; b < block.rows; ++b) {
    const T* from = block.at + b * block.stride;
    if (column_stride == 1) std::copy_n(from, block.columns, tile.row[b].at);
    else
      for (int a = 0; a < block.columns; ++a) tile.row[b].at[a] = from[a * column_stride];
  }
}

// block += tile; what then stands there is left in the tile.
template <class T>
void add_to(const Block<T>& block, Tile<T>& tile) {
  constexpr int lanes = Vec<T>::lanes;
  for (int b = 0; b < block.rows; ++b) {
    T *sums = tile.row[b].at, *to = block.at + b * block.stride;
    int a = 0;
    for (; a + lanes <= block.columns; a += lanes) {
      const Vec<T> sum = load_lanes(to + a) + load_lanes(sums + a);
      store_lanes(sums + a, sum);
      store_lanes(to + a, sum);
    }
    for (; a < block.columns; ++a) to[a] = sums[a] += to[a];
  }
}

// The tile's mirror image becomes the block.
template <class T>
void mirror(const Block<T>& block, const Tile<T>& tile) {
  constexpr int lanes = Vec<T>::lanes;
  for (int b = 0; b < block.columns; b += lanes)
    for (int a = 0; a < block.rows; a += lanes) {
      T* to = block.at + a * block.stride + b;
      const int columns = std::min(lanes, block.columns - b);
      const int rows = std::min(lanes, block.rows - a);
      if (rows < lanes || columns < lanes) {
        for (int i = 0; i < rows; ++i)
          for (int j = 0; j < columns; ++j) to[i * block.stride + j] = tile.row[b + j].at[a + i];
        continue;
      }
      Vec<T> square[lanes];
      for (int i = 0; i < lanes; ++i) square[i] = load_lanes(tile.row[b + i].at + a);
      transpose(square);
      for (int i = 0; i < lanes; ++i) store_lanes(to + i * block.stride, square[i]);
    }
}

// A tile on the diagonal: what lies below it stands above it too.
template <class T>
void mirror_diagonal(const Block<T>& block, const Tile<T>& tile) {
  for (int b = 0; b < block.rows; ++b)
    for (int a = 0; a < b; ++a) block.at[a * block.stride + b] = tile.row[b].at[a];
}

// The place of a row in a tile of G, counted from the first row of the samples' panel, as the place
// of its sample and its output.
struct SamplePlace {
  int64_t sample, output;

  SamplePlace(int64_t row, int64_t outputs) : sample(row / outputs), output(row % outputs) {}
  void next(int64_t outputs) {
    if (++output == outputs) ++sample, output = 0;
  }
};

template <class T>
class Kernel {
 public:
  Kernel(const Arguments& p, int threads)
      : p_(p),
        layers_(layers_of(p)),
        a1_(p.a1, threads),
        symmetric_(p.symmetric()),
        shared_(is_shared(p.a1) && (!p.a2 || is_shared(*p.a2))) {
    if (p.g1) g1_ = Side<T>(*p.g1, threads);
    if (p.a2) a2_ = Side<T>(*p.a2, threads);
    if (p.g2) g2_ = Side<T>(*p.g2, threads);
  }

  // A panel of samples has as many panels of outputs as each sample has outputs, the last one less.
  // Networks that share their left Gram matrices are one task's.
  int64_t tasks() const { return tiles() * p_.outputs * (shared_ ? 1 : p_.networks); }

  struct Scratch {
    Tile<T> sum, product;
    std::vector<Tile<T>> grams;  // A A'^T of each layer
  };

  Scratch scratch() const { return {{}, {}, std::vector<Tile<T>>(layers_.size())}; }

  void run(int64_t task, Scratch& scratch) const {
    const int64_t outputs = p_.outputs, number = task / outputs % tiles();
    const TilePlace samples =
        symmetric_ ? tile_place(number) : TilePlace{number / a2_.panels(), number % a2_.panels()};
    const int64_t row = samples.row * outputs + task % outputs;  // panel of out's rows
    if (row * kPanel<T> >= p_.rows()) return;
    const int64_t first = task / outputs / tiles();
    multiply_left(first, samples, task % outputs * kPanel<T>, scratch);
    for (int64_t network = first; network < (shared_ ? p_.networks : first + 1); ++network)
      add_tiles(network, row, samples.column, scratch);
  }

 private:
  int64_t tiles() const {  // of samples
    return symmetric_ ? tiles_of(a1_.panels()) : a1_.panels() * a2_.panels();
  }

  // The left Gram matrices of a tile of samples, as far as the panel of outputs from `output` on
  // needs them.
  void multiply_left(int64_t network, TilePlace samples, int64_t output, Scratch& scratch) const {
    const int begin = int(output / p_.outputs);
    const int end = int((output + kPanel<T> - 1) / p_.outputs) + 1;
    for (size_t l = 0; l < layers_.size(); ++l)
      multiply(scratch.grams[l], columns_a().at(network, samples.column, layers_[l].a),
               a1_.at(network, samples.row, layers_[l].a), layers_[l].a_width, begin, end);
  }

  // Adds to the tiles of one panel of out's rows with the outputs of one panel of samples.
  void add_tiles(int64_t network, int64_t row, int64_t samples, Scratch& scratch) const {
    const int64_t end = std::min(
        {(samples + 1) * p_.outputs, panels_of<T>(p_.columns()), symmetric_ ? row + 1 : INT64_MAX});
    for (int64_t column = samples * p_.outputs; column < end; ++column) {
      fill(network, row, column, scratch);
      const Block<T> block = block_of<T>(p_.out, network, row, column);
      add_to(block, scratch.sum);
      if (symmetric_ && row == column) mirror_diagonal(block, scratch.sum);
      else if (symmetric_) mirror(block_of<T>(p_.out, network, column, row), scratch.sum);
    }
  }

  const Side<T>& columns_a() const { return symmetric_ ? a1_ : a2_; }
  const Side<T>& columns_g() const { return symmetric_ ? g1_ : g2_; }

  // The sum over the layers of one tile.
  void fill(int64_t network, int64_t row, int64_t column, Scratch& scratch) const {
    scratch.sum = {};
    if (p_.gram)
      read(block_of<T>(*p_.gram, network, row, column), p_.gram->strides[2], scratch.product);
    for (size_t l = 0; l < layers_.size(); ++l) {
      const Layer& layer = layers_[l];
      if (!p_.gram)
        multiply(scratch.product, columns_g().at(network, column, layer.g),
                 g1_.at(network, row, layer.g), layer.g_width);
      add_entries(scratch, scratch.grams[l], layer, row % p_.outputs * kPanel<T>,
                  column % p_.outputs * kPanel<T>);
    }
  }

  void add_entries(Scratch& scratch, const Tile<T>& gram, const Layer& layer, int64_t row,
                   int64_t column) const {
    using V = Vec<T>;
    const V bias(T(layer.bias)), scale(T(layer.scale));
    Strip<T> spread;  // a sample's row of the Gram matrix, each entry for all of its outputs
    SamplePlace place(row, p_.outputs);
    int64_t known = -1;
    for (int b = 0; b < kPanel<T>; ++b, place.next(p_.outputs)) {
      const T* left = gram.row[place.sample].at;
      if (p_.outputs > 1) {
        if (known != place.sample) spread_row(left, column, spread);
        known = place.sample;
        left = spread.at;
      }
      T* sums = scratch.sum.row[b].at;
      for (int a = 0; a < kPanel<T>; a += V::lanes)
        store_lanes(sums + a, load_lanes(sums + a) +
                                  entry(load_lanes(left + a),
                                        load_lanes(scratch.product.row[b].at + a), bias, scale));
    }
  }

  void spread_row(const T* row, int64_t column, Strip<T>& spread) const {
    SamplePlace place(column, p_.outputs);
    for (int a = 0; a < kPanel<T>; ++a, place.next(p_.outputs)) spread.at[a] = row[place.sample];
  }

  const Arguments& p_;
  const std::vector<Layer> layers_;
  Side<T> a1_, g1_, a2_, g2_;
  const bool symmetric_, shared_;
};

template <class T>
void run(const Arguments& p, int threads) {
  const int64_t width = p.a1.shape[2] + (p.g1 ? p.g1->shape[2] : 0) + 1;
  threads = threads_for(p.out.numel() * width / 64, threads);
  const Kernel<T> kernel(p, threads);
  const int64_t tasks = kernel.tasks();
  std::vector<typename Kernel<T>::Scratch> scratch(size_t(threads), kernel.scratch());
  std::atomic<int64_t> next{0};  // tasks differ in length, and so may the speed of processors
  parallel(threads, threads, [&](int64_t thread, int64_t) {
    for (int64_t task; (task = next++) < tasks;) kernel.run(task, scratch[size_t(thread)]);
  });
}

void ntk_hadamard(Lane lane, const View& out, const View& a1, const Maybe& g1, const Maybe& a2,
                  const Maybe& g2, const View& widths, const View& bias, const View& scale,
                  const Maybe& gram) {
  const Arguments p = checked(out, a1, g1, a2, g2, widths, bias, scale, gram);
  if (p.empty()) return void(layers_of(p));
  if (p.out.dtype == DType::f64) run<double>(p, lane.threads);
  else run<float>(p, lane.threads);
}

DLACCEL_REGISTER(ntk_hadamard, ntk_hadamard);

}  // namespace
}  // namespace dlaccel::ntk_hadamard
