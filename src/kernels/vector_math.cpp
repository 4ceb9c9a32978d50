#include "kernels/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

// g++ 12 takes the deliberately undefined operand inside its own AVX-512 intrinsics for a mistake
// of ours (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#if __has_include(<xsimd/xsimd.hpp>)
#include <xsimd/xsimd.hpp>
#define PARSIMONY_XSIMD 1
#endif

namespace parsimony::kernels {

namespace {

#ifdef PARSIMONY_XSIMD
namespace math = xsimd;

/// The rest of a span goes through a padded vector rather than a scalar loop, whose results would
/// differ in the last bits from those of the lanes.
template <class T, class F>
void apply(std::int64_t n, const T* x, T* y, F f) {
  using Lanes = xsimd::batch<T>;
  constexpr auto width = static_cast<std::int64_t>(Lanes::size);
  std::int64_t i = 0;
  for (; i + width <= n; i += width) f(Lanes::load_unaligned(x + i)).store_unaligned(y + i);
  if (i == n) return;
  T rest[Lanes::size] = {};
  std::copy(x + i, x + n, rest);
  f(Lanes::load_unaligned(rest)).store_unaligned(rest);
  std::copy(rest, rest + (n - i), y + i);
}

/// The same for a function of two results.
template <class T, class F>
void apply_two(std::int64_t n, const T* x, T* y, T* z, F f) {
  using Batch = xsimd::batch<T>;
  constexpr auto width = static_cast<std::int64_t>(Batch::size);
  std::int64_t i = 0;
  for (; i + width <= n; i += width) {
    const auto [first, second] = f(Batch::load_unaligned(x + i));
    first.store_unaligned(y + i);
    second.store_unaligned(z + i);
  }
  if (i == n) return;
  T rest[2][Batch::size] = {};
  std::copy(x + i, x + n, rest[0]);
  const auto [first, second] = f(Batch::load_unaligned(rest[0]));
  first.store_unaligned(rest[0]);
  second.store_unaligned(rest[1]);
  std::copy(rest[0], rest[0] + (n - i), y + i);
  std::copy(rest[1], rest[1] + (n - i), z + i);
}
#else
namespace math = std;

template <class T, class F>
void apply(std::int64_t n, const T* x, T* y, F f) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class T, class F>
void apply_two(std::int64_t n, const T* x, T* y, T* z, F f) {
  for (std::int64_t i = 0; i < n; ++i) std::tie(y[i], z[i]) = f(x[i]);
}
#endif

constexpr double inverse_sqrt2 = 0.70710678118654752440;
constexpr double inverse_sqrt_2pi = 0.39894228040143267794;
constexpr double two_over_sqrt_pi = 1.12837916709551257390;

}  // namespace

template <class T>
void exp_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) { return math::exp(v); });
}

template <class T>
void tanh_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) { return math::tanh(v); });
}

template <class T>
void sigmoid_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) {
    using V = decltype(v);
    return V(T(1)) / (V(T(1)) + math::exp(-v));
  });
}

template <class T>
void erf_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) { return math::erf(v); });
}

template <class T>
void erf_slope_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) {
    using V = decltype(v);
    return V(static_cast<T>(two_over_sqrt_pi)) * math::exp(-(v * v));
  });
}

template <class T>
void gelu_span(std::int64_t n, const T* x, T* y) {
  apply(n, x, y, [](auto v) {
    using V = decltype(v);
    return V(T(0.5)) * v * (V(T(1)) + math::erf(v * V(static_cast<T>(inverse_sqrt2))));
  });
}

template <class T>
void gelu_and_slope_span(std::int64_t n, const T* x, T* y, T* slope) {
  apply_two(n, x, y, slope, [](auto v) {
    using V = decltype(v);
    const V cdf = V(T(0.5)) * (V(T(1)) + math::erf(v * V(static_cast<T>(inverse_sqrt2))));
    const V pdf = V(static_cast<T>(inverse_sqrt_2pi)) * math::exp(V(T(-0.5)) * v * v);
    return std::make_pair(v * cdf, cdf + v * pdf);
  });
}

#define PARSIMONY_INSTANTIATE(T)                            \
  template void exp_span(std::int64_t, const T*, T*);       \
  template void tanh_span(std::int64_t, const T*, T*);      \
  template void sigmoid_span(std::int64_t, const T*, T*);   \
  template void erf_span(std::int64_t, const T*, T*);       \
  template void erf_slope_span(std::int64_t, const T*, T*); \
  template void gelu_span(std::int64_t, const T*, T*);      \
  template void gelu_and_slope_span(std::int64_t, const T*, T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
