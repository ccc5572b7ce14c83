// A call of either recursion: a panel of correlations, of which the rows `first` and on of the
// kernels are made. A symmetric call has the columns of all rows up to its last; it computes what
// lies on and below the diagonal and writes it both ways round.
#pragma once

#include <optional>

#include "../../core/contiguous.h"
#include "ntk_recursion.h"

namespace dlaccel::ntk_recursion {

using Maybe = std::optional<View>;

struct Problem {
  DType dtype;                 // of the outputs
  char *nngp, *tangent, *gap;  // contiguous rows of `width` entries; gap may be null
  int64_t height, width;
  const float* singles;                           // the correlations, where they are float32
  const double *cosines, *gaps, *rows, *columns;  // gaps may be null
  int64_t count, used;                            // rows and columns of the panel
  int64_t cosine_strides[2], gap_strides[2], row_strides[2], column_strides[2];
  int64_t first;
  int entries;
  bool symmetric;

  DL_HD double cosine(int64_t row, int64_t column) const {
    const int64_t place = row * cosine_strides[0] + column * cosine_strides[1];
    return singles ? double(singles[place]) : cosines[place];
  }
  DL_HD double gap_at(int64_t row, int64_t column, double cosine) const {
    if (gaps) return gaps[row * gap_strides[0] + column * gap_strides[1]];
    const double gap = 1.0 - magnitude(cosine);
    return select(gap < 0.0, 0.0, gap);  // a product of directions may pass 1 by a rounding
  }
  // Entry k of the table of a row, or of a column, of the panel.
  DL_HD double of_row(int k, int64_t row) const {
    return rows[k * row_strides[0] + row * row_strides[1]];
  }
  DL_HD double of_column(int k, int64_t column) const {
    return columns[k * column_strides[0] + column * column_strides[1]];
  }
  DL_HD bool on_diagonal(int64_t row, int64_t column) const {
    return symmetric && first + row == column;
  }
  DL_HD bool above_diagonal(int64_t row, int64_t column) const {
    return symmetric && column > first + row;
  }
};

template <class S = double>
const S* numbers(const View& view, int64_t (&strides)[2]) {
  require(view.dtype == (sizeof(S) == 4 ? DType::f32 : DType::f64) && view.ndim == 2,
          "ntk_recursion: inputs must be float64 matrices, or cosines float32.");
  strides[0] = view.strides[0];
  strides[1] = view.strides[1];
  return reinterpret_cast<const S*>(view.data);
}

inline Problem problem_of(const View& nngp, const View& tangent, const View& gap,
                          const View& cosine, const Maybe& gaps, const View& rows,
                          const View& columns, int64_t layers, int64_t entries, int64_t first,
                          int64_t symmetric) {
  Problem p{};
  p.dtype = nngp.dtype;
  require(p.dtype == DType::f32 || p.dtype == DType::f64,
          "ntk_recursion: kernels must be float32 or float64.");
  require(layers >= 0 && layers < 1 << 20 && nngp.ndim == 2,
          "ntk_recursion: layers must not be negative and kernels must be matrices.");
  const int64_t height = p.height = nngp.shape[0];
  p.width = nngp.shape[1];
  require(is_contiguous(nngp, p.dtype, {height, p.width}) &&
              is_contiguous(tangent, p.dtype, {height, p.width}) &&
              (gap.numel() == 0 || is_contiguous(gap, p.dtype, {height, p.width})),
          "ntk_recursion: kernels must be contiguous, of one dtype and shape.");
  if (cosine.dtype == DType::f32) p.singles = numbers<float>(cosine, p.cosine_strides);
  else p.cosines = numbers(cosine, p.cosine_strides);
  p.count = cosine.shape[0];
  p.used = cosine.shape[1];
  p.first = first;
  p.symmetric = symmetric != 0;
  require(first >= 0 && first + p.count <= height &&
              p.used == (p.symmetric ? first + p.count : p.width) &&
              (!p.symmetric || height == p.width),
          "ntk_recursion: the panel must lie inside the kernels.");
  if (gaps) {
    p.gaps = numbers(*gaps, p.gap_strides);
    require(same_shape(*gaps, cosine), "ntk_recursion: gaps must have the cosines' shape.");
  }
  p.rows = numbers(rows, p.row_strides);
  p.columns = numbers(columns, p.column_strides);
  p.entries = int(entries);
  require(rows.shape[0] == entries && rows.shape[1] == p.count && columns.shape[0] == entries &&
              columns.shape[1] == p.used,
          "ntk_recursion: a table must have what the layers need of each point.");
  p.nngp = nngp.data;
  p.tangent = tangent.data;
  p.gap = gap.numel() == 0 ? nullptr : gap.data;
  return p;
}

// Calls body(problem, formula) for the arguments of the two kernels.
template <class Body>
void visit_rectified(const View& nngp, const View& tangent, const View& gap, const View& cosine,
                     const Maybe& gaps, const View& rows, const View& columns, int64_t layers,
                     double contrast, int64_t biased, int64_t first, int64_t symmetric,
                     Body&& body) {
  require(contrast >= 0 && contrast <= 2, "ntk_recursion: contrast must lie in [0, 2].");
  const Rectified formula{int(layers), biased != 0, Rectifier(contrast)};
  body(problem_of(nngp, tangent, gap, cosine, gaps, rows, columns, layers, 2 * (layers + 1) + 1,
                  first, symmetric),
       formula);
}

template <class Body>
void visit_erf(const View& nngp, const View& tangent, const View& gap, const View& cosine,
               const Maybe& gaps, const View& rows, const View& columns, int64_t layers,
               double weight2, double bias2, double last_weight2, double last_bias2, int64_t first,
               int64_t symmetric, Body&& body) {
  const Erf formula{int(layers), weight2, bias2, last_weight2, last_bias2};
  body(problem_of(nngp, tangent, gap, cosine, gaps, rows, columns, layers, layers + 4, first,
                  symmetric),
       formula);
}

}  // namespace dlaccel::ntk_recursion
