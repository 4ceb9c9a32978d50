#include "kernels/random_basis.hpp"

#include <algorithm>
#include <vector>

#include "kernels/parallel.hpp"
#include "kernels/philox_lanes.hpp"

namespace parsimony::kernels {

namespace {

constexpr std::int64_t lanes = 8;              // rows made at a time, one Philox block each
constexpr std::int64_t halves = 8;             // half-words of a block
constexpr std::int64_t tile = lanes * halves;  // entries made at a time
constexpr double unit = 1.0 / 32768;

/// Where half-word h of lane l stands in a tile: four half-words of all lanes, then the other four.
constexpr std::int64_t place(std::int64_t lane, std::int64_t half) {
  return half / 4 * (tile / 2) + lane * 4 + half % 4;
}

#ifdef PARSIMONY_WORDS
using philox::Words;

/// The lower halves of a and b side by side.
inline void store_pairs(std::int16_t* out, Words a, Words b) {
#ifdef __AVX512F__
  constexpr __mmask16 odd = 0xAAAA;
  _mm512_storeu_si512(out,
                      _mm512_mask_mov_epi32(a, odd, _mm512_maskz_slli_epi64(philox::every, b, 32)));
#else
  constexpr int odd = 0xAA;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), odd));
#endif
}
#endif

/// The half-words of eight blocks, as place() says.
inline void make_tile(const std::uint64_t* counters, const philox::Schedule& keys,
                      std::int16_t* out) {
#ifdef PARSIMONY_WORDS
  Words x[4][philox::parts];
  philox::eight_blocks(counters, keys, x);
  for (std::ptrdiff_t part = 0; part < philox::parts; ++part) {
    constexpr std::ptrdiff_t of_words = sizeof(Words) / sizeof(std::int16_t);
    store_pairs(out + part * of_words, x[0][part], x[1][part]);
    store_pairs(out + tile / 2 + part * of_words, x[2][part], x[3][part]);
  }
#else
  std::uint32_t words[4][lanes];
  philox::eight_blocks(counters, keys, words[0], lanes);
  for (int l = 0; l < lanes; ++l) {
    for (int h = 0; h < halves; ++h) {
      out[place(l, h)] = static_cast<std::int16_t>(words[h / 2][l] >> (h % 2 * 16));
    }
  }
#endif
}

/// Tiles cover the rows in groups of eight, and their columns in groups of eight.
struct Tiles {
  std::int64_t rows, cols;
  const std::int64_t* ids;

  std::int64_t blocks() const { return (cols + halves - 1) / halves; }
  std::int64_t count() const { return (rows + lanes - 1) / lanes * blocks(); }
  void counters(std::int64_t t, std::uint64_t* out) const {
    const std::int64_t first = t / blocks() * lanes;
    for (std::int64_t l = 0; l < lanes; ++l) {
      const std::int64_t row = std::min(first + l, rows - 1);
      out[l] =
          static_cast<std::uint64_t>((ids == nullptr ? row : ids[row]) * blocks() + t % blocks());
    }
  }
  /// f(place in the tile, place in the matrix) for the tile's entries that the matrix has.
  template <class F>
  void entries(std::int64_t t, F f) const {
    const std::int64_t first = t / blocks() * lanes;
    const std::int64_t left = t % blocks() * halves;
    for (std::int64_t l = 0; l < std::min(lanes, rows - first); ++l) {
      for (std::int64_t h = 0; h < std::min(halves, cols - left); ++h) {
        f(place(l, h), (first + l) * cols + left + h);
      }
    }
  }
};

std::vector<philox::Schedule> schedules(std::int64_t count, const std::uint64_t* keys) {
  std::vector<philox::Schedule> all(static_cast<std::size_t>(count));
  std::transform(keys, keys + count, all.begin(), philox::schedule);
  return all;
}

/// Two tiles at a time keep both multipliers busy.
constexpr std::int64_t together = 2;

}  // namespace

template <class T>
void combine_random(std::int64_t count, const std::uint64_t* keys, const T* coefficients,
                    std::int64_t rows, std::int64_t cols, const std::int64_t* ids, T* out) {
  const Tiles tiles{rows, cols, ids};
  const std::vector<philox::Schedule> all = schedules(count, keys);
  T total = 0;
  for (std::int64_t i = 0; i < count; ++i) total += coefficients[i];
  const T half = total / 2;
  const std::int64_t groups = (tiles.count() + together - 1) / together;
  parallel_for(groups, together * tile * count, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t group = first; group < last; ++group) {
      alignas(64) std::uint64_t counters[together][lanes];
      alignas(64) T sums[together][tile] = {};
      const std::int64_t begin = group * together;
      for (std::int64_t j = 0; j < together; ++j) {
        tiles.counters(std::min(begin + j, tiles.count() - 1), counters[j]);
      }
      for (std::int64_t i = 0; i < count; ++i) {
        alignas(64) std::int16_t made[together][tile];
        for (std::int64_t j = 0; j < together; ++j) {
          make_tile(counters[j], all[static_cast<std::size_t>(i)], made[j]);
        }
        const T c = coefficients[i];
        for (std::int64_t j = 0; j < together; ++j) {
          for (std::int64_t e = 0; e < tile; ++e) sums[j][e] += c * static_cast<T>(made[j][e]);
        }
      }
      for (std::int64_t j = 0; j < together && begin + j < tiles.count(); ++j) {
        tiles.entries(begin + j, [&](std::int64_t from, std::int64_t to) {
          out[to] = (sums[j][from] + half) * static_cast<T>(unit);
        });
      }
    }
  });
}

template <class T>
void random_inner_products(std::int64_t count, const std::uint64_t* keys, std::int64_t rows,
                           std::int64_t cols, const std::int64_t* ids, const T* g, T* products) {
  const Tiles tiles{rows, cols, ids};
  const std::vector<philox::Schedule> all = schedules(count, keys);
  // g and the counters in the order of the tiles, entries that the matrix does not have as 0.
  const std::int64_t groups = (tiles.count() + together - 1) / together;
  std::vector<T> packed(static_cast<std::size_t>(groups * together * tile), T(0));
  std::vector<std::uint64_t> counters(static_cast<std::size_t>(groups * together * lanes));
  for (std::int64_t t = 0; t < groups * together; ++t) {
    tiles.counters(std::min(t, tiles.count() - 1), counters.data() + t * lanes);
    if (t >= tiles.count()) continue;
    tiles.entries(t, [&](std::int64_t to, std::int64_t from) {
      packed[static_cast<std::size_t>(t * tile + to)] = g[from];
    });
  }
  T total = 0;
  for (const T x : packed) total += x;
  parallel_for(count, groups * together * tile, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      alignas(64) T sums[together][tile] = {};
      for (std::int64_t group = 0; group < groups; ++group) {
        alignas(64) std::int16_t made[together][tile];
        const std::int64_t t = group * together;
        for (std::int64_t j = 0; j < together; ++j) {
          make_tile(counters.data() + (t + j) * lanes, all[static_cast<std::size_t>(i)], made[j]);
        }
        for (std::int64_t j = 0; j < together; ++j) {
          const T* x = packed.data() + (t + j) * tile;
          for (std::int64_t e = 0; e < tile; ++e) sums[j][e] += x[e] * static_cast<T>(made[j][e]);
        }
      }
      T sum = total / 2;
      for (const auto& part : sums) {
        for (const T x : part) sum += x;
      }
      products[i] = sum * static_cast<T>(unit);
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                           \
  template void combine_random(std::int64_t, const std::uint64_t*, const T*, std::int64_t, \
                               std::int64_t, const std::int64_t*, T*);                     \
  template void random_inner_products(std::int64_t, const std::uint64_t*, std::int64_t,    \
                                      std::int64_t, const std::int64_t*, const T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
