// Matrix products for AVX-512 and AVX2: register tiles of up to 14 (6) rows by two vectors of
// columns, fed from packed blocks that stay in the caches.
//
// op(b) is packed in blocks of k_block x n_block (1 or 2 MiB), as panels two vectors wide;
// the threads of a product pack blocks together and then share them, each working on rows of its
// own. Rows of op(a) are read from a copy, a tile's column after column. What is small enough to
// stay in the L2 cache anyway is read where it is. Edges need no padding: every height has its
// kernel, the last vector of a row its mask.
//
// Every entry of c is the sum over p of a(i, p) b(p, j) in ascending p, one fused multiply-add
// each, in blocks of k that depend on k alone. So its bits depend neither on the tile it falls
// into nor on the number of threads.
#include "kernels/gemm_tiles.hpp"

#include "kernels/ahead.hpp"
#include "kernels/gemm_lanes.hpp"
#include "kernels/gemm_pack.hpp"

#ifdef PARSIMONY_GEMM_LANES

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

namespace {

using std::int64_t;

#ifdef __AVX512F__
constexpr int64_t l1_cache = int64_t{32} * 1024;
constexpr int64_t l2_cache = int64_t{2} * 1024 * 1024;
constexpr int64_t few_panels = 8;
constexpr int64_t near_rows = 0;
constexpr int row_pointers = 5;   ///< of a tile's rows; the others are in reach of an index
constexpr int64_t k_block = 256;  ///< a panel of op(b) and a tile's rows just fit the L1 cache
constexpr int64_t group_max = 8;  ///< tiles that use a panel before the next one is loaded
constexpr int64_t b_block = int64_t{1024} * 1024;
#else
constexpr int64_t l1_cache = int64_t{16} * 1024;
constexpr int64_t l2_cache = int64_t{512} * 1024;
constexpr int64_t few_panels = 4;
constexpr int64_t near_rows = 2048;  ///< bytes between rows that a tile reads where they are
constexpr int row_pointers = 6;
constexpr int64_t k_block = 512;  ///< c comes and goes less often; a panel stays in the L2 cache
constexpr int64_t group_max = 4;
constexpr int64_t b_block = int64_t{2048} * 1024;
#endif
template <class T>
constexpr int64_t n_block = b_block / k_block / static_cast<int64_t>(sizeof(T));

/// What the tiles of a block have in common. Entry (i, p) of op(a) is at i * a_row + p * a_column
/// from a tile's first, row p of op(b) at p * ldb; to c a tile adds beta times what is at
/// i * add_row + j: c itself, or a bias (add_row = 0).
template <class T>
struct Job {
  int64_t k, a_row, a_column, ldb, add_row, ldc;
  T alpha, beta;
  bool whole;                          ///< a row's last vector has all its lanes
  typename GemmLanes<T>::Mask last{};  ///< those that exist
};

/// A number that the compiler knows: entries side by side, at addresses that need no register.
template <int64_t n>
using Known = std::integral_constant<int64_t, n>;

/// Adds columns of a times rows of b to the sums, `steps` at a time, while as many are left of k.
/// What is not a multiply-add is kept small: a CPU whose core another thread shares would do with
/// half of its slots.
template <int steps, int pointers, bool masked, class T, int height, int vectors, class Row,
          class Column, class Depth>
[[gnu::always_inline]] inline void multiply(const Job<T>& job,
                                            typename GemmLanes<T>::Vec (&sum)[height][vectors],
                                            const T*& a, Row a_row, Column a_column, const T*& b,
                                            Depth b_row, int64_t& k) {
  using V = GemmLanes<T>;
  constexpr int reach = (height + pointers - 1) / pointers;
  constexpr int bases = (height + reach - 1) / reach;
  const T* at[bases];
  for (int i = 0; i < bases; ++i) at[i] = a + reach * i * a_row;
  for (; k >= steps; k -= steps) {
#pragma GCC unroll 4
    for (int u = 0; u < steps; ++u) {
      typename V::Vec right[vectors];
      const T* from = b + u * b_row;
      for (int v = 0; v + 1 < vectors; ++v) right[v] = V::load(from + v * V::count);
      const T* edge = from + (vectors - 1) * V::count;
      right[vectors - 1] = masked ? V::load(edge, job.last) : V::load(edge);
      // Or the compiler would read them again for every row.
      for (auto& r : right) asm("" : "+v"(r));
#pragma GCC unroll 16
      for (int i = 0; i < height; ++i) {
        const typename V::Vec left = V::all(at[i / reach][i % reach * a_row + u * a_column]);
        for (int v = 0; v < vectors; ++v) sum[i][v] = V::fma(left, right[v], sum[i][v]);
      }
    }
    b += steps * b_row;
    for (auto& column : at) column += steps * a_column;
  }
  a = at[0];
}

/// c = alpha sum, and beta add where that is `added`; the last vector of a row `whole` or masked.
template <bool added, bool whole, class T, int height, int vectors>
[[gnu::always_inline]] inline void finish(const Job<T>& job,
                                          typename GemmLanes<T>::Vec (&sum)[height][vectors],
                                          const T* add, T* c) {
  using V = GemmLanes<T>;
  const typename V::Vec by = V::all(job.alpha);
  const typename V::Vec keep = V::all(job.beta);
#pragma GCC unroll 16
  for (int i = 0; i < height; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      T* to = c + i * job.ldc + v * V::count;
      const T* from = add + i * job.add_row + v * V::count;
      typename V::Vec value = V::mul(by, sum[i][v]);
      if (whole || v + 1 < vectors) {
        if (added) value = V::fma(keep, V::load(from), value);
        V::store(to, value);
      } else {
        if (added) value = V::fma(keep, V::load(from, job.last), value);
        V::store(to, value, job.last);
      }
    }
  }
}

/// c (height, columns) = alpha a b + beta add for one tile; `masked` if b has no more than the
/// lanes of its last vector that exist.
template <class T, int height, int vectors, bool masked>
void tile(const Job<T>& job, const T* a, const T* b, const T* add, T* c) {
  using V = GemmLanes<T>;
  // c comes from afar, and its lines are wanted all at once when the sums are done.
  for (int i = 0; i < height; ++i) {
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(c + i * job.ldc + v * V::count, 1);
  }
  typename V::Vec sum[height][vectors];
  for (int i = 0; i < height; ++i) {
    for (int v = 0; v < vectors; ++v) sum[i][v] = V::zero();
  }
  constexpr int steps = 2;
  int64_t k = job.k;
  if (job.ldb == panel<T> && job.a_column == tile_rows) {
    multiply<steps, 1, masked>(job, sum, a, Known<1>{}, Known<tile_rows>{}, b, Known<panel<T>>{},
                               k);
  } else if (job.a_column == 1) {
    multiply<steps, row_pointers, masked>(job, sum, a, job.a_row, Known<1>{}, b, job.ldb, k);
  }
  multiply<1, (height + 2) / 3, masked>(job, sum, a, job.a_row, job.a_column, b, job.ldb, k);
  // Unseen by the compiler, which would have copies of the loops above for each case.
  int which = (job.beta == T(0) ? 0 : 2) + (job.whole ? 1 : 0);
  asm volatile("" : "+r"(which));
  switch (which) {
    case 0:
      return finish<false, false>(job, sum, add, c);
    case 1:
      return finish<false, true>(job, sum, add, c);
    case 2:
      return finish<true, false>(job, sum, add, c);
    default:
      return finish<true, true>(job, sum, add, c);
  }
}

template <class T>
using Tile = void (*)(const Job<T>&, const T*, const T*, const T*, T*);

template <class T, int vectors, bool masked, int... heights>
constexpr std::array<Tile<T>, sizeof...(heights)> tiles_of(std::integer_sequence<int, heights...>) {
  return {tile<T, heights + 1, vectors, masked>...};
}

/// The kernel of a height, 1 to tile_rows, and of one or two vectors; `full` if the last vector may
/// be read whole.
template <class T>
Tile<T> tile_for(int64_t height, bool two, bool full) {
  using Heights = std::make_integer_sequence<int, tile_rows>;
  static constexpr auto one_vector = tiles_of<T, 1, true>(Heights{});
  static constexpr auto two_vectors = tiles_of<T, 2, true>(Heights{});
  const auto at = static_cast<std::size_t>(height - 1);
  if constexpr (!GemmLanes<T>::masks_are_free) {
    static constexpr auto one_whole = tiles_of<T, 1, false>(Heights{});
    static constexpr auto two_whole = tiles_of<T, 2, false>(Heights{});
    if (full) return (two ? two_whole : one_whole)[at];
  }
  return (two ? two_vectors : one_vector)[at];
}

/// Memory of a thread for packed blocks: grows to the largest use and stays.
template <class T>
T* scratch(std::vector<T>& memory, int64_t count) {
  constexpr std::size_t line = 64;
  const std::size_t needed = static_cast<std::size_t>(count) + line / sizeof(T);
  if (memory.size() < needed) memory.resize(needed);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (line - address % line) % line / sizeof(T);
}

int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

template <class T>
struct Plan {
  int64_t tiles;     ///< tiles of rows, heights equal but for one row
  int64_t n_blocks;  ///< blocks of columns, a multiple of the panel but for the last
  int64_t n_size;
  int64_t k_blocks;
  int64_t stage;  ///< blocks of op(b) that a team packs between two barriers: 4 MiB
  bool pack_a, pack_b;
};

template <class T>
Plan<T> plan(const Product<T>& s) {
  Plan<T> it;
  it.tiles = blocks_of(s.m, tile_rows);
  const int64_t panels = blocks_of(s.n, panel<T>);
  it.n_blocks = blocks_of(s.n, n_block<T>);
  it.n_size = blocks_of(panels, it.n_blocks) * panel<T>;
  it.n_blocks = blocks_of(s.n, it.n_size);
  it.k_blocks = blocks_of(s.k, k_block);
  constexpr int64_t stage_size = int64_t{4} * 1024 * 1024 / static_cast<int64_t>(sizeof(T));
  it.stage = std::clamp<int64_t>(stage_size / (k_block * it.n_size), 1, it.n_blocks * it.k_blocks);
  // Packing pays where a matrix is used often and would not stay in the L2 cache as it is, or where
  // the rows of a tile, at distances of a power of two, would fall into the same lines of the L1.
  constexpr auto bytes = static_cast<int64_t>(sizeof(T));
  const bool strided = s.lda * bytes % 2048 == 0;
  const bool far = s.lda * bytes > near_rows && (strided || s.m * s.lda * bytes > l2_cache / 4);
  it.pack_a = panels > (s.trans_a ? few_panels : 3) && (s.trans_a || far);
  it.pack_b = s.trans_b || (it.tiles > 3 && s.k * s.ldb * bytes > l2_cache / 8);
  return it;
}

/// What of op(b) block n is: panels from column j0, rows p0 to p0 + depth.
struct Block {
  int64_t j0, panels, p0, depth;
};

template <class T>
Block block_at(const Product<T>& s, const Plan<T>& plan, int64_t n) {
  const int64_t j0 = n / plan.k_blocks * plan.n_size;
  const int64_t pb = n % plan.k_blocks;
  const int64_t p0 = s.k * pb / plan.k_blocks;
  return {j0, blocks_of(std::min(plan.n_size, s.n - j0), panel<T>), p0,
          s.k * (pb + 1) / plan.k_blocks - p0};
}

/// Member t's share of the panels of block n of op(b).
template <class T>
void pack_block(const Product<T>& s, const Plan<T>& plan, int64_t n, int64_t t, int64_t count,
                T* block) {
  const auto [j0, panels, p0, depth] = block_at(s, plan, n);
  const int64_t end = panels * (t + 1) / count;
  constexpr int together = 4;  // a row of b is another page each: few lines of it would be wasteful
  for (int64_t j = panels * t / count; j < end;) {
    const int64_t column = j0 + j * panel<T>;
    T* out = block + j * panel<T> * depth;
    if (!s.trans_b && j + together <= end && column + together * panel<T> <= s.n) {
      pack_panels<T, together>(s, column, p0, depth, out);
      j += together;
    } else {
      pack_panel(s, column, std::min(panel<T>, s.n - column), p0, depth, out);
      ++j;
    }
  }
}

/// Member t of a team of `count` threads; `packed` is room for two stages of op(b), shared.
template <class T>
void work(const Product<T>& s, const Plan<T>& plan, int64_t t, int64_t count, T* packed) {
  thread_local std::vector<T> memory;
  // The last columns' vectors reach beyond them, by less than a block of a transposition.
  constexpr int64_t tile_room = tile_rows * (k_block + 2 * GemmLanes<T>::count);
  T* copy = plan.pack_a ? scratch(memory, tile_room * group_max) : nullptr;
  const int64_t first_tile = plan.tiles * t / count;
  const int64_t last_tile = plan.tiles * (t + 1) / count;
  const int64_t blocks = plan.n_blocks * plan.k_blocks;
  const int64_t room = k_block * plan.n_size;
  // One thread packs a block just before it is used; a team as many as fit, for barriers cost more
  // than reading a block back from the L3 cache, above all where threads share a core.
  const int64_t stage = count > 1 ? plan.stage : 1;
  for (int64_t n = 0; n < blocks; ++n) {
    const auto [j0, panels, p0, depth] = block_at(s, plan, n);
    const bool first_sums = n % plan.k_blocks == 0;
    T* block = packed + n % (2 * stage) * room;
    if (plan.pack_b && n % stage == 0) {
      for (int64_t ahead = n; ahead < std::min(n + stage, blocks); ++ahead) {
        pack_block(s, plan, ahead, t, count, packed + ahead % (2 * stage) * room);
      }
      // No second barrier after the tiles: the next stage goes to the other half, and whoever
      // packs the one after it has passed the next barrier.
      if (count > 1) {
#pragma omp barrier
      }
    }
    const bool biased = first_sums && s.bias != nullptr;
    Job<T> job{depth,
               s.lda,
               1,
               plan.pack_b ? panel<T> : s.ldb,
               biased ? 0 : s.ldc,
               s.ldc,
               s.alpha,
               !first_sums || biased ? T(1) : s.beta,
               true};
    if (s.trans_a) std::swap(job.a_row, job.a_column);
    if (plan.pack_a) job.a_row = 1, job.a_column = tile_rows;
    const T* add = biased ? s.bias : s.c;
    // A block that fits into the L1 cache need not be shared out: rows of c in one go.
    const bool small = panels * panel<T> * depth * static_cast<int64_t>(sizeof(T)) <= l1_cache;
    const int64_t group = small ? 1 : group_max;
    for (int64_t g = first_tile; g < last_tile; g += group) {
      const T* rows[group_max];
      int64_t first_row[group_max + 1];  // of each tile: divided once, not for each panel
      const int64_t tiles = std::min(group, last_tile - g);
      for (int64_t i = 0; i <= tiles; ++i) first_row[i] = s.m * (g + i) / plan.tiles;
      if (plan.pack_a) pack_rows(s, first_row, tiles, p0, depth, copy, tile_room);
      for (int64_t i = 0; i < tiles; ++i) {
        rows[i] = plan.pack_a
                      ? copy + i * tile_room
                      : s.a + (s.trans_a ? p0 * s.lda + first_row[i] : first_row[i] * s.lda + p0);
      }
      Ahead ahead;  // the rows of the next group
      if (g + group < last_tile) {
        const int64_t next = first_row[tiles];
        const int64_t rows_ahead = s.m * std::min(g + 2 * group, last_tile) / plan.tiles - next;
        const int64_t calls = panels * tiles;
        ahead = s.trans_a ? Ahead(s.a + p0 * s.lda + next, s.lda, depth, rows_ahead, calls)
                          : Ahead(s.a + next * s.lda + p0, s.lda, rows_ahead, depth, calls);
      }
      for (int64_t j = 0; j < panels; ++j) {
        const int64_t column = j0 + j * panel<T>;
        const int64_t width = std::min(panel<T>, s.n - column);
        const bool two = width > GemmLanes<T>::count;
        const int64_t last = two ? width - GemmLanes<T>::count : width;
        job.whole = last == GemmLanes<T>::count;
        job.last = first_lanes<T>(last);
        // Packed panels have room for whole vectors.
        const bool full = plan.pack_b || job.whole;
        const T* b = plan.pack_b ? block + j * panel<T> * depth : s.b + p0 * s.ldb + column;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t row = first_row[i];
          ahead.some();
          tile_for<T>(first_row[i + 1] - row, two, full)(
              job, rows[i], b, add + row * job.add_row + column, s.c + row * s.ldc + column);
        }
      }
    }
  }
}

/// Two stages of packed op(b) for a team, or two blocks for one thread; of the calling thread.
template <class T>
T* block_memory(const Plan<T>& plan, bool team) {
  thread_local std::vector<T> memory;
  const int64_t blocks = 2 * (team ? plan.stage : 1);
  return plan.pack_b ? scratch(memory, blocks * k_block * plan.n_size) : nullptr;
}

template <class T>
void one_thread(const Product<T>& s) {
  const Plan<T> it = plan(s);
  work(s, it, 0, 1, block_memory(it, false));
}

/// Columns [j, j + width) of one row, c = alpha a b + beta c, `vectors` of them at a time: a step
/// of generation is such products, which the tiles would compute in chains that wait for each
/// other.
template <class T, int vectors>
void row_columns(const Product<T>& s, int64_t j, int64_t width) {
  using V = GemmLanes<T>;
  typename V::Mask lanes[vectors];
  for (int v = 0; v < vectors; ++v)
    lanes[v] = first_lanes<T>(std::max<int64_t>(width - v * V::count, 0));
  const int64_t k_blocks = blocks_of(s.k, k_block);
  for (int64_t pb = 0; pb < k_blocks; ++pb) {
    typename V::Vec sum[vectors];
    for (int v = 0; v < vectors; ++v) sum[v] = V::zero();
    const int64_t end = s.k * (pb + 1) / k_blocks;
    for (int64_t p = s.k * pb / k_blocks; p < end; ++p) {
      const typename V::Vec left = V::all(s.a[p]);
      const T* right = s.b + p * s.ldb + j;
      for (int v = 0; v < vectors; ++v) {
        sum[v] = V::fma(left, V::load(right + v * V::count, lanes[v]), sum[v]);
      }
    }
    const bool biased = pb == 0 && s.bias != nullptr;
    const T beta = pb > 0 || biased ? T(1) : s.beta;
    const T* addend = (biased ? s.bias : s.c) + j;
    for (int v = 0; v < vectors; ++v) {
      typename V::Vec value = V::mul(V::all(s.alpha), sum[v]);
      if (beta != T(0)) {
        value = V::fma(V::all(beta), V::load(addend + v * V::count, lanes[v]), value);
      }
      V::store(s.c + j + v * V::count, value, lanes[v]);
    }
  }
}

/// The same sums as those of the tiles.
template <class T>
void one_row(const Product<T>& s) {
  constexpr int64_t lanes = GemmLanes<T>::count;
  for (int64_t j = 0; j < s.n; j += 8 * lanes) {
    const int64_t width = std::min(8 * lanes, s.n - j);
    if (width > 4 * lanes) {
      row_columns<T, 8>(s, j, width);
    } else if (width > 2 * lanes) {
      row_columns<T, 4>(s, j, width);
    } else {
      row_columns<T, 2>(s, j, width);
    }
  }
}

/// c = beta c, or the bias, for k = 0.
template <class T>
void scale(const Product<T>& s) {
  for (int64_t i = 0; i < s.m; ++i) {
    for (int64_t j = 0; j < s.n; ++j) {
      T& x = s.c[i * s.ldc + j];
      x = s.bias != nullptr ? s.bias[j] : s.beta == T(0) ? T(0) : s.beta * x;
    }
  }
}

}  // namespace

template <class T>
bool gemm_tiles(const Product<T>& s, int threads) {
  if (s.m <= 0 || s.n <= 0) return true;
  if (s.k <= 0) {
    scale(s);
    return true;
  }
  if (s.m == 1 && !s.trans_a && !s.trans_b && threads == 1) {
    one_row(s);
    return true;
  }
  const Plan<T> it = plan(s);
  const int64_t panels = blocks_of(s.n, panel<T>);
  const auto team = static_cast<int>(std::min<int64_t>(threads, std::max(it.tiles, panels)));
  if (team <= 1) {
    work(s, it, 0, 1, block_memory(it, false));
  } else if (it.tiles >= panels || it.tiles >= 4 * team) {
    T* packed = block_memory(it, true);
#pragma omp parallel num_threads(team)
    work(s, it, omp_get_thread_num(), omp_get_num_threads(), packed);
  } else {
#pragma omp parallel num_threads(team)
    {
      const int64_t first = panels * omp_get_thread_num() / omp_get_num_threads() * panel<T>;
      const int64_t last =
          std::min(s.n, panels * (omp_get_thread_num() + 1) / omp_get_num_threads() * panel<T>);
      Product<T> mine = s;
      mine.n = last - first;
      mine.b += first * (s.trans_b ? s.ldb : 1);
      mine.c += first;
      if (mine.bias != nullptr) mine.bias += first;
      if (mine.n > 0) one_thread(mine);
    }
  }
  return true;
}

#else

namespace parsimony::kernels {

template <class T>
bool gemm_tiles(const Product<T>&, int) {
  return false;
}

#endif

template bool gemm_tiles<float>(const Product<float>&, int);
template bool gemm_tiles<double>(const Product<double>&, int);

}  // namespace parsimony::kernels
