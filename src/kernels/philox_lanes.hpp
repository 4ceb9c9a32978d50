// Philox blocks of eight counters at a time, in the CPU's vectors where it has some.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/philox.hpp"

#ifdef __AVX2__
#define PARSIMONY_WORDS
#include <immintrin.h>
#endif

namespace parsimony::philox {

/// The round keys of a key, words alternating.
struct Schedule {
  std::uint64_t words[2 * rounds];
};

inline Schedule schedule(std::uint64_t key) {
  Schedule s;
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (std::ptrdiff_t round = 0; round < rounds; ++round) {
    s.words[2 * round] = k0;
    s.words[2 * round + 1] = k1;
    k0 += weyl0;
    k1 += weyl1;
  }
  return s;
}

constexpr int counters_at_once = 8;

#ifdef PARSIMONY_WORDS

#ifdef __AVX512F__
using Words = __m512i;  // of eight lanes
// The forms with a mask, all of it set, which the compiler drops: those without one warn.
constexpr __mmask8 every = 0xFF;
inline Words load(const std::uint64_t* x) { return _mm512_loadu_si512(x); }
inline Words all_words(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
inline Words multiply(Words a, Words b) { return _mm512_maskz_mul_epu32(every, a, b); }
inline Words upper(Words x) { return _mm512_maskz_srli_epi64(every, x, 32); }
inline Words exclusive_or(Words a, Words b, Words c) {
  constexpr int three_way = 0x96;
  return _mm512_ternarylogic_epi64(a, b, c, three_way);
}
#else
using Words = __m256i;  // of four lanes
inline Words load(const std::uint64_t* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}
inline Words all_words(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
inline Words multiply(Words a, Words b) { return _mm256_mul_epu32(a, b); }
inline Words upper(Words x) { return _mm256_srli_epi64(x, 32); }
inline Words exclusive_or(Words a, Words b, Words c) {
  return _mm256_xor_si256(a, _mm256_xor_si256(b, c));
}
#endif

constexpr std::ptrdiff_t width = sizeof(Words) / sizeof(std::uint64_t);
constexpr std::ptrdiff_t parts = counters_at_once / width;

/// The blocks of eight counters, word by word. 32-bit words sit in 64-bit lanes, whose upper halves
/// may hold anything: the multiplication reads the lower ones only.
inline void eight_blocks(const std::uint64_t* counters, const Schedule& keys,
                         Words (&x)[4][parts]) {
  const Words by0 = all_words(multiplier0);
  const Words by1 = all_words(multiplier1);
  for (std::ptrdiff_t part = 0; part < parts; ++part) {
    x[0][part] = load(counters + part * width);
    x[1][part] = upper(x[0][part]);
    x[2][part] = x[3][part] = all_words(0);
  }
#pragma GCC unroll 10
  for (std::ptrdiff_t round = 0; round < rounds; ++round) {
    const Words k0 = all_words(keys.words[2 * round]);
    const Words k1 = all_words(keys.words[2 * round + 1]);
    for (std::ptrdiff_t part = 0; part < parts; ++part) {
      const Words product0 = multiply(by0, x[0][part]);
      const Words product1 = multiply(by1, x[2][part]);
      x[0][part] = exclusive_or(upper(product1), x[1][part], k0);
      x[1][part] = product1;
      x[2][part] = exclusive_or(upper(product0), x[3][part], k1);
      x[3][part] = product0;
    }
  }
}

/// The lower halves of the lanes side by side.
inline void store_words(std::uint32_t* out, const Words (&x)[parts]) {
#ifdef __AVX512F__
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_maskz_cvtepi64_epi32(every, x[0]));
#else
  constexpr int even = 0x88, in_order = 0xD8;
  const __m256 both = _mm256_shuffle_ps(_mm256_castsi256_ps(x[0]), _mm256_castsi256_ps(x[1]), even);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_permute4x64_epi64(_mm256_castps_si256(both), in_order));
#endif
}

/// The blocks of eight counters, upper counter words 0: word w of counters[i]'s is
/// out[w * stride + i].
inline void eight_blocks(const std::uint64_t* counters, const Schedule& keys, std::uint32_t* out,
                         std::ptrdiff_t stride) {
  Words x[4][parts];
  eight_blocks(counters, keys, x);
  for (int w = 0; w < 4; ++w) store_words(out + w * stride, x[w]);
}

#else

/// The blocks of eight counters, upper counter words 0: word w of counters[i]'s is
/// out[w * stride + i].
inline void eight_blocks(const std::uint64_t* counters, const Schedule& keys, std::uint32_t* out,
                         std::ptrdiff_t stride) {
  std::uint32_t x0[counters_at_once], x1[counters_at_once];
  std::uint32_t x2[counters_at_once], x3[counters_at_once];
  for (int i = 0; i < counters_at_once; ++i) {
    x0[i] = static_cast<std::uint32_t>(counters[i]);
    x1[i] = static_cast<std::uint32_t>(counters[i] >> 32);
    x2[i] = x3[i] = 0;
  }
  for (std::ptrdiff_t round = 0; round < rounds; ++round) {
    const auto k0 = static_cast<std::uint32_t>(keys.words[2 * round]);
    const auto k1 = static_cast<std::uint32_t>(keys.words[2 * round + 1]);
    for (int i = 0; i < counters_at_once; ++i) {
      const std::uint64_t product0 = multiplier0 * x0[i];
      const std::uint64_t product1 = multiplier1 * x2[i];
      x0[i] = static_cast<std::uint32_t>(product1 >> 32) ^ x1[i] ^ k0;
      x1[i] = static_cast<std::uint32_t>(product1);
      x2[i] = static_cast<std::uint32_t>(product0 >> 32) ^ x3[i] ^ k1;
      x3[i] = static_cast<std::uint32_t>(product0);
    }
  }
  const std::uint32_t* words[] = {x0, x1, x2, x3};
  for (std::ptrdiff_t w = 0; w < 4; ++w) std::copy_n(words[w], counters_at_once, out + w * stride);
}

#endif

}  // namespace parsimony::philox
