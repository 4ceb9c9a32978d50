#include "kernels/rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parallel.hpp"
#include "kernels/row_sums.hpp"
#include "kernels/vector_math.hpp"

namespace parsimony::kernels {

namespace {

/// What to subtract before exp: the largest entry, or 0 where that is infinite.
template <class T>
T shift_of(std::int64_t n, const T* x) {
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return std::isfinite(largest) ? largest : T(0);
}

/// y = exp(x - shift); returns Σ y.
template <class T>
double exp_row(std::int64_t n, const T* x, T shift, T* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] - shift;
  exp_span(n, y, y);
  return sum_of(n, [=](std::int64_t i) { return y[i]; });
}

/// log Σ exp(x), through blocks on the stack.
template <class T>
double logsumexp_row(std::int64_t n, const T* x) {
  constexpr std::int64_t block = 256;
  T scratch[block];
  const T shift = shift_of(n, x);
  double total = 0;
  for (std::int64_t i = 0; i < n; i += block) {
    total += exp_row(std::min(block, n - i), x + i, shift, scratch);
  }
  return static_cast<double>(shift) + std::log(total);
}

/// f(row) for every row.
template <class F>
void for_rows(std::int64_t rows, std::int64_t cost, F f) {
  parallel_for(rows, cost, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) f(r);
  });
}

}  // namespace

template <class T>
void softmax_rows(std::int64_t rows, std::int64_t cols, const T* x, T* y) {
  for_rows(rows, cols * transcendental_cost, [=](std::int64_t r) {
    T* yr = y + r * cols;
    const double total = exp_row(cols, x + r * cols, shift_of(cols, x + r * cols), yr);
    const T inverse = static_cast<T>(1.0 / total);
    for (std::int64_t i = 0; i < cols; ++i) yr[i] *= inverse;
  });
}

template <class T>
void softmax_rows_backward(std::int64_t rows, std::int64_t cols, const T* y, const T* dy, T* dx) {
  for_rows(rows, 3 * cols, [=](std::int64_t r) {
    const T* yr = y + r * cols;
    const T* gr = dy + r * cols;
    T* out = dx + r * cols;
    const T inner = static_cast<T>(sum_of(cols, [=](std::int64_t i) { return yr[i] * gr[i]; }));
    for (std::int64_t i = 0; i < cols; ++i) out[i] = yr[i] * (gr[i] - inner);
  });
}

template <class T>
void logsumexp_rows(std::int64_t rows, std::int64_t cols, const T* x, T* out) {
  for_rows(rows, cols * transcendental_cost,
           [=](std::int64_t r) { out[r] = static_cast<T>(logsumexp_row(cols, x + r * cols)); });
}

template <class T>
void logsumexp_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* out,
                             const T* dout, T* dx) {
  for_rows(rows, cols * transcendental_cost, [=](std::int64_t r) {
    T* dr = dx + r * cols;
    const T* xr = x + r * cols;
    for (std::int64_t i = 0; i < cols; ++i) dr[i] = xr[i] - out[r];
    exp_span(cols, dr, dr);
    for (std::int64_t i = 0; i < cols; ++i) dr[i] *= dout[r];
  });
}

template <class T>
void log_softmax_rows(std::int64_t rows, std::int64_t cols, const T* x, T* y) {
  for_rows(rows, cols * transcendental_cost, [=](std::int64_t r) {
    const T* xr = x + r * cols;
    T* yr = y + r * cols;
    // The shift first: x - logsumexp(x) in one go would lose the small differences of large x.
    const T shift = shift_of(cols, xr);
    const double log_total = std::log(exp_row(cols, xr, shift, yr));
    for (std::int64_t i = 0; i < cols; ++i) yr[i] = (xr[i] - shift) - static_cast<T>(log_total);
  });
}

template <class T>
void log_softmax_rows_backward(std::int64_t rows, std::int64_t cols, const T* y, const T* dy,
                               T* dx) {
  for_rows(rows, cols * transcendental_cost, [=](std::int64_t r) {
    const T* gr = dy + r * cols;
    T* out = dx + r * cols;
    const T total = static_cast<T>(sum_of(cols, [=](std::int64_t i) { return gr[i]; }));
    exp_span(cols, y + r * cols, out);
    for (std::int64_t i = 0; i < cols; ++i) out[i] = gr[i] - out[i] * total;
  });
}

template <class T>
void layer_norm_rows(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                     const T* bias, double eps, T* y, T* mean, T* rstd) {
  const auto n = static_cast<double>(cols);
  for_rows(rows, 4 * cols, [=](std::int64_t r) {
    const T* xr = x + r * cols;
    T* yr = y + r * cols;
    const double m = sum_of(cols, [=](std::int64_t i) { return xr[i]; }) / n;
    const double variance = sum_of(cols,
                                   [=](std::int64_t i) {
                                     const double centred = static_cast<double>(xr[i]) - m;
                                     return centred * centred;
                                   }) /
                            n;
    const T mr = mean[r] = static_cast<T>(m);
    const T sr = rstd[r] = static_cast<T>(1.0 / std::sqrt(variance + eps));
    for (std::int64_t i = 0; i < cols; ++i) yr[i] = (xr[i] - mr) * sr * weight[i] + bias[i];
  });
}

template <class T>
void layer_norm_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                              const T* mean, const T* rstd, const T* dy, T* dx) {
  const auto n = static_cast<double>(cols);
  for_rows(rows, 6 * cols, [=](std::int64_t r) {
    const T* xr = x + r * cols;
    const T* gr = dy + r * cols;
    T* out = dx + r * cols;
    const T mr = mean[r];
    const T sr = rstd[r];
    const auto g = [=](std::int64_t i) { return gr[i] * weight[i]; };
    const auto normal = [=](std::int64_t i) { return (xr[i] - mr) * sr; };
    const T g_mean = static_cast<T>(sum_of(cols, g) / n);
    const T gn_mean =
        static_cast<T>(sum_of(cols, [=](std::int64_t i) { return g(i) * normal(i); }) / n);
    for (std::int64_t i = 0; i < cols; ++i) out[i] = sr * (g(i) - g_mean - normal(i) * gn_mean);
  });
}

template <class T>
void rms_norm_rows(std::int64_t rows, std::int64_t cols, const T* x, const T* weight, double eps,
                   T* y, T* rstd) {
  const auto n = static_cast<double>(cols);
  for_rows(rows, 3 * cols, [=](std::int64_t r) {
    const T* xr = x + r * cols;
    T* yr = y + r * cols;
    const double square = sum_of(cols,
                                 [=](std::int64_t i) {
                                   const auto v = static_cast<double>(xr[i]);
                                   return v * v;
                                 }) /
                          n;
    const T sr = rstd[r] = static_cast<T>(1.0 / std::sqrt(square + eps));
    for (std::int64_t i = 0; i < cols; ++i) yr[i] = xr[i] * sr * weight[i];
  });
}

template <class T>
void rms_norm_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                            const T* rstd, const T* dy, T* dx) {
  const auto n = static_cast<double>(cols);
  for_rows(rows, 4 * cols, [=](std::int64_t r) {
    const T* xr = x + r * cols;
    const T* gr = dy + r * cols;
    T* out = dx + r * cols;
    const T sr = rstd[r];
    const T gn_mean = static_cast<T>(
        sum_of(cols, [=](std::int64_t i) { return gr[i] * weight[i] * (xr[i] * sr); }) / n);
    for (std::int64_t i = 0; i < cols; ++i) {
      out[i] = sr * (gr[i] * weight[i] - xr[i] * sr * gn_mean);
    }
  });
}

namespace {

constexpr std::int64_t column_block = 128;

/// out[c] = Σ_r f(r, c): threads take blocks of columns, so that each sum has one order.
template <class T, class F>
void sum_rows(std::int64_t rows, std::int64_t cols, T* out, F f) {
  const std::int64_t blocks = (cols + column_block - 1) / column_block;
  parallel_for(blocks, rows * column_block, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t begin = b * column_block;
      const std::int64_t width = std::min(column_block, cols - begin);
      double total[column_block] = {};
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < width; ++j) {
          total[j] += static_cast<double>(f(r, begin + j));
        }
      }
      for (std::int64_t j = 0; j < width; ++j) out[begin + j] = static_cast<T>(total[j]);
    }
  });
}

}  // namespace

template <class T>
void norm_weight_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* mean,
                          const T* rstd, const T* dy, T* dweight) {
  if (mean == nullptr) {
    sum_rows(rows, cols, dweight, [=](std::int64_t r, std::int64_t c) {
      return dy[r * cols + c] * x[r * cols + c] * rstd[r];
    });
  } else {
    sum_rows(rows, cols, dweight, [=](std::int64_t r, std::int64_t c) {
      return dy[r * cols + c] * (x[r * cols + c] - mean[r]) * rstd[r];
    });
  }
}

template <class T>
void sum_axis(std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, T* out) {
  if (inner == 1) {
    for_rows(outer, n, [=](std::int64_t o) {
      out[o] = static_cast<T>(sum_of(n, [row = x + o * n](std::int64_t i) { return row[i]; }));
    });
  } else if (outer == 1) {
    sum_rows(n, inner, out, [=](std::int64_t r, std::int64_t c) { return x[r * inner + c]; });
  } else {
    for_rows(outer, n * inner, [=](std::int64_t o) {
      const T* block = x + o * n * inner;
      sum_rows(n, inner, out + o * inner,
               [=](std::int64_t r, std::int64_t c) { return block[r * inner + c]; });
    });
  }
}

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template void softmax_rows(std::int64_t, std::int64_t, const T*, T*);                            \
  template void softmax_rows_backward(std::int64_t, std::int64_t, const T*, const T*, T*);         \
  template void logsumexp_rows(std::int64_t, std::int64_t, const T*, T*);                          \
  template void logsumexp_rows_backward(std::int64_t, std::int64_t, const T*, const T*, const T*,  \
                                        T*);                                                       \
  template void log_softmax_rows(std::int64_t, std::int64_t, const T*, T*);                        \
  template void log_softmax_rows_backward(std::int64_t, std::int64_t, const T*, const T*, T*);     \
  template void layer_norm_rows(std::int64_t, std::int64_t, const T*, const T*, const T*, double,  \
                                T*, T*, T*);                                                       \
  template void layer_norm_rows_backward(std::int64_t, std::int64_t, const T*, const T*, const T*, \
                                         const T*, const T*, T*);                                  \
  template void rms_norm_rows(std::int64_t, std::int64_t, const T*, const T*, double, T*, T*);     \
  template void rms_norm_rows_backward(std::int64_t, std::int64_t, const T*, const T*, const T*,   \
                                       const T*, T*);                                              \
  template void norm_weight_backward(std::int64_t, std::int64_t, const T*, const T*, const T*,     \
                                     const T*, T*);                                                \
  template void sum_axis(std::int64_t, std::int64_t, std::int64_t, const T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
