#include "kernels/sampled.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include <omp.h>

#include "kernels/lanes.hpp"
#include "kernels/parallel.hpp"

namespace parsimony::kernels {

namespace {

/// Rows split so that each range holds about the same number of entries.
template <class F>
void parallel_rows(std::int64_t rows, const std::int32_t* offsets, std::int64_t k, F&& f) {
  const std::int64_t entries = offsets[rows];
  const std::int64_t threads = num_threads();
  if (threads == 1 || (entries + rows) * k < parallel_threshold || omp_in_parallel()) {
    f(std::int64_t{0}, rows);
    return;
  }
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    const std::int64_t t = omp_get_thread_num();
    const std::int64_t count = omp_get_num_threads();
    const auto boundary = [&](std::int64_t part) {
      if (part == 0) return std::int64_t{0};
      if (part == count) return rows;
      const auto target = static_cast<std::int32_t>(entries * part / count);
      return static_cast<std::int64_t>(std::lower_bound(offsets, offsets + rows, target) - offsets);
    };
    f(boundary(t), boundary(t + 1));
  }
}

/// N numbers in one vector register. Of the CPU's width at most: GCC keeps wider ones in memory.
template <class T, int N>
struct Vector {
  using Type __attribute__((vector_size(sizeof(T) * N))) = T;
};
template <class T, int N>
using Pack = typename Vector<T, N>::Type;

template <class V, class T>
inline V load_pack(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// Lower and upper half of a vector added: by shuffles, because a copy through memory would stall.
template <class T, int N, int... I>
inline Pack<T, N / 2> add_halves(Pack<T, N> v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, I...) + __builtin_shufflevector(v, v, (I + N / 2)...);
}

template <class T>
constexpr int widest = lane_bytes / static_cast<int>(sizeof(T));

/// Sum of the N lanes of `sum` and of a[j] b[j] over the last K mod N positions: while the sum is
/// folded in half, pieces of the matching size join it, so that widths like 10 and 20 need no
/// scalar loop.
template <class T, int K, int N>
inline T fold(Pack<T, N> sum, const T* a, const T* b) {
  if constexpr (N == 2) {
    T total = sum[0] + sum[1];
    if constexpr (K % 2 == 1) total += a[K - 1] * b[K - 1];
    return total;
  } else {
    constexpr int half = N / 2;
    using Half = Pack<T, half>;
    Half both = add_halves<T, N>(sum, std::make_integer_sequence<int, half>());
    if constexpr (K % N >= half) {
      constexpr int at = K / N * N;
      both += load_pack<Half>(a + at) * load_pack<Half>(b + at);
    }
    return fold<T, K, half>(both, a, b);
  }
}

template <class T, int K>
inline T dot(const T* a, const T* b) {
  constexpr int n = widest<T>;
  using Wide = Pack<T, n>;
  Wide sum{};
  for (int j = 0; j + n <= K; j += n) sum += load_pack<Wide>(a + j) * load_pack<Wide>(b + j);
  return fold<T, K, n>(sum, a, b);
}

/// A row of K sums in registers: whole vectors, then pieces of falling powers of two.
template <class T, int K, int N = widest<T>>
struct Sums {
  static constexpr int count = K / N;
  std::array<Pack<T, N>, count> whole{};
  Sums<T, K % N, N / 2> rest;

  inline void add(T value, const T* x) {
    for (int i = 0; i < count; ++i) {
      whole[static_cast<std::size_t>(i)] += value * load_pack<Pack<T, N>>(x + i * N);
    }
    rest.add(value, x + count * N);
  }
  inline void store(T* out, const Sums& other) const {
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Pack<T, N> total = whole[at] + other.whole[at];
      std::memcpy(out + i * N, &total, sizeof total);
    }
    rest.store(out + count * N, other.rest);
  }
};
template <class T, int K>
struct Sums<T, K, 1> {
  std::array<T, K> whole{};
  inline void add(T value, const T* x) {
    for (int i = 0; i < K; ++i) whole[static_cast<std::size_t>(i)] += value * x[i];
  }
  inline void store(T* out, const Sums& other) const {
    for (int i = 0; i < K; ++i) {
      out[i] = whole[static_cast<std::size_t>(i)] + other.whole[static_cast<std::size_t>(i)];
    }
  }
};

template <class T>
struct SampledArguments {
  const std::int32_t* offsets;
  const std::int32_t* columns;
  const T* a;
  const T* b;
  std::int64_t k;
  T* out;
};

template <class T, int K>
void sampled_fixed(std::int64_t first, std::int64_t last, const SampledArguments<T>& s) {
  for (std::int64_t i = first; i < last; ++i) {
    const T* row = s.a + i * K;
    for (std::int32_t e = s.offsets[i]; e < s.offsets[i + 1]; ++e) {
      s.out[e] = dot<T, K>(row, s.b + static_cast<std::int64_t>(s.columns[e]) * K);
    }
  }
}

template <class T>
void sampled_any(std::int64_t first, std::int64_t last, const SampledArguments<T>& s) {
  for (std::int64_t i = first; i < last; ++i) {
    const T* row = s.a + i * s.k;
    for (std::int32_t e = s.offsets[i]; e < s.offsets[i + 1]; ++e) {
      const T* other = s.b + static_cast<std::int64_t>(s.columns[e]) * s.k;
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (std::int64_t j = 0; j < s.k; ++j) total += row[j] * other[j];
      s.out[e] = total;
    }
  }
}

template <class T>
struct SparseArguments {
  const std::int32_t* offsets;
  const std::int32_t* columns;
  const std::int32_t* position;
  const T* values;
  const T* x;
  std::int64_t k;
  T* out;

  T value(std::int32_t e) const { return values[position != nullptr ? position[e] : e]; }
  const T* other(std::int32_t e) const { return x + static_cast<std::int64_t>(columns[e]) * k; }
};

template <class T, int K>
void sparse_fixed(std::int64_t first, std::int64_t last, const SparseArguments<T>& s) {
  // In column order the values lie scattered, half of them in another core's cache.
  constexpr std::int32_t ahead = 24;
  const std::int32_t end = s.offsets[last];
  for (std::int64_t i = first; i < last; ++i) {
    Sums<T, K> even;  // two sets, so that the additions of neighbouring entries overlap
    Sums<T, K> odd;
    std::int32_t e = s.offsets[i];
    for (; e + 1 < s.offsets[i + 1]; e += 2) {
      if (s.position != nullptr && e + ahead + 1 < end) {
        __builtin_prefetch(s.values + s.position[e + ahead]);
        __builtin_prefetch(s.values + s.position[e + ahead + 1]);
      }
      even.add(s.value(e), s.other(e));
      odd.add(s.value(e + 1), s.other(e + 1));
    }
    if (e < s.offsets[i + 1]) even.add(s.value(e), s.other(e));
    even.store(s.out + i * K, odd);
  }
}

template <class T>
void sparse_any(std::int64_t first, std::int64_t last, const SparseArguments<T>& s) {
  for (std::int64_t i = first; i < last; ++i) {
    T* row = s.out + i * s.k;
    std::fill(row, row + s.k, T(0));
    for (std::int32_t e = s.offsets[i]; e < s.offsets[i + 1]; ++e) {
      const T value = s.value(e);
      const T* other = s.other(e);
#pragma omp simd
      for (std::int64_t j = 0; j < s.k; ++j) row[j] += value * other[j];
    }
  }
}

/// A row of K numbers in registers, in the pieces of Sums.
template <class T, int K, int N = widest<T>>
struct Row {
  static constexpr int count = K / N;
  std::array<Pack<T, N>, count> whole;
  Row<T, K % N, N / 2> rest;

  explicit Row(const T* p) : rest(p + count * N) {
    for (int i = 0; i < count; ++i) {
      whole[static_cast<std::size_t>(i)] = load_pack<Pack<T, N>>(p + i * N);
    }
  }
  /// The lanes of `sum` and the products of all pieces, added up.
  static inline T dot(const Row& a, const Row& b, Pack<T, N> sum) {
    for (std::size_t i = 0; i < count; ++i) sum += a.whole[i] * b.whole[i];
    if constexpr (N == 2) {
      return Row<T, K % N, 1>::dot(a.rest, b.rest, sum[0] + sum[1]);
    } else {
      return Row<T, K % N, N / 2>::dot(
          a.rest, b.rest, add_halves<T, N>(sum, std::make_integer_sequence<int, N / 2>()));
    }
  }
  inline void add_to(Sums<T, K, N>& sums, T value) const {
    for (std::size_t i = 0; i < count; ++i) sums.whole[i] += value * whole[i];
    rest.add_to(sums.rest, value);
  }
};
template <class T, int K>
struct Row<T, K, 1> {
  std::array<T, K> whole;
  explicit Row(const T* p) {
    for (int i = 0; i < K; ++i) whole[static_cast<std::size_t>(i)] = p[i];
  }
  static inline T dot(const Row& a, const Row& b, T sum) {
    for (std::size_t i = 0; i < K; ++i) sum += a.whole[i] * b.whole[i];
    return sum;
  }
  inline void add_to(Sums<T, K, 1>& sums, T value) const {
    for (std::size_t i = 0; i < K; ++i) sums.whole[i] += value * whole[i];
  }
};

template <class T>
struct ResidualArguments {
  const std::int32_t* offsets;
  const std::int32_t* columns;
  const T* a;
  const T* b;
  std::int64_t k;
  const T* target;
  T* r;
  T* da;
  double* row_sums;
};

template <class T, int K>
void residual_fixed(std::int64_t first, std::int64_t last, const ResidualArguments<T>& s) {
  constexpr std::int32_t ahead = 8;  // entries whose rows are fetched in advance
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  const std::int32_t end = s.offsets[last];
  for (std::int64_t i = first; i < last; ++i) {
    const Row<T, K> row(s.a + i * K);
    Sums<T, K> sums;
    double squares = 0;
    for (std::int32_t e = s.offsets[i]; e < s.offsets[i + 1]; ++e) {
      if (e + ahead < end) {
        const T* next = s.b + static_cast<std::int64_t>(s.columns[e + ahead]) * K;
        for (int j = 0; j < K; j += line) __builtin_prefetch(next + j);
      }
      const Row<T, K> other(s.b + static_cast<std::int64_t>(s.columns[e]) * K);
      const T r = Row<T, K>::dot(row, other, Pack<T, widest<T>>{}) - s.target[e];
      s.r[e] = r;
      squares += static_cast<double>(r) * static_cast<double>(r);
      other.add_to(sums, r);
    }
    if (s.da != nullptr) sums.store(s.da + i * K, Sums<T, K>());
    s.row_sums[i] = squares;
  }
}

template <class T>
void residual_any(std::int64_t first, std::int64_t last, const ResidualArguments<T>& s) {
  for (std::int64_t i = first; i < last; ++i) {
    const T* row = s.a + i * s.k;
    T* da = s.da != nullptr ? s.da + i * s.k : nullptr;
    if (da != nullptr) std::fill(da, da + s.k, T(0));
    double squares = 0;
    for (std::int32_t e = s.offsets[i]; e < s.offsets[i + 1]; ++e) {
      const T* other = s.b + static_cast<std::int64_t>(s.columns[e]) * s.k;
      T r = 0;
#pragma omp simd reduction(+ : r)
      for (std::int64_t j = 0; j < s.k; ++j) r += row[j] * other[j];
      r -= s.target[e];
      s.r[e] = r;
      squares += static_cast<double>(r) * static_cast<double>(r);
      if (da == nullptr) continue;
#pragma omp simd
      for (std::int64_t j = 0; j < s.k; ++j) da[j] += r * other[j];
    }
    s.row_sums[i] = squares;
  }
}

// The widths of completion runs, 2 r̂, have kernels of their own with the row in registers.
constexpr std::int64_t widest_fixed = 40;

template <class T>
using SampledKernel = void (*)(std::int64_t, std::int64_t, const SampledArguments<T>&);
template <class T>
using SparseKernel = void (*)(std::int64_t, std::int64_t, const SparseArguments<T>&);

template <class T, int... I>
SampledKernel<T> sampled_kernel(std::int64_t k, std::integer_sequence<int, I...>) {
  static constexpr SampledKernel<T> table[] = {sampled_fixed<T, 2 * (I + 1)>...};
  return k % 2 == 0 && k > 0 && k <= widest_fixed ? table[k / 2 - 1] : sampled_any<T>;
}

template <class T, int... I>
SparseKernel<T> sparse_kernel(std::int64_t k, std::integer_sequence<int, I...>) {
  static constexpr SparseKernel<T> table[] = {sparse_fixed<T, 2 * (I + 1)>...};
  return k % 2 == 0 && k > 0 && k <= widest_fixed ? table[k / 2 - 1] : sparse_any<T>;
}

template <class T>
using ResidualKernel = void (*)(std::int64_t, std::int64_t, const ResidualArguments<T>&);

template <class T, int... I>
ResidualKernel<T> residual_kernel(std::int64_t k, std::integer_sequence<int, I...>) {
  static constexpr ResidualKernel<T> table[] = {residual_fixed<T, 2 * (I + 1)>...};
  return k % 2 == 0 && k > 0 && k <= widest_fixed ? table[k / 2 - 1] : residual_any<T>;
}

using FixedWidths = std::make_integer_sequence<int, static_cast<int>(widest_fixed / 2)>;

}  // namespace

template <class T>
void sampled_product(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                     const T* a, const T* b, std::int64_t k, T* out) {
  const auto kernel = sampled_kernel<T>(k, FixedWidths());
  const SampledArguments<T> arguments{offsets, columns, a, b, k, out};
  parallel_rows(rows, offsets, k,
                [&](std::int64_t first, std::int64_t last) { kernel(first, last, arguments); });
}

template <class T>
double sampled_residual(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                        const T* a, const T* b, std::int64_t k, const T* target, T* r, T* da) {
  const auto kernel = residual_kernel<T>(k, FixedWidths());
  thread_local std::vector<double> row_sums;  // added in order, whoever computed them
  row_sums.resize(static_cast<std::size_t>(rows));
  const ResidualArguments<T> arguments{offsets, columns, a, b, k, target, r, da, row_sums.data()};
  parallel_rows(rows, offsets, k,
                [&](std::int64_t first, std::int64_t last) { kernel(first, last, arguments); });
  double total = 0;
  for (const double sum : row_sums) total += sum;
  return total;
}

template <class T>
void sparse_rows(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                 const std::int32_t* position, const T* values, const T* x, std::int64_t k,
                 T* out) {
  const auto kernel = sparse_kernel<T>(k, FixedWidths());
  const SparseArguments<T> arguments{offsets, columns, position, values, x, k, out};
  parallel_rows(rows, offsets, k,
                [&](std::int64_t first, std::int64_t last) { kernel(first, last, arguments); });
}

#define PARSIMONY_INSTANTIATE(T)                                                                  \
  template void sampled_product(std::int64_t, const std::int32_t*, const std::int32_t*, const T*, \
                                const T*, std::int64_t, T*);                                      \
  template double sampled_residual(std::int64_t, const std::int32_t*, const std::int32_t*,        \
                                   const T*, const T*, std::int64_t, const T*, T*, T*);           \
  template void sparse_rows(std::int64_t, const std::int32_t*, const std::int32_t*,               \
                            const std::int32_t*, const T*, const T*, std::int64_t, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
