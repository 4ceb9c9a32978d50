// Rotary positions (Su et al. 2021) on (batch, length, heads * 2 half) blocks.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// Turns each pair (t, t + half) of a head by the angle of its position: (a, b) to
/// (a cos - b sin, b cos + a sin), or with `back` by the opposite angle. cos, sin (length, half).
template <class T>
void rotate_halves(std::int64_t batch, std::int64_t length, std::int64_t heads, std::int64_t half,
                   const T* cos, const T* sin, bool back, const T* x, T* y);

}  // namespace parsimony::kernels
