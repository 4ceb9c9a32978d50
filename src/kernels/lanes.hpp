// Vectors of the CPU's width for kernels that keep their sums in registers by hand. GCC's (from 12)
// and clang's vector types, so that the same source serves every CPU.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace parsimony::kernels {

#if defined(__AVX512F__)
inline constexpr int lane_bytes = 64;
#elif defined(__AVX__)
inline constexpr int lane_bytes = 32;
#else
inline constexpr int lane_bytes = 16;
#endif

template <class T>
struct LanesOf;
template <>
struct LanesOf<float> {
  using Type __attribute__((vector_size(lane_bytes))) = float;
};
template <>
struct LanesOf<double> {
  using Type __attribute__((vector_size(lane_bytes))) = double;
};
template <class T>
using Lanes = typename LanesOf<T>::Type;

template <class T>
inline constexpr int lane_count = lane_bytes / static_cast<int>(sizeof(T));

template <class T>
inline Lanes<T> load(const T* from) {
  Lanes<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
inline void store(T* to, const Lanes<T>& v) {
  std::memcpy(to, &v, sizeof v);
}

/// One level of a transposing sum: runs of `step` lanes of a and b in turn, each with the run after
/// it added.
template <int step, class T, int... i>
inline Lanes<T> fold(const Lanes<T>& a, const Lanes<T>& b, std::integer_sequence<int, i...>) {
  constexpr int n = lane_count<T>;
  return __builtin_shufflevector(a, b, (i % (2 * step) < step ? i : i - step + n)...) +
         __builtin_shufflevector(a, b, (i % (2 * step) < step ? i + step : i + n)...);
}
template <int step, class T>
inline Lanes<T> fold(const Lanes<T>& a, const Lanes<T>& b) {
  return fold<step, T>(a, b, std::make_integer_sequence<int, lane_count<T>>());
}

/// out[k] += Σ of the lanes of v[k], the eight sums side by side; the order of addition is fixed.
template <class T>
inline void add_lane_sums(Lanes<T> (&v)[8], T* out) {
  constexpr int n = lane_count<T>;
  for (int k = 0; k < 4; ++k) v[k] = fold<1, T>(v[2 * k], v[2 * k + 1]);
  if constexpr (n >= 4) {
    for (int k = 0; k < 2; ++k) v[k] = fold<2, T>(v[2 * k], v[2 * k + 1]);
  }
  if constexpr (n >= 8) v[0] = fold<4, T>(v[0], v[1]);
  if constexpr (n > 8) {
    const auto low = __builtin_shufflevector(v[0], v[0], 0, 1, 2, 3, 4, 5, 6, 7);
    const auto high = __builtin_shufflevector(v[0], v[0], 8, 9, 10, 11, 12, 13, 14, 15);
    auto total = low;
    std::memcpy(&total, out, sizeof total);
    total += low + high;
    std::memcpy(out, &total, sizeof total);
  } else {
    for (int k = 0; k < 8 / n; ++k) store(out + k * n, load(out + k * n) + v[k]);
  }
}

}  // namespace parsimony::kernels
