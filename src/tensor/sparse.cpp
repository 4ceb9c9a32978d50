// Index sets in CSR with the column order beside them, and the three products on them.
#include <parsimony/error.hpp>
#include <parsimony/sparse.hpp>

#include <algorithm>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "kernels/sampled.hpp"

namespace parsimony {

struct IndexSet::Data {
  index_t rows = 0;
  index_t cols = 0;
  std::vector<std::int32_t> row_offsets, columns, col_offsets, rows_by_column, csr_position,
      position_of_input;
};

IndexSet::IndexSet(index_t rows, index_t cols, const std::vector<Entry>& entries) {
  constexpr index_t limit = std::numeric_limits<std::int32_t>::max();
  const auto count = static_cast<index_t>(entries.size());
  if (rows < 0 || cols < 0 || rows > limit || cols > limit || count > limit) {
    throw ValueError(
        fmt::format("index set: {} x {} with {} entries is outside [0, 2^31)", rows, cols, count));
  }
  auto data = std::make_shared<Data>();
  data->rows = rows;
  data->cols = cols;
  data->row_offsets.assign(static_cast<std::size_t>(rows) + 1, 0);
  data->col_offsets.assign(static_cast<std::size_t>(cols) + 1, 0);
  for (const Entry& e : entries) {
    if (e.row < 0 || e.row >= rows || e.col < 0 || e.col >= cols) {
      throw ValueError(fmt::format("index set: entry ({}, {}) is outside the {} x {} matrix", e.row,
                                   e.col, rows, cols));
    }
    ++data->row_offsets[static_cast<std::size_t>(e.row) + 1];
    ++data->col_offsets[static_cast<std::size_t>(e.col) + 1];
  }
  std::partial_sum(data->row_offsets.begin(), data->row_offsets.end(), data->row_offsets.begin());
  std::partial_sum(data->col_offsets.begin(), data->col_offsets.end(), data->col_offsets.begin());

  // Two counting sorts: by column, then stably by row, leave each row's columns ascending.
  const auto n = static_cast<std::size_t>(count);
  std::vector<std::int32_t> by_column(n);
  std::vector<std::int32_t> next(data->col_offsets.begin(), data->col_offsets.end() - 1);
  for (std::size_t k = 0; k < n; ++k) {
    by_column[static_cast<std::size_t>(next[static_cast<std::size_t>(entries[k].col)]++)] =
        static_cast<std::int32_t>(k);
  }
  data->columns.resize(n);
  data->position_of_input.resize(n);
  next.assign(data->row_offsets.begin(), data->row_offsets.end() - 1);
  for (const std::int32_t k : by_column) {
    const Entry& e = entries[static_cast<std::size_t>(k)];
    const std::int32_t at = next[static_cast<std::size_t>(e.row)]++;
    data->columns[static_cast<std::size_t>(at)] = static_cast<std::int32_t>(e.col);
    data->position_of_input[static_cast<std::size_t>(k)] = at;
  }
  data->rows_by_column.resize(n);
  data->csr_position.resize(n);
  next.assign(data->col_offsets.begin(), data->col_offsets.end() - 1);
  for (index_t row = 0; row < rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    for (std::int32_t e = data->row_offsets[r]; e < data->row_offsets[r + 1]; ++e) {
      const auto col = static_cast<std::size_t>(data->columns[static_cast<std::size_t>(e)]);
      if (e > data->row_offsets[r] &&
          data->columns[static_cast<std::size_t>(e) - 1] == static_cast<std::int32_t>(col)) {
        throw ValueError(fmt::format("index set: entry ({}, {}) is given twice", row, col));
      }
      const auto at = static_cast<std::size_t>(next[col]++);
      data->rows_by_column[at] = static_cast<std::int32_t>(row);
      data->csr_position[at] = e;
    }
  }
  data_ = std::move(data);
}

IndexSet IndexSet::from_mask(const Tensor<std::uint8_t>& mask) {
  if (mask.rank() != 2) {
    throw ShapeError("index set: expected a mask with two axes; got " + mask.shape().str());
  }
  std::vector<Entry> entries;
  for (index_t i = 0; i < mask.dim(0); ++i) {
    for (index_t j = 0; j < mask.dim(1); ++j) {
      if (mask.data()[i * mask.dim(1) + j] != 0) entries.push_back({i, j});
    }
  }
  return IndexSet(mask.dim(0), mask.dim(1), entries);
}

const IndexSet::Data& IndexSet::data() const {
  if (data_) return *data_;
  static const Data empty{0, 0, {0}, {}, {0}, {}, {}, {}};
  return empty;
}

index_t IndexSet::rows() const { return data().rows; }
index_t IndexSet::cols() const { return data().cols; }
index_t IndexSet::size() const { return static_cast<index_t>(data().columns.size()); }
const std::vector<std::int32_t>& IndexSet::position_of_input() const {
  return data().position_of_input;
}
const std::vector<std::int32_t>& IndexSet::row_offsets() const { return data().row_offsets; }
const std::vector<std::int32_t>& IndexSet::columns() const { return data().columns; }
const std::vector<std::int32_t>& IndexSet::col_offsets() const { return data().col_offsets; }
const std::vector<std::int32_t>& IndexSet::rows_by_column() const { return data().rows_by_column; }
const std::vector<std::int32_t>& IndexSet::csr_position() const { return data().csr_position; }

Tensor<std::uint8_t> IndexSet::mask() const {
  auto out = Tensor<std::uint8_t>::zeros({rows(), cols()});
  std::uint8_t* o = out.mutable_data();
  for (index_t r = 0; r < rows(); ++r) {
    const auto row = static_cast<std::size_t>(r);
    for (auto e = data_->row_offsets[row]; e < data_->row_offsets[row + 1]; ++e) {
      o[r * cols() + data_->columns[static_cast<std::size_t>(e)]] = 1;
    }
  }
  return out;
}

namespace {

template <class T>
void require_factor(const char* op, const char* name, const Tensor<T>& x, index_t rows) {
  if (x.rank() != 2 || x.dim(0) != rows) {
    throw ShapeError(
        fmt::format("{}: expected {} of shape ({}, k); got {}", op, name, rows, x.shape().str()));
  }
}

template <class T>
void require_values(const char* op, const IndexSet& omega, const Tensor<T>& values) {
  if (values.size() != omega.size()) {
    throw ShapeError(fmt::format("{}: expected {} values on the index set; got shape {}", op,
                                 omega.size(), values.shape().str()));
  }
}

}  // namespace

template <class T>
Tensor<T> sampled_product(const IndexSet& omega, const Tensor<T>& a, const Tensor<T>& b) {
  require_factor("sampled_product", "a", a, omega.rows());
  require_factor("sampled_product", "b", b, omega.cols());
  if (a.dim(1) != b.dim(1)) {
    throw ShapeError(fmt::format("sampled_product: inner sizes differ: {}·{}ᵀ", a.shape().str(),
                                 b.shape().str()));
  }
  Tensor<T> out({omega.size()});
  kernels::sampled_product(omega.rows(), omega.row_offsets().data(), omega.columns().data(),
                           a.data(), b.data(), a.dim(1), out.mutable_data());
  return out;
}

template <class T>
Tensor<T> sparse_product(const IndexSet& omega, const Tensor<T>& values, const Tensor<T>& b) {
  require_values("sparse_product", omega, values);
  require_factor("sparse_product", "b", b, omega.cols());
  Tensor<T> out({omega.rows(), b.dim(1)});
  kernels::sparse_rows(omega.rows(), omega.row_offsets().data(), omega.columns().data(),
                       static_cast<const std::int32_t*>(nullptr), values.data(), b.data(), b.dim(1),
                       out.mutable_data());
  return out;
}

template <class T>
Tensor<T> sparse_transposed_product(const IndexSet& omega, const Tensor<T>& values,
                                    const Tensor<T>& a) {
  require_values("sparse_transposed_product", omega, values);
  require_factor("sparse_transposed_product", "a", a, omega.rows());
  Tensor<T> out({omega.cols(), a.dim(1)});
  kernels::sparse_rows(omega.cols(), omega.col_offsets().data(), omega.rows_by_column().data(),
                       omega.csr_position().data(), values.data(), a.data(), a.dim(1),
                       out.mutable_data());
  return out;
}

template <class T>
Tensor<T> gather_entries(const IndexSet& omega, const Tensor<T>& dense) {
  require_factor("gather_entries", "a dense matrix", dense, omega.rows());
  if (dense.dim(1) != omega.cols()) {
    throw ShapeError(fmt::format("gather_entries: expected {} columns; got {}", omega.cols(),
                                 dense.shape().str()));
  }
  Tensor<T> out({omega.size()});
  T* o = out.mutable_data();
  for (index_t r = 0; r < omega.rows(); ++r) {
    const auto row = static_cast<std::size_t>(r);
    for (auto e = omega.row_offsets()[row]; e < omega.row_offsets()[row + 1]; ++e) {
      o[e] = dense.data()[r * omega.cols() + omega.columns()[static_cast<std::size_t>(e)]];
    }
  }
  return out;
}

template <class T>
Tensor<T> scatter_entries(const IndexSet& omega, const Tensor<T>& values) {
  require_values("scatter_entries", omega, values);
  auto out = Tensor<T>::zeros({omega.rows(), omega.cols()});
  T* o = out.mutable_data();
  for (index_t r = 0; r < omega.rows(); ++r) {
    const auto row = static_cast<std::size_t>(r);
    for (auto e = omega.row_offsets()[row]; e < omega.row_offsets()[row + 1]; ++e) {
      o[r * omega.cols() + omega.columns()[static_cast<std::size_t>(e)]] = values.data()[e];
    }
  }
  return out;
}

#define PARSIMONY_INSTANTIATE(T)                                                           \
  template Tensor<T> sampled_product(const IndexSet&, const Tensor<T>&, const Tensor<T>&); \
  template Tensor<T> sparse_product(const IndexSet&, const Tensor<T>&, const Tensor<T>&);  \
  template Tensor<T> sparse_transposed_product(const IndexSet&, const Tensor<T>&,          \
                                               const Tensor<T>&);                          \
  template Tensor<T> gather_entries(const IndexSet&, const Tensor<T>&);                    \
  template Tensor<T> scatter_entries(const IndexSet&, const Tensor<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
