// Index sets Ω of matrix entries in CSR form, and sparse matrices on them: what matrix completion
// needs so that an iteration costs O(|Ω| k) and never forms a dense d1 x d2 matrix.
#pragma once

#include <parsimony/tensor.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace parsimony {

/// One entry: 0-based row and column.
struct Entry {
  index_t row = 0;
  index_t col = 0;
};

/// The observed positions Ω of a rows x cols matrix, sorted by row then column, with the
/// transposed order beside it so that both products are row-parallel. Immutable once built; copies
/// share the arrays. Up to 2^31 - 1 rows, columns and entries.
class IndexSet {
 public:
  /// The empty set of a 0 x 0 matrix.
  IndexSet() = default;
  /// @throws ValueError on entries out of range or given twice.
  IndexSet(index_t rows, index_t cols, const std::vector<Entry>& entries);
  /// The nonzero positions of a (rows, cols) mask.
  static IndexSet from_mask(const Tensor<std::uint8_t>& mask);

  index_t rows() const;
  index_t cols() const;
  /// |Ω|
  index_t size() const;
  /// Position in this set's order of the k-th entry handed to the constructor.
  const std::vector<std::int32_t>& position_of_input() const;

  /// CSR: row_offsets (rows + 1), columns (size).
  const std::vector<std::int32_t>& row_offsets() const;
  const std::vector<std::int32_t>& columns() const;
  /// CSC: col_offsets (cols + 1); for each entry in column order its row and its CSR position.
  const std::vector<std::int32_t>& col_offsets() const;
  const std::vector<std::int32_t>& rows_by_column() const;
  const std::vector<std::int32_t>& csr_position() const;

  /// (rows, cols) mask, 1 on Ω.
  Tensor<std::uint8_t> mask() const;

 private:
  struct Data;
  const Data& data() const;
  std::shared_ptr<const Data> data_;
};

// Values on Ω are tensors of shape (|Ω|) in CSR order.

/// values[e] = <a[row(e)], b[col(e)]> for a (rows, k), b (cols, k): entries of a bᵀ on Ω.
template <class T>
Tensor<T> sampled_product(const IndexSet& omega, const Tensor<T>& a, const Tensor<T>& b);
/// S b, (rows, k), for the sparse matrix S with these values and b (cols, k).
template <class T>
Tensor<T> sparse_product(const IndexSet& omega, const Tensor<T>& values, const Tensor<T>& b);
/// Sᵀ a, (cols, k), for a (rows, k).
template <class T>
Tensor<T> sparse_transposed_product(const IndexSet& omega, const Tensor<T>& values,
                                    const Tensor<T>& a);
/// Entries of a dense (rows, cols) matrix on Ω.
template <class T>
Tensor<T> gather_entries(const IndexSet& omega, const Tensor<T>& dense);
/// Dense (rows, cols) matrix with the values on Ω and 0 elsewhere.
template <class T>
Tensor<T> scatter_entries(const IndexSet& omega, const Tensor<T>& values);

}  // namespace parsimony
