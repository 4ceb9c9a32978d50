// Sums along a row in double and in a fixed order that the compiler may vectorise.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// Σ f(i) over [0, n) in eight interleaved sums.
template <class F>
double sum_of(std::int64_t n, F f) {
  constexpr std::int64_t lanes = 8;
  double partial[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j) partial[j] += static_cast<double>(f(i + j));
  }
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(f(i));
  for (const double p : partial) total += p;
  return total;
}

}  // namespace parsimony::kernels
