#include "kernels/dropout.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.hpp"
#include "kernels/philox_lanes.hpp"
#include "kernels/row_sums.hpp"

namespace parsimony::kernels {

namespace {

/// Counters are laid out as if every sequence had this many rows.
constexpr std::int64_t longest_sequence = 1 << 20;

/// Which of the 128 entries of a block stay.
void keep_block(const DropoutMask& mask, const philox::Schedule& keys, std::int64_t block,
                std::uint8_t* keep) {
  constexpr int eight = philox::counters_at_once;
  constexpr int lanes = 2 * eight;
  static_assert(lanes * 8 == dropout_block, "four words of two decisions a counter");
  std::uint64_t counters[lanes];
  for (int i = 0; i < lanes; ++i) {
    counters[i] = static_cast<std::uint64_t>(block) * lanes + static_cast<std::uint64_t>(i);
  }
  std::uint32_t words[4][lanes];
  for (int at = 0; at < lanes; at += eight) {
    philox::eight_blocks(counters + at, keys, words[0] + at, lanes);
  }
  for (int w = 0; w < 4; ++w) {
    for (int i = 0; i < lanes; ++i) {
      keep[2 * w * lanes + i] = (words[w][i] & 0xFFFFU) >= mask.threshold ? 1 : 0;
      keep[(2 * w + 1) * lanes + i] = (words[w][i] >> 16U) >= mask.threshold ? 1 : 0;
    }
  }
}

std::int64_t first_block(const DropoutMask& mask, std::int64_t row, std::int64_t cols) {
  if (mask.rows != nullptr) row = mask.rows[row];
  const std::int64_t logical = row / mask.period * longest_sequence + row % mask.period;
  return logical * ((cols + dropout_block - 1) / dropout_block);
}

/// y = x / kept where kept, else 0, over one row.
template <class T>
void drop_row(const DropoutMask& mask, std::int64_t row, std::int64_t cols, const T* x, T* y) {
  const T inverse = static_cast<T>(1.0 / mask.kept());
  std::int64_t block = first_block(mask, row, cols);
  const philox::Schedule keys = philox::schedule(mask.key);
  std::uint8_t keep[dropout_block];
  for (std::int64_t at = 0; at < cols; at += dropout_block) {
    keep_block(mask, keys, block++, keep);
    const std::int64_t count = std::min(dropout_block, cols - at);
    for (std::int64_t i = 0; i < count; ++i) {
      y[at + i] = keep[i] != 0 ? x[at + i] * inverse : T(0);
    }
  }
}

}  // namespace

void dropout_keep_row(const DropoutMask& mask, std::int64_t row, std::int64_t cols,
                      std::uint8_t* keep) {
  const philox::Schedule keys = philox::schedule(mask.key);
  std::int64_t block = first_block(mask, row, cols);
  for (std::int64_t at = 0; at < cols; at += dropout_block) {
    keep_block(mask, keys, block++, keep + at);
  }
}

template <class T>
void dropout(std::int64_t rows, std::int64_t cols, const DropoutMask& mask, const T* x, T* y) {
  parallel_for(rows, cols, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      drop_row(mask, r, cols, x + r * cols, y + r * cols);
    }
  });
}

template <class T>
void dropout_add_layer_norm(std::int64_t rows, std::int64_t cols, const DropoutMask& mask,
                            const T* x, const T* residual, const T* weight, const T* bias,
                            double eps, T* y, T* normalized, T* rstd) {
  const auto count = static_cast<double>(cols);
  parallel_for(rows, 6 * cols, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t at = r * cols;
      T* h = normalized + at;
      if (mask.threshold == 0) {
        for (std::int64_t i = 0; i < cols; ++i) h[i] = x[at + i] + residual[at + i];
      } else {
        drop_row(mask, r, cols, x + at, h);
        for (std::int64_t i = 0; i < cols; ++i) h[i] += residual[at + i];
      }
      const double mean = sum_of(cols, [=](std::int64_t i) { return h[i]; }) / count;
      const T shift = static_cast<T>(mean);
      for (std::int64_t i = 0; i < cols; ++i) h[i] -= shift;
      const double variance = sum_of(cols, [=](std::int64_t i) { return h[i] * h[i]; }) / count;
      const T scale = static_cast<T>(1.0 / std::sqrt(variance + eps));
      rstd[r] = scale;
      T* out = y + at;
      for (std::int64_t i = 0; i < cols; ++i) {
        h[i] *= scale;
        out[i] = h[i] * weight[i] + bias[i];
      }
    }
  });
}

template <class T>
void dropout_add_layer_norm_backward(std::int64_t rows, std::int64_t cols, const DropoutMask& mask,
                                     const T* normalized, const T* rstd, const T* weight,
                                     const T* dy, T* dx, T* dresidual) {
  const auto count = static_cast<double>(cols);
  parallel_for(rows, 6 * cols, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t at = r * cols;
      const T* n = normalized + at;
      const T* g = dy + at;
      T* out = (dresidual != nullptr ? dresidual : dx) + at;
      const T mean =
          static_cast<T>(sum_of(cols, [=](std::int64_t i) { return g[i] * weight[i]; }) / count);
      const T inner = static_cast<T>(
          sum_of(cols, [=](std::int64_t i) { return g[i] * weight[i] * n[i]; }) / count);
      for (std::int64_t i = 0; i < cols; ++i) {
        out[i] = rstd[r] * (g[i] * weight[i] - mean - n[i] * inner);
      }
      if (dx == nullptr) continue;
      if (mask.threshold != 0) {
        drop_row(mask, r, cols, out, dx + at);
      } else if (dx + at != out) {
        std::copy(out, out + cols, dx + at);
      }
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template void dropout(std::int64_t, std::int64_t, const DropoutMask&, const T*, T*);           \
  template void dropout_add_layer_norm(std::int64_t, std::int64_t, const DropoutMask&, const T*, \
                                       const T*, const T*, const T*, double, T*, T*, T*);        \
  template void dropout_add_layer_norm_backward(std::int64_t, std::int64_t, const DropoutMask&,  \
                                                const T*, const T*, const T*, const T*, T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
