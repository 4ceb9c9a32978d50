// The vectors that the matrix kernels are written in: AVX-512 with its masks, or AVX2 with fused
// multiply-adds. PARSIMONY_GEMM_LANES is defined where the build has either.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#define PARSIMONY_GEMM_LANES

#include <immintrin.h>

namespace parsimony::kernels {

/// The operations on one vector; a mask says which of its first lanes exist.
template <class T>
struct GemmLanes;

#ifdef __AVX512F__

template <>
struct GemmLanes<float> {
  using Vec = __m512;
  using Mask = __mmask16;
  static constexpr int count = 16;
  static constexpr bool masks_are_free = true;
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec all(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* x) { return _mm512_loadu_ps(x); }
  static Vec load(const float* x, Mask m) { return _mm512_maskz_loadu_ps(m, x); }
  static void store(float* x, Vec v) { _mm512_storeu_ps(x, v); }
  static void store(float* x, Vec v, Mask m) { _mm512_mask_storeu_ps(x, m, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec pick(Vec a, const int* lanes, Vec b) {
    return _mm512_permutex2var_ps(a, _mm512_loadu_si512(lanes), b);
  }
  using Index = int;
};

template <>
struct GemmLanes<double> {
  using Vec = __m512d;
  using Mask = __mmask8;
  static constexpr int count = 8;
  static constexpr bool masks_are_free = true;
  static Vec zero() { return _mm512_setzero_pd(); }
  static Vec all(double x) { return _mm512_set1_pd(x); }
  static Vec load(const double* x) { return _mm512_loadu_pd(x); }
  static Vec load(const double* x, Mask m) { return _mm512_maskz_loadu_pd(m, x); }
  static void store(double* x, Vec v) { _mm512_storeu_pd(x, v); }
  static void store(double* x, Vec v, Mask m) { _mm512_mask_storeu_pd(x, m, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_pd(a, b, c); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_pd(a, b); }
  static Vec pick(Vec a, const long long* lanes, Vec b) {
    return _mm512_permutex2var_pd(a, _mm512_loadu_si512(lanes), b);
  }
  using Index = long long;
};

template <class T>
typename GemmLanes<T>::Mask first_lanes(std::int64_t n) {
  constexpr int lanes = GemmLanes<T>::count;
  return static_cast<typename GemmLanes<T>::Mask>(n >= lanes ? (1U << lanes) - 1 : (1U << n) - 1);
}

/// A block of a square matrix, as many rows as lanes, transposed: exchanges ever smaller corners.
template <class T>
[[gnu::always_inline]] inline void transpose(typename GemmLanes<T>::Vec (&x)[GemmLanes<T>::count]) {
  using V = GemmLanes<T>;
  constexpr int n = V::count;
#pragma GCC unroll 4
  for (int half = n / 2; half > 0; half /= 2) {
    typename V::Index upper[n], lower[n];
    for (int l = 0; l < n; ++l) {
      upper[l] = (l & half) == 0 ? l : l - half + n;
      lower[l] = (l & half) == 0 ? l + half : l + n;
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
      if ((i & half) != 0) continue;
      const typename V::Vec u = x[i];
      x[i] = V::pick(u, upper, x[i + half]);
      x[i + half] = V::pick(u, lower, x[i + half]);
    }
  }
}

#else

/// AVX2 masks a load by the sign bits of a vector; a store of some lanes goes through memory, for
/// AMD's CPUs take 40 cycles to mask one.
struct FirstLanes {
  __m256i signs;
  std::int64_t count;
};

template <>
struct GemmLanes<float> {
  using Vec = __m256;
  using Mask = FirstLanes;
  static constexpr int count = 8;
  static constexpr bool masks_are_free = false;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec all(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* x) { return _mm256_loadu_ps(x); }
  static Vec load(const float* x, Mask m) { return _mm256_maskload_ps(x, m.signs); }
  static void store(float* x, Vec v) { _mm256_storeu_ps(x, v); }
  static void store(float* x, Vec v, Mask m) {
    if (m.count == count) return store(x, v);
    store_some(x, v, m.count);
  }
  // Not inline, or the sums of a tile would not stay in registers.
  [[gnu::noinline]] static void store_some(float* x, Vec v, std::int64_t n) {
    float lanes[count];
    store(lanes, v);
    std::memcpy(x, lanes, static_cast<std::size_t>(n) * sizeof(float));
  }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Mask mask(std::int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes), n};
  }
};

template <>
struct GemmLanes<double> {
  using Vec = __m256d;
  using Mask = FirstLanes;
  static constexpr int count = 4;
  static constexpr bool masks_are_free = false;
  static Vec zero() { return _mm256_setzero_pd(); }
  static Vec all(double x) { return _mm256_set1_pd(x); }
  static Vec load(const double* x) { return _mm256_loadu_pd(x); }
  static Vec load(const double* x, Mask m) { return _mm256_maskload_pd(x, m.signs); }
  static void store(double* x, Vec v) { _mm256_storeu_pd(x, v); }
  static void store(double* x, Vec v, Mask m) {
    if (m.count == count) return store(x, v);
    store_some(x, v, m.count);
  }
  // Not inline, or the sums of a tile would not stay in registers.
  [[gnu::noinline]] static void store_some(double* x, Vec v, std::int64_t n) {
    double lanes[count];
    store(lanes, v);
    std::memcpy(x, lanes, static_cast<std::size_t>(n) * sizeof(double));
  }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_pd(a, b, c); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_pd(a, b); }
  static Mask mask(std::int64_t n) {
    const __m256i lanes = _mm256_setr_epi64x(0, 1, 2, 3);
    return {_mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lanes), n};
  }
};

template <class T>
FirstLanes first_lanes(std::int64_t n) {
  constexpr std::int64_t lanes = GemmLanes<T>::count;
  return GemmLanes<T>::mask(n < lanes ? n : lanes);
}

/// A block of a square matrix, as many rows as lanes, transposed.
template <class T>
void transpose(typename GemmLanes<T>::Vec (&x)[GemmLanes<T>::count]);

template <>
[[gnu::always_inline]] inline void transpose<double>(__m256d (&x)[4]) {
  const __m256d a = _mm256_unpacklo_pd(x[0], x[1]);
  const __m256d b = _mm256_unpackhi_pd(x[0], x[1]);
  const __m256d c = _mm256_unpacklo_pd(x[2], x[3]);
  const __m256d d = _mm256_unpackhi_pd(x[2], x[3]);
  x[0] = _mm256_permute2f128_pd(a, c, 0x20);
  x[1] = _mm256_permute2f128_pd(b, d, 0x20);
  x[2] = _mm256_permute2f128_pd(a, c, 0x31);
  x[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

template <>
[[gnu::always_inline]] inline void transpose<float>(__m256 (&x)[8]) {
  __m256 pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  __m256 fours[8];
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
  }
}

#endif

}  // namespace parsimony::kernels

#endif
