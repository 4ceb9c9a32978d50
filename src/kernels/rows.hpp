// Kernels over the rows (last axis) of a contiguous (rows, cols) block: softmax and its logarithm,
// log-sum-exp, layer norm and RMS norm, forward and backward, with the OpenMP threads sharing the
// rows. Sums run in double and in a fixed order: the same bits for any number of threads.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// y = exp(x - max) / Σ exp(x - max)
template <class T>
void softmax_rows(std::int64_t rows, std::int64_t cols, const T* x, T* y);
/// dx = y (dy - <y, dy>)
template <class T>
void softmax_rows_backward(std::int64_t rows, std::int64_t cols, const T* y, const T* dy, T* dx);

/// out[r] = log Σ_c exp(x[r, c]); -inf for an empty row.
template <class T>
void logsumexp_rows(std::int64_t rows, std::int64_t cols, const T* x, T* out);
/// dx = exp(x - out[r]) dout[r]
template <class T>
void logsumexp_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* out,
                             const T* dout, T* dx);

/// y = x - logsumexp(x)
template <class T>
void log_softmax_rows(std::int64_t rows, std::int64_t cols, const T* x, T* y);
/// dx = dy - exp(y) Σ dy
template <class T>
void log_softmax_rows_backward(std::int64_t rows, std::int64_t cols, const T* y, const T* dy,
                               T* dx);

/// y = (x - mean) rstd weight + bias with rstd = 1 / sqrt(var + eps), biased variance; mean and
/// rstd (rows) are kept for backward.
template <class T>
void layer_norm_rows(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                     const T* bias, double eps, T* y, T* mean, T* rstd);
/// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - avg(g) - n avg(g n)).
template <class T>
void layer_norm_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                              const T* mean, const T* rstd, const T* dy, T* dx);

/// y = x rstd weight with rstd = 1 / sqrt(avg(x²) + eps), kept for backward.
template <class T>
void rms_norm_rows(std::int64_t rows, std::int64_t cols, const T* x, const T* weight, double eps,
                   T* y, T* rstd);
/// With n = x rstd and g = dy weight: dx = rstd (g - n avg(g n)).
template <class T>
void rms_norm_rows_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* weight,
                            const T* rstd, const T* dy, T* dx);

/// Gradient of either norm's weight, dweight[c] = Σ_r dy (x - mean) rstd; mean may be null (RMS).
template <class T>
void norm_weight_backward(std::int64_t rows, std::int64_t cols, const T* x, const T* mean,
                          const T* rstd, const T* dy, T* dweight);

/// out[o, i] = Σ_a x[o, a, i] for x (outer, n, inner).
template <class T>
void sum_axis(std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, T* out);

}  // namespace parsimony::kernels
