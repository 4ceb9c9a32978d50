// Dropout: which entries stay is a pure function of a key and the entry's place, so that a mask is
// the same for any number of threads and need not be stored to be used again.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// A stream of independent decisions over rows of entries: an entry is dropped where its 16 random
/// bits are below `threshold`, that is with probability threshold / 65536. Rows come in sequences
/// of `period` rows; the decisions of row s of sequence b are the same for every period, so that
/// padding sequences to another length changes nothing.
struct DropoutMask {
  std::uint64_t key = 0;
  std::uint32_t threshold = 0;
  std::int64_t period = 1;
  /// Where only some rows are there: which, among all of all sequences.
  const std::int64_t* rows = nullptr;

  /// What the kept entries are divided by: the probability to stay.
  double kept() const { return 1.0 - static_cast<double>(threshold) / 65536.0; }
};

/// Decisions come in blocks of this many entries; a row begins with a block of its own.
inline constexpr std::int64_t dropout_block = 128;

/// keep[c] = 1 or 0 for the entries c < cols of a row; writes whole blocks.
void dropout_keep_row(const DropoutMask& mask, std::int64_t row, std::int64_t cols,
                      std::uint8_t* keep);

/// y = x / kept where kept, else 0; the pullback is the same function of dy.
template <class T>
void dropout(std::int64_t rows, std::int64_t cols, const DropoutMask& mask, const T* x, T* y);

/// The sublayer's end in a transformer, in one pass over memory:
///   n = (h - mean(h)) rstd, h = dropout(x) + residual;  y = n weight + bias.
/// n (rows, cols) and rstd (rows) are kept for backward.
template <class T>
void dropout_add_layer_norm(std::int64_t rows, std::int64_t cols, const DropoutMask& mask,
                            const T* x, const T* residual, const T* weight, const T* bias,
                            double eps, T* y, T* normalized, T* rstd);
/// With g = dy weight: dresidual = rstd (g - avg(g) - n avg(g n)), dx = dropout(dresidual).
/// Either output may be null.
template <class T>
void dropout_add_layer_norm_backward(std::int64_t rows, std::int64_t cols, const DropoutMask& mask,
                                     const T* normalized, const T* rstd, const T* weight,
                                     const T* dy, T* dx, T* dresidual);

}  // namespace parsimony::kernels
