// Kernels of a low-rank update of a weight, W + left right with left (out, r), right (r, in) and r
// small. BLAS runs products of eight columns at a quarter of its rate; these keep the eight sums in
// registers and read every row of x and dy once.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// Ranks up to this are served; above, BLAS is as good.
inline constexpr std::int64_t low_rank_most = 32;

/// w_out (out, in) = w + left right.
template <class T>
void low_rank_updated(std::int64_t out, std::int64_t in, std::int64_t rank, const T* w,
                      const T* left, const T* right, T* w_out);

/// Gradients of left and right in y = x (W + left right)ᵀ:
///   dleft = dyᵀ p, dright = qᵀ x with p = x rightᵀ and q = dy left, both (rows, rank).
/// Sums run over fixed chunks of rows in order: the same bits for any number of threads.
template <class T>
void low_rank_gradients(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t rank,
                        const T* x, const T* dy, const T* left, const T* right, T* dleft,
                        T* dright);

}  // namespace parsimony::kernels
