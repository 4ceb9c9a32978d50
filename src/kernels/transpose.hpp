// Small transposes, in 8 x 8 blocks that fit the registers.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// out (cols, rows) = xᵀ of x (rows, cols) with a leading dimension.
template <class T>
void transpose(std::int64_t rows, std::int64_t cols, const T* x, std::int64_t ld, T* out) {
  constexpr std::int64_t side = 8;
  const std::int64_t row_blocks = rows / side * side;
  const std::int64_t col_blocks = cols / side * side;
  for (std::int64_t r0 = 0; r0 < row_blocks; r0 += side) {
    for (std::int64_t c0 = 0; c0 < col_blocks; c0 += side) {
      const T* from = x + r0 * ld + c0;
      T* to = out + c0 * rows + r0;
      T block[side][side];
      for (std::int64_t r = 0; r < side; ++r) {
        for (std::int64_t c = 0; c < side; ++c) block[c][r] = from[r * ld + c];
      }
      for (std::int64_t c = 0; c < side; ++c) {
        for (std::int64_t r = 0; r < side; ++r) to[c * rows + r] = block[c][r];
      }
    }
    for (std::int64_t c = col_blocks; c < cols; ++c) {
      for (std::int64_t r = r0; r < r0 + side; ++r) out[c * rows + r] = x[r * ld + c];
    }
  }
  for (std::int64_t r = row_blocks; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) out[c * rows + r] = x[r * ld + c];
  }
}

}  // namespace parsimony::kernels
