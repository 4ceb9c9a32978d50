// Sums (in double) and maxima along a row in a fixed order that the compiler may vectorise.
#pragma once

#include <cstdint>
#include <limits>

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

/// max x over [0, n), -inf for none, in sixteen interleaved maxima; NaN may or may not be seen.
template <class T>
T max_of(std::int64_t n, const T* x) {
  constexpr std::int64_t lanes = 16;
  T partial[lanes];
  for (T& p : partial) p = -std::numeric_limits<T>::infinity();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j)
      partial[j] = x[i + j] > partial[j] ? x[i + j] : partial[j];
  }
  for (; i < n; ++i) partial[0] = x[i] > partial[0] ? x[i] : partial[0];
  T largest = partial[0];
  for (const T p : partial) largest = p > largest ? p : largest;
  return largest;
}

}  // namespace parsimony::kernels
