// Matrix products for AVX-512 and AVX2: register tiles of up to 14 (6) rows by two vectors of
// columns, fed from packed blocks that stay in the caches.
//
// op(b) is packed in blocks of k_block x n_block (1 to 1.5 MiB), as panels two vectors wide;
// the threads of a product pack blocks together and then share them, each working on rows of its
// own. Rows of op(a) are read from a copy in the L1 cache. What is small enough to stay in the L2
// cache anyway is read where it is. Edges need no padding: every height has its kernel, the last
// vector of a row its mask.
//
// Every entry of c is the sum over p of a(i, p) b(p, j) in ascending p, one fused multiply-add
// each, in blocks of k that depend on k alone. So its bits depend neither on the tile it falls
// into nor on the number of threads.
#include "kernels/gemm_tiles.hpp"

#include "kernels/ahead.hpp"
#include "kernels/gemm_lanes.hpp"

#ifdef PARSIMONY_GEMM_LANES

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

namespace {

using std::int64_t;

#ifdef __AVX512F__
constexpr int tile_rows = 14;  ///< 28 sums, two vectors of b and one of a: 31 of 32 registers
constexpr int64_t l1_cache = int64_t{32} * 1024;
constexpr int64_t l2_cache = int64_t{2} * 1024 * 1024;
constexpr int64_t few_panels = 8;
constexpr int64_t near_rows = 0;
constexpr int64_t k_block = 256;  ///< a panel of op(b) and a tile's rows just fit the L1 cache
constexpr int64_t group_max = 8;  ///< tiles that use a panel before the next one is loaded
constexpr int64_t b_block = int64_t{1024} * 1024;
#else
constexpr int tile_rows = 6;  ///< 12 sums, two vectors of b and one of a: 15 of 16 registers
constexpr int64_t l1_cache = int64_t{16} * 1024;
constexpr int64_t l2_cache = int64_t{512} * 1024;
constexpr int64_t few_panels = 4;
constexpr int64_t near_rows = 2048;  ///< bytes between rows that a tile reads where they are
constexpr int64_t k_block = 384;     ///< c comes and goes less often; a panel stays in the L2 cache
constexpr int64_t group_max = 12;
constexpr int64_t b_block = int64_t{1536} * 1024;
#endif
template <class T>
constexpr int64_t panel = 2 * GemmLanes<T>::count;  ///< columns of a panel of op(b)
template <class T>
constexpr int64_t n_block = b_block / k_block / static_cast<int64_t>(sizeof(T));

/// Where rows of op(a) are: entry (i, p) at data[i * row + p * column].
template <class T>
struct Rows {
  const T* data;
  int64_t row, column;
};

/// What a tile adds beta times: entry (i, j) at data[i * row + j]. c itself, or a bias (row = 0).
template <class T>
struct Addend {
  const T* data;
  int64_t row;
};

/// c (height, columns) = alpha a b + beta add for one tile; row p of b at b + p * ldb, `last` the
/// lanes of its last vector that exist: `masked` if b has no more than these.
template <class T, int height, int vectors, bool masked>
void tile(int64_t k, Rows<T> a, const T* b, int64_t ldb, T alpha, T beta, Addend<T> add, T* c,
          int64_t ldc, typename GemmLanes<T>::Mask last) {
  using V = GemmLanes<T>;
  // c comes from afar, and its lines are wanted all at once when the sums are done.
  for (int i = 0; i < height; ++i) {
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(c + i * ldc + v * V::count, 1);
  }
  typename V::Vec sum[height][vectors];
  for (int i = 0; i < height; ++i) {
    for (int v = 0; v < vectors; ++v) sum[i][v] = V::zero();
  }
  // One pointer for three rows: the other two are in reach of an address with an index.
  constexpr int bases = (height + 2) / 3;
  const T* at[bases];
  for (int i = 0; i < bases; ++i) at[i] = a.data + 3 * i * a.row;
  for (int64_t p = 0; p < k; ++p) {
    typename V::Vec right[vectors];
    for (int v = 0; v + 1 < vectors; ++v) right[v] = V::load(b + v * V::count);
    const T* edge = b + (vectors - 1) * V::count;
    right[vectors - 1] = masked ? V::load(edge, last) : V::load(edge);
    b += ldb;
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i) {
      const typename V::Vec left = V::all(at[i / 3][i % 3 * a.row]);
      for (int v = 0; v < vectors; ++v) sum[i][v] = V::fma(left, right[v], sum[i][v]);
    }
    for (int i = 0; i < bases; ++i) at[i] += a.column;
  }
  const typename V::Vec by = V::all(alpha);
  const typename V::Vec keep = V::all(beta);
#pragma GCC unroll 16
  for (int i = 0; i < height; ++i) {
    T* row = c + i * ldc;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const typename V::Mask lanes = v + 1 < vectors ? first_lanes<T>(V::count) : last;
      typename V::Vec value = V::mul(by, sum[i][v]);
      if (beta != T(0)) {
        value = V::fma(keep, V::load(add.data + i * add.row + v * V::count, lanes), value);
      }
      V::store(row + v * V::count, value, lanes);
    }
  }
}

template <class T>
using Tile = void (*)(int64_t, Rows<T>, const T*, int64_t, T, T, Addend<T>, T*, int64_t,
                      typename GemmLanes<T>::Mask);

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

/// Panel of op(b) with `width` columns from column j, rows p to p + depth, to out (depth, panel).
template <class T>
void pack_panel(const Product<T>& s, int64_t j, int64_t width, int64_t p, int64_t depth, T* out) {
  using V = GemmLanes<T>;
  constexpr int n = V::count;
  if (!s.trans_b) {
    const T* from = s.b + p * s.ldb + j;
    if (width == panel<T>) {
      // Every row is another page, where the CPU foresees nothing; the next panel is beside this
      // one. (At distances of a power of two its lines would drive each other out.)
      const bool aliased = s.ldb * static_cast<int64_t>(sizeof(T)) % 4096 == 0;
      const int64_t next = aliased ? 0 : panel<T>;
      for (int64_t i = 0; i < depth; ++i, from += s.ldb, out += panel<T>) {
        __builtin_prefetch(from + next);
        V::store(out, V::load(from));
        V::store(out + n, V::load(from + n));
      }
      return;
    }
    const auto first = first_lanes<T>(width);
    const auto second = first_lanes<T>(std::max<int64_t>(width - n, 0));
    for (int64_t i = 0; i < depth; ++i, from += s.ldb, out += panel<T>) {
      V::store(out, V::load(from, first));
      V::store(out + n, V::load(from + n, second));
    }
    return;
  }
  for (int64_t v = 0; v < width; v += n) {
    for (int64_t i = 0; i < depth; i += n) {
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

/// A column of a tile's rows in whole vectors.
template <class T>
constexpr int64_t row_room =
    (tile_rows + GemmLanes<T>::count - 1) / GemmLanes<T>::count* GemmLanes<T>::count;

/// `height` rows of op(a) from row i, entries p to p + depth, copied side by side.
template <class T>
Rows<T> pack_rows(const Product<T>& s, int64_t i, int64_t height, int64_t p, int64_t depth,
                  T* out) {
  using V = GemmLanes<T>;
  if (!s.trans_a) {
    constexpr int64_t row = k_block + 16;  // not a power of two: rows fall into different sets
    for (int64_t r = 0; r < height; ++r) {
      const T* from = s.a + (i + r) * s.lda + p;
      int64_t q = 0;
      for (; q + V::count <= depth; q += V::count) V::store(out + r * row + q, V::load(from + q));
      if (q < depth) V::store(out + r * row + q, V::load(from + q, first_lanes<T>(depth - q)));
    }
    return {out, row, 1};
  }
  constexpr int64_t row = row_room<T>;
  const auto first = first_lanes<T>(height);
  const auto second = first_lanes<T>(std::max<int64_t>(height - V::count, 0));
  const T* from = s.a + p * s.lda + i;
  for (int64_t q = 0; q < depth; ++q, from += s.lda) {
    V::store(out + q * row, V::load(from, first));
    if (V::count < tile_rows) V::store(out + q * row + V::count, V::load(from + V::count, second));
  }
  return {out, 1, row};
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

/// Member t's share of the panels of block n of op(b).
template <class T>
void pack_block(const Product<T>& s, const Plan<T>& plan, int64_t n, int64_t t, int64_t count,
                T* block) {
  const int64_t j0 = n / plan.k_blocks * plan.n_size;
  const int64_t panels = blocks_of(std::min(plan.n_size, s.n - j0), panel<T>);
  const int64_t p0 = s.k * (n % plan.k_blocks) / plan.k_blocks;
  const int64_t depth = s.k * (n % plan.k_blocks + 1) / plan.k_blocks - p0;
  for (int64_t j = panels * t / count; j < panels * (t + 1) / count; ++j) {
    const int64_t column = j0 + j * panel<T>;
    pack_panel(s, column, std::min(panel<T>, s.n - column), p0, depth,
               block + j * panel<T> * depth);
  }
}

/// Member t of a team of `count` threads; `packed` is room for two stages of op(b), shared.
template <class T>
void work(const Product<T>& s, const Plan<T>& plan, int64_t t, int64_t count, T* packed) {
  thread_local std::vector<T> memory;
  constexpr int64_t tile_room = row_room<T> * (k_block + 16);  // for either layout of pack_rows
  T* copy = plan.pack_a ? scratch(memory, tile_room * group_max) : nullptr;
  const int64_t first_tile = plan.tiles * t / count;
  const int64_t last_tile = plan.tiles * (t + 1) / count;
  const int64_t blocks = plan.n_blocks * plan.k_blocks;
  const int64_t room = k_block * plan.n_size;
  // One thread packs a block just before it is used; a team as many as fit, for barriers cost more
  // than reading a block back from the L3 cache, above all where threads share a core.
  const int64_t stage = count > 1 ? plan.stage : 1;
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t j0 = n / plan.k_blocks * plan.n_size;
    const int64_t panels = blocks_of(std::min(plan.n_size, s.n - j0), panel<T>);
    const int64_t pb = n % plan.k_blocks;
    const int64_t p0 = s.k * pb / plan.k_blocks;
    const int64_t depth = s.k * (pb + 1) / plan.k_blocks - p0;
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
    const T beta = pb > 0 ? T(1) : s.bias != nullptr ? T(1) : s.beta;
    const Addend<T> add =
        pb == 0 && s.bias != nullptr ? Addend<T>{s.bias, 0} : Addend<T>{s.c, s.ldc};
    // A block that fits into the L1 cache need not be shared out: rows of c in one go.
    const bool small = panels * panel<T> * depth * static_cast<int64_t>(sizeof(T)) <= l1_cache;
    const int64_t group = small ? 1 : group_max;
    for (int64_t g = first_tile; g < last_tile; g += group) {
      Rows<T> rows[group_max];
      int64_t first_row[group_max + 1];  // of each tile: divided once, not for each panel
      const int64_t tiles = std::min(group, last_tile - g);
      for (int64_t i = 0; i <= tiles; ++i) first_row[i] = s.m * (g + i) / plan.tiles;
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t row = first_row[i];
        const int64_t height = first_row[i + 1] - row;
        rows[i] = plan.pack_a ? pack_rows(s, row, height, p0, depth, copy + i * tile_room)
                  : s.trans_a ? Rows<T>{s.a + p0 * s.lda + row, 1, s.lda}
                              : Rows<T>{s.a + row * s.lda + p0, s.lda, 1};
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
        // Packed panels have room for whole vectors.
        const bool full = plan.pack_b || last == GemmLanes<T>::count;
        const T* b = plan.pack_b ? block + j * panel<T> * depth : s.b + p0 * s.ldb + column;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t row = first_row[i];
          ahead.some();
          tile_for<T>(first_row[i + 1] - row, two, full)(
              depth, rows[i], b, plan.pack_b ? panel<T> : s.ldb, s.alpha, beta,
              {add.data + row * add.row + column, add.row}, s.c + row * s.ldc + column, s.ldc,
              first_lanes<T>(last));
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
