#include "kernels/residual.hpp"

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

namespace {

/// Σ a b over a block, in independent lanes so that it vectorises in a fixed order.
template <class T>
double block_dot(std::int64_t n, const T* a, const T* b) {
  constexpr std::int64_t width = 32;
  double lanes[width] = {};
  std::int64_t i = 0;
  for (; i + width <= n; i += width) {
    for (std::int64_t j = 0; j < width; ++j) {
      lanes[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
    }
  }
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const double lane : lanes) total += lane;
  return total;
}

}  // namespace

template <class T>
double residual(std::int64_t n, const T* a, const T* b, const std::uint8_t* mask, T* r) {
  return blocked_sum(n, [=](std::int64_t first, std::int64_t last) {
    if (mask != nullptr) {
      for (std::int64_t i = first; i < last; ++i) r[i] = mask[i] != 0 ? a[i] - b[i] : T(0);
    } else {
      for (std::int64_t i = first; i < last; ++i) r[i] = a[i] - b[i];
    }
    return block_dot(last - first, r + first, r + first);
  });
}

template <class T>
double dot(std::int64_t n, const T* a, const T* b) {
  return blocked_sum(n, [=](std::int64_t first, std::int64_t last) {
    return block_dot(last - first, a + first, b + first);
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                       \
  template double residual(std::int64_t, const T*, const T*, const std::uint8_t*, T*); \
  template double dot(std::int64_t, const T*, const T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
