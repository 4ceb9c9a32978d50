// How the matrix kernels want their operands: rows of op(a) in tiles, columns of op(b) in panels.
#pragma once

#include "kernels/gemm_lanes.hpp"

#ifdef PARSIMONY_GEMM_LANES

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/gemm_tiles.hpp"

namespace parsimony::kernels {

#ifdef __AVX512F__
constexpr int tile_rows = 14;  ///< 28 sums, two vectors of b and one of a: 31 of 32 registers
#else
constexpr int tile_rows = 6;  ///< 12 sums, two vectors of b and one of a: 15 of 16 registers
#endif
template <class T>
constexpr std::int64_t panel = 2 * GemmLanes<T>::count;  ///< columns of a panel of op(b)

/// Whole panels of b from column j, rows p to p + depth, to out (panels, depth, panel).
template <class T, int panels>
void pack_panels(const Product<T>& s, std::int64_t j, std::int64_t p, std::int64_t depth, T* out) {
  using V = GemmLanes<T>;
  const T* from = s.b + p * s.ldb + j;
  for (std::int64_t i = 0; i < depth; ++i, from += s.ldb, out += panel<T>) {
#pragma GCC unroll 4
    for (int at = 0; at < panels; ++at) {
      V::store(out + at * depth * panel<T>, V::load(from + at * panel<T>));
      V::store(out + at * depth * panel<T> + V::count, V::load(from + at * panel<T> + V::count));
    }
  }
}

/// Panel of op(b) with `width` columns from column j, rows p to p + depth, to out (depth, panel).
template <class T>
void pack_panel(const Product<T>& s, std::int64_t j, std::int64_t width, std::int64_t p,
                std::int64_t depth, T* out) {
  using V = GemmLanes<T>;
  constexpr int n = V::count;
  if (!s.trans_b) {
    if (width == panel<T>) return pack_panels<T, 1>(s, j, p, depth, out);
    const T* from = s.b + p * s.ldb + j;
    const auto first = first_lanes<T>(width);
    const auto second = first_lanes<T>(std::max<std::int64_t>(width - n, 0));
    for (std::int64_t i = 0; i < depth; ++i, from += s.ldb, out += panel<T>) {
      V::store(out, V::load(from, first));
      V::store(out + n, V::load(from + n, second));
    }
    return;
  }
  for (std::int64_t v = 0; v < width; v += n) {
    for (std::int64_t i = 0; i < depth; i += n) {
      const T* from = s.b + (j + v) * s.ldb + p + i;
      T* to = out + i * panel<T> + v;
      typename V::Vec block[n];
      if (v + n <= width && i + n <= depth) {
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) block[r] = V::load(from + r * s.ldb);
        transpose<T>(block);
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) V::store(to + r * panel<T>, block[r]);
        continue;
      }
      const auto lanes = first_lanes<T>(depth - i);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) {
        block[r] = v + r < width ? V::load(from + r * s.ldb, lanes) : V::zero();
      }
      transpose<T>(block);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) {
        if (i + r < depth) V::store(to + r * panel<T>, block[r]);
      }
    }
  }
}

/// Stores the first `count` lanes of a vector to a tile's packed rows, or all of them where what is
/// beyond these is written later.
template <class T>
void store_column(T* to, typename GemmLanes<T>::Vec v, std::int64_t count) {
  if (count >= GemmLanes<T>::count) return GemmLanes<T>::store(to, v);
  std::memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(T));
}

/// Rows first_row[t] to first_row[t + 1] of op(a) for `tiles` tiles t, entries p to p + depth, each
/// tile's copied to out + t * room, column after column: entry (i, q) at q * tile_rows + i.
template <class T>
void pack_rows(const Product<T>& s, const std::int64_t* first_row, std::int64_t tiles,
               std::int64_t p, std::int64_t depth, T* out, std::int64_t room) {
  using V = GemmLanes<T>;
  constexpr int n = V::count;
  if (s.trans_a) {
    // Column by column of all tiles, whose lines they share.
    const std::int64_t begin = first_row[0];
    const bool whole = first_row[tiles] - begin == tiles * tile_rows && first_row[tiles] + n <= s.m;
    const T* from = s.a + p * s.lda + begin;
    for (std::int64_t q = 0; q < depth; ++q, from += s.lda) {
      T* to = out + q * tile_rows;
      for (std::int64_t t = 0; t < tiles; ++t, to += room) {
        const T* at = whole ? from + t * tile_rows : from + (first_row[t] - begin);
        const std::int64_t height = first_row[t + 1] - first_row[t];
#pragma GCC unroll 4
        for (int r = 0; r < tile_rows; r += n) {
          const auto v =
              whole ? V::load(at + r)
                    : V::load(at + r, first_lanes<T>(std::max<std::int64_t>(height - r, 0)));
          store_column<T>(to + r, v, r == 0 ? n : tile_rows - r);
        }
      }
    }
    return;
  }
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t height = first_row[t + 1] - first_row[t];
    const T* from = s.a + first_row[t] * s.lda + p;
    T* to = out + t * room;
    for (std::int64_t q = 0; q < depth; q += n) {
#pragma GCC unroll 4
      for (int first = 0; first < tile_rows; first += n) {
        typename V::Vec block[n];
        const T* corner = from + first * s.lda + q;
        const auto lanes = first_lanes<T>(depth - q);
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) {
          block[r] = first + r >= height ? V::zero()
                     : q + n <= depth    ? V::load(corner + r * s.lda)
                                         : V::load(corner + r * s.lda, lanes);
        }
        transpose<T>(block);
#pragma GCC unroll 16
        for (int r = 0; r < n; ++r) {
          store_column<T>(to + (q + r) * tile_rows + first, block[r],
                          first == 0 ? n : tile_rows - first);
        }
      }
    }
  }
}

}  // namespace parsimony::kernels

#endif
