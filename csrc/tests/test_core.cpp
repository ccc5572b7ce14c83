// Views, loop nests and half types: what Python cannot reach one at a time.
#include <cmath>
#include <vector>

#include "../core/column_sums.h"
#include "../core/registry.h"
#include "expect.h"

namespace dlaccel {
namespace {

View view(void* data, std::vector<int64_t> shape, std::vector<int64_t> strides) {
  View v;
  v.data = static_cast<char*>(data);
  v.ndim = int(shape.size());
  std::copy(shape.begin(), shape.end(), v.shape.begin());
  std::copy(strides.begin(), strides.end(), v.strides.begin());
  return v;
}

template <class F>
bool refuses(F&& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void test_loops_merge_what_is_contiguous() {
  float memory[1];
  const View dense = view(memory, {2, 3, 4}, {12, 4, 1});
  EXPECT(plan_loops<2>({dense, dense}).ndim == 1);
  EXPECT(plan_loops<2>({dense, dense}).columns() == 24);
  const View transposed = view(memory, {4, 3, 2}, {1, 4, 12});
  EXPECT(plan_loops<1>({transposed}).columns() == 24);
  const View padded = view(memory, {2, 3, 4}, {24, 8, 1});
  const auto rows = plan_loops<2>({dense, padded});
  EXPECT(rows.ndim == 2 && rows.columns() == 4 && rows.rows() == 6);
  int64_t offsets[2];
  rows.row_offsets(5, offsets);
  EXPECT(offsets[0] == 20 && offsets[1] == 40);
  const auto kept = plan_loops<1>({dense}, Order::keep_columns);
  EXPECT(kept.ndim == 2 && kept.columns() == 4 && kept.rows() == 6);
  const auto single = plan_loops<1>({view(memory, {}, {})});
  EXPECT(single.columns() == 1 && single.rows() == 1);
  EXPECT(refuses([&] { plan_loops<2>({dense, transposed}); }));
}

void test_expanded_rows_have_stride_zero() {
  float memory[20];
  const View dense = view(memory, {5, 4}, {4, 1});
  const View row = view(memory, {4}, {1}).expand_like(dense);
  EXPECT(row.strides[0] == 0 && row.strides[1] == 1);
  EXPECT(refuses([&] { view(memory, {3}, {1}).expand_like(dense); }));
  EXPECT(refuses([&] { dense.narrow(2, 3); }));
  EXPECT(dense.narrow(2, 2).data == reinterpret_cast<char*>(memory + 2));
}

void test_vectors_and_scalars_agree_on_half_types() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    f16 many[Vec<float>::lanes];
    for (auto& one : many) one.bits = uint16_t(bits);
    const float scalar = load(many[0]), vector = load_lanes(many).v[0];
    EXPECT(detail::bits_of(scalar) == detail::bits_of(vector));
    f16 back;
    store(&back, scalar);
    EXPECT(std::isnan(scalar) || back.bits == bits);
  }
  for (uint64_t pattern = 0; pattern < (uint64_t(1) << 32); pattern += 4093) {
    const float x = detail::float_of(uint32_t(pattern));
    f16 half, halves[Vec<float>::lanes];
    bf16 brain, brains[Vec<float>::lanes];
    store(&half, x);
    store(&brain, x);
    store_lanes(halves, Vec<float>(x));
    store_lanes(brains, Vec<float>(x));
    EXPECT(half.bits == halves[0].bits && brain.bits == brains[0].bits);
  }
}

// 130 rows of 70 columns of small integers: sums in any order are exact.
void test_column_sums_are_right_on_one_and_two_threads() {
  constexpr int kRows = 1300, kColumns = 70;
  std::vector<float> in(kRows * kColumns), out(kRows * kColumns), sums(kColumns);
  for (int i = 0; i < kRows * kColumns; ++i) in[size_t(i)] = float(i % 7);
  const View a = view(out.data(), {kRows, kColumns}, {kColumns, 1});
  const View b = view(in.data(), {kRows, kColumns}, {kColumns, 1});
  const auto loops = plan_loops<2>({a, b}, Order::keep_columns);
  for (int threads : {1, 2}) {
    run_with_column_sums<float, 1, 1>(
        loops, [](Vec<float> x) { return std::array{x + x}; },
        std::array{view(sums.data(), {kColumns}, {1})}, threads);
    for (int column = 0; column < kColumns; ++column) {
      float exact = 0;
      for (int row = 0; row < kRows; ++row) exact += 2 * in[size_t(row * kColumns + column)];
      EXPECT(sums[size_t(column)] == exact);
    }
  }
}

}  // namespace
}  // namespace dlaccel

int main() {
  using namespace dlaccel;
  test_loops_merge_what_is_contiguous();
  test_expanded_rows_have_stride_zero();
  test_vectors_and_scalars_agree_on_half_types();
  test_column_sums_are_right_on_one_and_two_threads();
  return failures() != 0;
}
