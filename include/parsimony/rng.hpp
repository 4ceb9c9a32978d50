// Counter-based random streams (Philox 4x32-10, Salmon et al. 2011), split by name.
//
// A stream is a key and a counter. `split("layer.0.W1")` derives an independent key from the name,
// so that adding a consumer never moves another's numbers, and the whole state is 32 bytes.
#pragma once

#include <parsimony/tensor.hpp>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace parsimony {

class Rng {
 public:
  explicit Rng(std::uint64_t seed);

  /// An independent stream named by `name`; does not advance this one.
  Rng split(std::string_view name) const;
  Rng split(std::uint64_t number) const;

  std::uint64_t next_u64();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Uniform integer in [0, bound), unbiased. @throws ValueError if bound < 1.
  index_t below(index_t bound);
  /// Standard normal (Box-Muller; the same bits in float and double before rounding).
  double normal();

  /// Tensors of draws in row-major order, the ones that normal() and uniform() would return,
  /// rounded to T. @throws ValueError on a negative or non-finite std, or unless low <= high.
  template <class T>
  Tensor<T> normal(const Shape& shape, double std = 1.0);
  template <class T>
  Tensor<T> uniform(const Shape& shape, double low = 0.0, double high = 1.0);
  /// A random order of 0..n-1 (Fisher-Yates).
  std::vector<index_t> permutation(index_t n);
  /// `count` distinct numbers of [0, n), ascending. @throws ValueError if count > n.
  std::vector<index_t> choose(index_t n, index_t count);

  /// Key, counter, whether a spare normal waits, and its bits; for checkpoints. A stream set to a
  /// saved state goes on with the same bits.
  std::array<std::uint64_t, 4> state() const;
  /// @throws ValueError on a state that state() cannot return.
  void set_state(const std::array<std::uint64_t, 4>& state);

 private:
  std::uint64_t key_ = 0;
  std::uint64_t counter_ = 0;   // numbers drawn; a block holds two
  std::uint64_t buffered_ = 0;  // second half of the last block, used while counter_ is odd
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

/// Haar-random matrix with orthonormal columns (rows >= cols) or rows (rows < cols): QR of a
/// Gaussian with the signs of R's diagonal moved into Q (Stewart 1980). Needs linalg.
/// @throws ShapeError unless both sides are >= 1.
template <class T>
Tensor<T> haar_orthogonal(Rng& rng, index_t rows, index_t cols);

}  // namespace parsimony
