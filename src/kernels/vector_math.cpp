#include "kernels/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
namespace math {

using xsimd::tanh;

/// xsimd's bitwise_cast, whose template argument is another thing from version to version.
template <class To, class From>
To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

/// Cephes' exp and fdlibm's, as xsimd has them, but with 2^k in two factors: xsimd's one is out of
/// range at the ends, where its result is 0 below the smallest normal number and infinite within √2
/// of the largest. x = k log 2 + r with |r| <= log(2)/2; a sum with `round` has the whole number,
/// and what the exponent's field adds to it, in its last bits.
template <class A>
xsimd::batch<float, A> exp(const xsimd::batch<float, A>& any) {
  using V = xsimd::batch<float, A>;
  using Bits = xsimd::batch<std::int32_t, A>;
  const V round(0x1.8p23F + 127);
  const V twice(0x1.8p23F + 2 * 127);
  const V x = xsimd::min(V(89.0F), xsimd::max(V(-104.0F), any));  // the second where one is NaN
  const V whole = xsimd::fma(x, V(1.44269504F), twice);
  const V half = xsimd::fma(x, V(0.72134752F), round);
  const V k = whole - twice;
  const V r = xsimd::fma(k, V(2.12194440e-4F), xsimd::fnma(k, V(0.693359375F), x));
  V e = xsimd::fma(r, V(1.3997796e-3F), V(8.3955629e-3F));
  e = xsimd::fma(r, e, V(4.1665401e-2F));
  e = xsimd::fma(r, e, V(1.6666277e-1F));
  e = xsimd::fma(r, e, V(0.5F));
  e = xsimd::fma(e, r * r, r) + V(1.0F);
  const Bits a = bits_as<Bits>(half);
  const Bits b = bits_as<Bits>(whole) - a;
  return e * bits_as<V>(a << 23) * bits_as<V>(b << 23);
}
template <class A>
xsimd::batch<double, A> exp(const xsimd::batch<double, A>& any) {
  using V = xsimd::batch<double, A>;
  using Bits = xsimd::batch<std::int64_t, A>;
  const V round(0x1.8p52 + 1023);
  const V twice(0x1.8p52 + 2 * 1023);
  const V x = xsimd::min(V(710.0), xsimd::max(V(-746.0), any));
  const V whole = xsimd::fma(x, V(1.4426950408889634), twice);
  const V half = xsimd::fma(x, V(0.7213475204444817), round);
  const V k = whole - twice;
  const V high = xsimd::fnma(k, V(0x1.62e42feep-1), x);
  const V low = k * V(0x1.a39ef35793c76p-33);
  const V r = high - low;
  const V square = r * r;
  V c = xsimd::fma(square, V(0x1.6376972bea4dp-25), V(-0x1.bbd41c5d26bf1p-20));
  c = xsimd::fma(square, c, V(0x1.1566aaf25de2cp-14));
  c = xsimd::fma(square, c, V(-0x1.6c16c16bebd93p-9));
  c = xsimd::fma(square, c, V(0x1.555555555553ep-3));
  c = xsimd::fnma(square, c, r);
  const V e = V(1.0) - ((low - r * c / (V(2.0) - c)) - high);
  const Bits a = bits_as<Bits>(half);
  const Bits b = bits_as<Bits>(whole) - a;
  return e * bits_as<V>(a << 52) * bits_as<V>(b << 52);
}

/// Minimax fits, made in 113 bits: erf(x) = x + x p(x²) for 0 <= x <= 1, and 1 - exp(-q(x)) from
/// there to where it is 1. Lowest power first, of even number.
template <class T>
struct ErfFit;
template <>
struct ErfFit<float> {
  static constexpr float p[] = {0.128379127F,   -0.376123355F,  0.112802313F,
                                -0.0267124597F, 0.00491868105F, -0.000563547012F};
  static constexpr float q[] = {-0.000188461942F, 1.12958029F,    0.633216445F,    0.108422051F,
                                -0.0252103112F,   0.00420527483F, -0.00044147078F, 2.16974661e-05F};
  static constexpr float end = 4.0F;
};
template <>
struct ErfFit<double> {
  static constexpr double p[] = {
      0.12837916709551256,     -0.37612638903183526,    0.11283791670944401,
      -0.026866170643137396,   0.005223977606289603,    -0.00085483259361915863,
      0.00012055293754028562,  -1.4924715289157289e-05, 1.6447164398479815e-06,
      -1.6206540241756357e-07, 1.3711871157950566e-08,  -7.7809920908099575e-10};
  static constexpr double q[] = {
      5.0283457578503642e-07,  1.1283740896174383,      0.63664362747915881,
      0.10270344113116832,     -0.018990181785004535,   -0.00041062405784796497,
      0.0019159396108701346,   -0.00077064050853250013, 0.00013504889804103045,
      2.0267264972748659e-05,  -2.2822689348055712e-05, 8.6672064149281359e-06,
      -2.1356837951482832e-06, 3.7330329408414301e-07,  -4.6422837334539794e-08,
      3.934246058139112e-09,   -2.0449505954884273e-10, 4.9285814999440624e-12};
  static constexpr double end = 6.0;
};

/// c₀ + c₁ x + c₂ x² + …, the even powers beside the odd ones, which halves the wait of one sum for
/// the other.
template <class V, class T, std::size_t n>
V polynomial(const V& x, const T (&c)[n]) {
  static_assert(n % 2 == 0);
  const V square = x * x;
  V even(c[n - 2]);
  V odd(c[n - 1]);
  for (std::size_t k = n - 2; k > 0; k -= 2) {
    even = xsimd::fma(even, square, V(c[k - 2]));
    odd = xsimd::fma(odd, square, V(c[k - 1]));
  }
  return xsimd::fma(odd, x, even);
}

/// Where xsimd's double loses 68 units in the last place near 2.2 and is NaN from 1e62.
template <class T, class A>
xsimd::batch<T, A> erf(const xsimd::batch<T, A>& x) {
  using V = xsimd::batch<T, A>;
  using Fit = ErfFit<T>;
  const V size = xsimd::abs(x);
  const auto small = size < V(T(1));
  const V near = xsimd::fma(x, polynomial(x * x, Fit::p), x);
  if (xsimd::all(small)) return near;
  // A NaN is above nothing and stays.
  const V clamped = xsimd::select(size > V(Fit::end), V(Fit::end), size);
  const V far = V(T(1)) - exp(-polynomial(clamped, Fit::q));
  return xsimd::select(small, near, xsimd::select(x < V(T(0)), -far, far));
}

}  // namespace math

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
