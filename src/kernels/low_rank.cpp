#include "kernels/low_rank.hpp"

#include <algorithm>
#include <vector>

#include "kernels/lanes.hpp"
#include "kernels/parallel.hpp"

namespace parsimony::kernels {

namespace {

/// Ranks are worked on in groups of eight; what is missing to a full group is zeros.
constexpr std::int64_t group = 8;
/// Rows whose p and q are formed and used while x and dy are in the cache.
constexpr std::int64_t block_rows = 32;
/// Columns of `thin` that stay in the first-level cache.
constexpr std::int64_t block_cols = 512;

/// p[r][k] += <x[r], thin[k]> for `count` rows r of n entries and the group's eight k.
template <int count, class T>
void dots(std::int64_t n, const T* x, std::int64_t ldx, const T* thin, std::int64_t ldt, T* p,
          std::int64_t ldp) {
  constexpr std::int64_t width = lane_count<T>;
  Lanes<T> sums[count][group];
#pragma GCC unroll 2
  for (int r = 0; r < count; ++r) {
    for (int k = 0; k < group; ++k) sums[r][k] = Lanes<T>{};
  }
  std::int64_t i = 0;
  for (; i + width <= n; i += width) {
    Lanes<T> rows[count];
    for (int r = 0; r < count; ++r) rows[r] = load(x + r * ldx + i);
    for (int k = 0; k < group; ++k) {
      const Lanes<T> t = load(thin + k * ldt + i);
      for (int r = 0; r < count; ++r) sums[r][k] += rows[r] * t;
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < count; ++r) {
    add_lane_sums<T>(sums[r], p + r * ldp);
    for (std::int64_t j = i; j < n; ++j) {
      for (int k = 0; k < group; ++k) p[r * ldp + k] += x[r * ldx + j] * thin[k * ldt + j];
    }
  }
}

/// d[k] += Σ_r p[r][k] x[r] over `rows` rows and `vectors` vectors of columns.
template <int vectors, class T>
void outer(std::int64_t rows, const T* x, std::int64_t ldx, const T* p, std::int64_t ldp, T* d,
           std::int64_t ldd) {
  constexpr std::int64_t width = lane_count<T>;
  Lanes<T> sums[group][vectors];
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) sums[k][v] = load(d + k * ldd + v * width);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    Lanes<T> columns[vectors];
    for (int v = 0; v < vectors; ++v) columns[v] = load(x + r * ldx + v * width);
    for (int k = 0; k < group; ++k) {
      const T factor = p[r * ldp + k];
      for (int v = 0; v < vectors; ++v) sums[k][v] += factor * columns[v];
    }
  }
  for (int k = 0; k < group; ++k) {
    for (int v = 0; v < vectors; ++v) store(d + k * ldd + v * width, sums[k][v]);
  }
}

/// p (rows, padded) = x thinᵀ, thin (padded, n).
template <class T>
void thin_product(std::int64_t rows, std::int64_t n, std::int64_t padded, const T* x, const T* thin,
                  T* p) {
  std::fill_n(p, rows * padded, T(0));
  for (std::int64_t c = 0; c < n; c += block_cols) {
    const std::int64_t cols = std::min(block_cols, n - c);
    for (std::int64_t k = 0; k < padded; k += group) {
      const T* t = thin + k * n + c;
      std::int64_t r = 0;
      for (; r + 2 <= rows; r += 2) {
        dots<2>(cols, x + r * n + c, n, t, n, p + r * padded + k, padded);
      }
      if (r < rows) dots<1>(cols, x + r * n + c, n, t, n, p + r * padded + k, padded);
    }
  }
}

/// d (padded, n) += pᵀ x.
template <class T>
void thin_outer(std::int64_t rows, std::int64_t n, std::int64_t padded, const T* x, const T* p,
                T* d) {
  constexpr std::int64_t width = lane_count<T>;
  for (std::int64_t k = 0; k < padded; k += group) {
    T* dk = d + k * n;
    std::int64_t c = 0;
    for (; c + 2 * width <= n; c += 2 * width) {
      outer<2>(rows, x + c, n, p + k, padded, dk + c, n);
    }
    for (; c + width <= n; c += width) outer<1>(rows, x + c, n, p + k, padded, dk + c, n);
    for (; c < n; ++c) {
      for (std::int64_t j = 0; j < group; ++j) {
        T total = dk[j * n + c];
        for (std::int64_t r = 0; r < rows; ++r) total += p[r * padded + k + j] * x[r * n + c];
        dk[j * n + c] = total;
      }
    }
  }
}

/// w_out = w + left right over `count` rows.
template <int count, class T>
void updated_rows(std::int64_t in, std::int64_t rank, const T* w, const T* left, const T* right,
                  T* w_out) {
  constexpr std::int64_t width = lane_count<T>;
  std::int64_t i = 0;
  for (; i + width <= in; i += width) {
    Lanes<T> sums[count];
    for (int r = 0; r < count; ++r) sums[r] = load(w + r * in + i);
    for (std::int64_t k = 0; k < rank; ++k) {
      const Lanes<T> t = load(right + k * in + i);
      for (int r = 0; r < count; ++r) sums[r] += left[r * rank + k] * t;
    }
    for (int r = 0; r < count; ++r) store(w_out + r * in + i, sums[r]);
  }
  for (; i < in; ++i) {
    for (int r = 0; r < count; ++r) {
      T total = w[r * in + i];
      for (std::int64_t k = 0; k < rank; ++k) total += left[r * rank + k] * right[k * in + i];
      w_out[r * in + i] = total;
    }
  }
}

/// A buffer of this thread that begins where a vector does.
template <class T>
T* aligned_scratch(std::int64_t size) {
  thread_local std::vector<T> buffer;
  const auto needed = static_cast<std::size_t>(size + lane_count<T>);
  if (buffer.size() < needed) buffer.resize(needed);
  const auto at = reinterpret_cast<std::uintptr_t>(buffer.data());
  return buffer.data() + (lane_bytes - at % lane_bytes) % lane_bytes / sizeof(T);
}

}  // namespace

template <class T>
void low_rank_updated(std::int64_t out, std::int64_t in, std::int64_t rank, const T* w,
                      const T* left, const T* right, T* w_out) {
  constexpr std::int64_t tile = 8;
  const std::int64_t tiles = (out + tile - 1) / tile;
  parallel_for(tiles, tile * in * rank / 4, [=](std::int64_t first, std::int64_t last) {
    std::int64_t o = first * tile;
    const std::int64_t end = std::min(out, last * tile);
    for (; o + tile <= end; o += tile) {
      updated_rows<tile>(in, rank, w + o * in, left + o * rank, right, w_out + o * in);
    }
    for (; o < end; ++o) {
      updated_rows<1>(in, rank, w + o * in, left + o * rank, right, w_out + o * in);
    }
  });
}

template <class T>
void low_rank_gradients(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t rank,
                        const T* x, const T* dy, const T* left, const T* right, T* dleft,
                        T* dright) {
  const std::int64_t padded = (rank + group - 1) / group * group;
  constexpr std::int64_t most_chunks = 16;
  constexpr std::int64_t least_rows = 256;
  const std::int64_t chunk = std::max(least_rows, (rows + most_chunks - 1) / most_chunks);
  const std::int64_t chunks = std::max<std::int64_t>(1, (rows + chunk - 1) / chunk);
  const std::int64_t part = padded * (in + out);
  // leftᵀ and right with rows of zeros up to whole groups, then a pair of sums for each chunk.
  T* left_t = aligned_scratch<T>(part * (chunks + 1));
  T* right_p = left_t + padded * out;
  T* sums = left_t + part;
  std::fill_n(left_t, part * (chunks + 1), T(0));
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t k = 0; k < rank; ++k) left_t[k * out + o] = left[o * rank + k];
  }
  std::copy_n(right, rank * in, right_p);
  parallel_for(chunks, 4 * chunk * part / lane_count<T>,
               [=](std::int64_t first, std::int64_t last) {
                 T p[block_rows * low_rank_most];
                 T q[block_rows * low_rank_most];
                 for (std::int64_t c = first; c < last; ++c) {
                   T* dl = sums + c * part;
                   T* dr = dl + padded * out;
                   const std::int64_t end = std::min(rows, (c + 1) * chunk);
                   for (std::int64_t r = c * chunk; r < end; r += block_rows) {
                     const std::int64_t count = std::min(block_rows, end - r);
                     thin_product(count, in, padded, x + r * in, right_p, p);
                     thin_product(count, out, padded, dy + r * out, left_t, q);
                     thin_outer(count, out, padded, dy + r * out, p, dl);
                     thin_outer(count, in, padded, x + r * in, q, dr);
                   }
                 }
               });
  for (std::int64_t c = 1; c < chunks; ++c) {
    for (std::int64_t i = 0; i < part; ++i) sums[i] += sums[c * part + i];
  }
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t k = 0; k < rank; ++k) dleft[o * rank + k] = sums[k * out + o];
  }
  std::copy_n(sums + padded * out, rank * in, dright);
}

#define PARSIMONY_INSTANTIATE(T)                                                               \
  template void low_rank_updated(std::int64_t, std::int64_t, std::int64_t, const T*, const T*, \
                                 const T*, T*);                                                \
  template void low_rank_gradients(std::int64_t, std::int64_t, std::int64_t, std::int64_t,     \
                                   const T*, const T*, const T*, const T*, T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
