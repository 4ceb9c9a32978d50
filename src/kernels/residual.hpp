// Residual of a squared loss and the sum of its squares, in one pass over memory.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// r = a - b, or 0 where a mask is given and 0; returns Σ r², the same bits for any thread count.
template <class T>
double residual(std::int64_t n, const T* a, const T* b, const std::uint8_t* mask, T* r);

/// Σ a b in the order of blocked_sum.
template <class T>
double dot(std::int64_t n, const T* a, const T* b);

}  // namespace parsimony::kernels
