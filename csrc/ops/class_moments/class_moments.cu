// CUDA pass of the class moments, in seven launches, none of which waits for the host: a counting
// sort of the rows by class, then sums over fixed pieces of the sorted rows. Rows of a chunk keep
// their order, atomics count whole numbers only: the bits repeat.
#include <climits>

#include "../../core/dispatch.h"
#include "../../core/reduce.cuh"
#include "arguments.h"
#include "class_moments.h"

namespace dlaccel::class_moments {
namespace {

constexpr int kThreads = 128;  // and columns of a tile
constexpr int kWarps = kThreads / kWarp;
constexpr int kAhead = 4;  // rows on their way at a time

// The caller's room to work in; its shapes say how the work is cut.
struct Scratch {
  int32_t* places;  // [chunks, C + 1]: rows of a class before the chunk's; last, its first fault
  int32_t* starts;  // [C + 1]: where a class begins in `order`, and the end
  int32_t* order;   // [N]: rows by class
  double* edges;    // [pieces, 2, D]: sums of a piece's first and last run, if they go on outside
  double* runs;     // [C + pieces, tiles + 1]: squares of a run by tile, and its weight
  int64_t chunks, pieces, tiles;
};

// Labels and weights of any of their types.
struct Marks {
  const char *labels, *weights;
  int64_t label_stride, weight_stride;
  bool wide;
  DType weight_type;

  __device__ int64_t label(int64_t row) const {
    const int64_t at = row * label_stride;
    return wide ? reinterpret_cast<const int64_t*>(labels)[at]
                : reinterpret_cast<const int32_t*>(labels)[at];
  }
  __device__ double weight(int64_t row) const {
    if (!weights) return 1;
    const int64_t at = row * weight_stride;
    switch (weight_type) {
      case DType::f64: return reinterpret_cast<const double*>(weights)[at];
      case DType::f32: return reinterpret_cast<const float*>(weights)[at];
      case DType::f16: return load(reinterpret_cast<const f16*>(weights)[at]);
      default: return load(reinterpret_cast<const bf16*>(weights)[at]);
    }
  }
  // The class of a row, or -1 where the row does not count.
  __device__ int64_t class_of(int64_t row) const { return weight(row) > 0 ? label(row) : -1; }
};

__device__ inline bool is_finite(double x) { return x - x == 0; }

// The least of what the threads bring, for thread 0.
__device__ inline int32_t block_min(int32_t value) {
  auto& shared = shared_memory<int32_t[kThreads]>();
  shared[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int i = 1; i < kThreads; ++i) value = shared[i] < value ? shared[i] : value;
  __syncthreads();
  return value;
}

// A block for each chunk of rows: how many rows of each class, and the first that is refused.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const __grid_constant__ Problem p, const __grid_constant__ Marks marks,
                 const __grid_constant__ Scratch scratch) {
  int32_t* places = scratch.places + int64_t(blockIdx.x) * (p.classes + 1);
  for (int64_t c = threadIdx.x; c < p.classes; c += kThreads) places[c] = 0;
  __syncthreads();
  const int64_t end = p.rows * (blockIdx.x + 1) / scratch.chunks;
  int32_t refused = INT_MAX;
  for (int64_t row = p.rows * blockIdx.x / scratch.chunks + threadIdx.x; row < end;
       row += kThreads) {
    const int64_t label = marks.label(row);
    const double weight = marks.weight(row);
    if (label < -1 || label >= p.classes || !(weight >= 0) || !is_finite(weight)) {
      refused = refused < row ? refused : int32_t(row);
    } else if (label >= 0 && weight > 0) {
      atomicAdd(&places[label], 1);
    }
  }
  refused = block_min(refused);
  if (threadIdx.x == 0) places[p.classes] = refused;
}

// A thread for each class: its rows before each chunk, and in all.
__global__ void __launch_bounds__(kThreads)
    place_kernel(const __grid_constant__ Problem p, const __grid_constant__ Scratch scratch) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= p.classes) return;
  int32_t total = 0;
  for (int64_t chunk = 0; chunk < scratch.chunks; ++chunk) {
    int32_t& place = scratch.places[chunk * (p.classes + 1) + c];
    const int32_t count = place;
    place = total;
    total += count;
  }
  scratch.starts[c] = total;
}

// One block: where each class begins. With a fault, now or before, no class has any rows, and so
// nothing that follows writes.
__global__ void __launch_bounds__(kThreads)
    start_kernel(const __grid_constant__ Problem p, const __grid_constant__ Marks marks,
                 const __grid_constant__ Scratch scratch) {
  auto& sums = shared_memory<int32_t[kThreads]>();
  auto& stop = shared_memory<bool>();
  int32_t refused = INT_MAX;
  for (int64_t chunk = threadIdx.x; chunk < scratch.chunks; chunk += kThreads) {
    const int32_t first = scratch.places[chunk * (p.classes + 1) + p.classes];
    refused = first < refused ? first : refused;
  }
  refused = block_min(refused);
  if (threadIdx.x == 0) {
    stop = refused != INT_MAX || p.fault[0] >= 0;
    if (refused != INT_MAX && p.fault[0] < 0) {
      const double weight = marks.weight(refused);
      p.fault[0] = refused;
      p.fault[1] = marks.label(refused);
      memcpy(&p.fault[2], &weight, sizeof weight);
    }
  }
  __syncthreads();
  int32_t before = 0;
  for (int64_t base = 0; base < p.classes; base += kThreads) {
    const int64_t c = base + threadIdx.x;
    const int32_t count = c < p.classes && !stop ? scratch.starts[c] : 0;
    sums[threadIdx.x] = count;
    __syncthreads();
    for (int step = 1; step < kThreads; step *= 2) {
      const int32_t other = int(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
      __syncthreads();
      sums[threadIdx.x] += other;
      __syncthreads();
    }
    if (c < p.classes) scratch.starts[c] = before + sums[threadIdx.x] - count;
    before += sums[kThreads - 1];
    __syncthreads();
  }
  if (threadIdx.x == 0) scratch.starts[p.classes] = before;
}

// A warp for each chunk: its rows, 32 at a time, to their places.
__global__ void __launch_bounds__(kWarp)
    sort_kernel(const __grid_constant__ Problem p, const __grid_constant__ Marks marks,
                const __grid_constant__ Scratch scratch) {
  if (scratch.starts[p.classes] == 0) return;
  auto& labels = shared_memory<int64_t[kWarp]>();
  int32_t* places = scratch.places + int64_t(blockIdx.x) * (p.classes + 1);
  const int64_t end = p.rows * (blockIdx.x + 1) / scratch.chunks;
  const int lane = int(threadIdx.x);
  for (int64_t base = p.rows * blockIdx.x / scratch.chunks; base < end; base += kWarp) {
    const int64_t row = base + lane;
    const int64_t label = row < end ? marks.class_of(row) : -1;
    labels[lane] = label;
    __syncwarp();
    int before = 0, total = 0;
    for (int other = 0; other < kWarp; ++other) {
      total += labels[other] == label;
      before += other < lane && labels[other] == label;
    }
    if (label >= 0) scratch.order[scratch.starts[label] + places[label] + before] = int32_t(row);
    __syncwarp();
    if (label >= 0 && before == 0) places[label] += total;
    __syncwarp();
  }
}

template <class S>
__device__ double feature(const Problem& p, int64_t row, int64_t column) {
  const S* features = reinterpret_cast<const S*>(p.features);
  return load(features[row * p.row_stride + column * p.column_stride]);
}

// The threads of a block copy a row. What is not finite stays 0, as on the CPU.
template <class S>
__device__ void adopt(const Problem& p, double* shift, int64_t row) {
  for (int64_t column = threadIdx.x; column < p.columns; column += kThreads) {
    const double value = feature<S>(p, row, column);
    shift[column] = is_finite(value) ? value : 0;
  }
}

// A block for each class.
template <class S>
__global__ void __launch_bounds__(kThreads)
    adopt_kernel(const __grid_constant__ Problem p, const __grid_constant__ Scratch scratch) {
  const int64_t c = blockIdx.x;
  if (p.counts[c] == 0 && scratch.starts[c] < scratch.starts[c + 1])
    adopt<S>(p, p.shift_of(c), scratch.order[scratch.starts[c]]);
}

// One block.
template <class S>
__global__ void __launch_bounds__(kThreads)
    adopt_common_kernel(const __grid_constant__ Problem p,
                        const __grid_constant__ Scratch scratch) {
  auto& row = shared_memory<int32_t>();
  int32_t first = INT_MAX, used = INT_MAX;
  for (int64_t c = threadIdx.x; c < p.classes; c += kThreads) {
    if (p.counts[c] != 0) used = 0;
    if (scratch.starts[c] == scratch.starts[c + 1]) continue;
    const int32_t candidate = scratch.order[scratch.starts[c]];
    first = candidate < first ? candidate : first;
  }
  used = block_min(used);
  first = block_min(first);
  if (threadIdx.x == 0) row = used == 0 ? INT_MAX : first;
  __syncthreads();
  if (row != INT_MAX) adopt<S>(p, p.shifts, row);
}

// Block (x, y): tile x of the columns, piece y of the sorted rows. Run after run, a class that lies
// within the piece is added to the state. Run r of class c in piece p is number c + p: from one run
// to the next, the class or the piece grows.
template <class S>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const __grid_constant__ Problem p, const __grid_constant__ Marks marks,
               const __grid_constant__ Scratch scratch) {
  auto& shared = shared_memory<double[kWarps]>();
  const int64_t total = scratch.starts[p.classes], piece = blockIdx.y, tile = blockIdx.x;
  const int64_t length = ceil_div(total, scratch.pieces);
  const int64_t begin = piece * length, end = begin + length < total ? begin + length : total;
  const int64_t column = tile * kThreads + threadIdx.x;
  const bool inside = column < p.columns;
  for (int64_t at = begin; at < end;) {
    const int64_t c = marks.label(scratch.order[at]);
    const int64_t first = scratch.starts[c], past = scratch.starts[c + 1];
    const int64_t stop = past < end ? past : end;
    const double shift = inside ? p.shift_of(c)[column] : 0;
    double sum = 0, square = 0, weight = 0;
    for (; at < stop; at += kAhead) {
      double x[kAhead], w[kAhead];
      DL_UNROLL
      for (int r = 0; r < kAhead; ++r) {
        const bool there = at + r < stop;
        const int64_t row = scratch.order[there ? at + r : stop - 1];
        x[r] = inside ? feature<S>(p, row, column) : 0;
        w[r] = there ? marks.weight(row) : 0;
      }
      DL_UNROLL
      for (int r = 0; r < kAhead; ++r) {
        if (at + r >= stop) continue;
        const auto part = share(x[r], shift, w[r]);
        sum += part.sum;
        square += part.square;
        weight += w[r];
      }
    }
    at = stop;
    if (inside && first >= begin && past <= end) {
      p.sums[c * p.columns + column] += sum;
    } else if (inside) {
      scratch.edges[(2 * piece + (first > begin)) * p.columns + column] = sum;
    }
    square = warp_sum(square);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = square;
    __syncthreads();
    if (threadIdx.x == 0) {
      double* run = scratch.runs + (c + piece) * (scratch.tiles + 1);
      for (int i = 1; i < kWarps; ++i) square += shared[i];
      run[tile] = square;
      if (tile == 0) run[scratch.tiles] = weight;
    }
    __syncthreads();
  }
}

// A block for each class: what its runs hold, piece after piece.
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ Problem p, const __grid_constant__ Scratch scratch) {
  const int64_t c = blockIdx.x, first = scratch.starts[c], past = scratch.starts[c + 1];
  if (first == past) return;
  const int64_t length = ceil_div(scratch.starts[p.classes], scratch.pieces);
  const int64_t from = first / length, to = (past - 1) / length;
  if (threadIdx.x < kWarp) {
    double square = 0, weight = 0;
    for (int64_t piece = from + threadIdx.x; piece <= to; piece += kWarp) {
      const double* run = scratch.runs + (c + piece) * (scratch.tiles + 1);
      for (int64_t tile = 0; tile < scratch.tiles; ++tile) square += run[tile];
      weight += run[scratch.tiles];
    }
    square = warp_sum(square);
    weight = warp_sum(weight);
    if (threadIdx.x == 0) {
      p.squares[c] += square;
      p.counts[c] += weight;
      p.samples[c] += past - first;
    }
  }
  if (from == to) return;
  for (int64_t column = threadIdx.x; column < p.columns; column += kThreads) {
    double sum = 0;
    for (int64_t piece = from; piece <= to; ++piece) {
      const int64_t edge = 2 * piece + (first > piece * length);
      sum += scratch.edges[edge * p.columns + column];
    }
    p.sums[c * p.columns + column] += sum;
  }
}

Scratch check_scratch(const Problem& p, const Maybe& places, const Maybe& starts,
                      const Maybe& order, const Maybe& edges, const Maybe& runs) {
  require(places && starts && order && edges && runs && places->ndim == 2 && edges->ndim == 3,
          "class_moments: CUDA needs places, starts, order, edges and runs.");
  const int64_t chunks = places->shape[0], pieces = edges->shape[0];
  const int64_t tiles = std::max<int64_t>(ceil_div(p.columns, kThreads), 1);
  require(chunks > 0 && pieces > 0 && pieces <= kMaxGridY &&
              is_contiguous(*places, DType::i32, {chunks, p.classes + 1}) &&
              is_contiguous(*starts, DType::i32, {p.classes + 1}) &&
              is_contiguous(*order, DType::i32, {p.rows}) &&
              is_contiguous(*edges, DType::f64, {pieces, 2, p.columns}) &&
              is_contiguous(*runs, DType::f64, {p.classes + pieces, tiles + 1}),
          "class_moments: the scratch is contiguous: int32 places (chunks, C + 1), starts (C + 1) "
          "and order (N), float64 edges (pieces, 2, D) and runs (C + pieces, ceil(D / 128) + 1).");
  return {reinterpret_cast<int32_t*>(places->data),
          reinterpret_cast<int32_t*>(starts->data),
          reinterpret_cast<int32_t*>(order->data),
          reinterpret_cast<double*>(edges->data),
          reinterpret_cast<double*>(runs->data),
          chunks,
          pieces,
          tiles};
}

void class_moments(Lane lane, const View& counts, const View& samples, const View& sums,
                   const View& squares, const View& shifts, const View& fault, const View& features,
                   const View& labels, const Maybe& weight, int64_t adopt, const Maybe& places,
                   const Maybe& starts, const Maybe& order, const Maybe& edges, const Maybe& runs) {
  const Problem p =
      check(counts, samples, sums, squares, shifts, fault, features, labels, weight, adopt);
  const Scratch scratch = check_scratch(p, places, starts, order, edges, runs);
  require(p.rows < INT_MAX && p.classes < INT_MAX,
          "class_moments: a call on CUDA takes fewer than 2^31 samples and classes.");
  if (p.rows == 0) return;
  const Marks marks{labels.data,
                    weight ? weight->data : nullptr,
                    labels.strides[0],
                    weight ? weight->strides[0] : 0,
                    labels.dtype == DType::i64,
                    weight ? weight->dtype : DType::f64};
  const unsigned blocks = unsigned(std::max<int64_t>(p.classes, 1)),
                 chunks = unsigned(scratch.chunks);
  const dim3 threads(kThreads);
  launch(lane.stream, dim3(chunks), threads, &count_kernel, p, marks, scratch);
  launch(lane.stream, dim3(unsigned(ceil_div(blocks, kThreads))), threads, &place_kernel, p,
         scratch);
  launch(lane.stream, dim3(1), threads, &start_kernel, p, marks, scratch);
  launch(lane.stream, dim3(chunks), dim3(kWarp), &sort_kernel, p, marks, scratch);
  if (p.classes == 0) return;
  visit_floating(features.dtype, [&]<class S>() {
    if (p.adopt && p.shift_stride == 0) {
      launch(lane.stream, dim3(1), threads, &adopt_common_kernel<S>, p, scratch);
    } else if (p.adopt) {
      launch(lane.stream, dim3(blocks), threads, &adopt_kernel<S>, p, scratch);
    }
    launch(lane.stream, dim3(unsigned(scratch.tiles), unsigned(scratch.pieces)), threads,
           &sum_kernel<S>, p, marks, scratch);
  });
  launch(lane.stream, dim3(blocks), threads, &gather_kernel, p, scratch);
}

DLACCEL_REGISTER(class_moments, class_moments);

}  // namespace
}  // namespace dlaccel::class_moments
