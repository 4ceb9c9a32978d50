#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/parallel.hpp"
#include "kernels/row_sums.hpp"
#include "kernels/vector_math.hpp"

namespace parsimony::kernels {

namespace {

/// Tokens up to the last unmasked one.
std::int64_t used_length(const AttentionShape& s, std::int64_t b) {
  if (s.mask == nullptr) return s.length;
  std::int64_t n = s.length;
  while (n > 0 && s.mask[b * s.length + n - 1] == 0) --n;
  return n;
}

/// A matrix of one thread, grown when needed.
template <class T>
T* scratch(int which, std::int64_t size) {
  thread_local std::vector<T> buffers[2];
  auto& buffer = buffers[which];
  if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

/// Softmax of a row of scores times `scale` over the unmasked keys, in place.
template <class T>
void masked_softmax(std::int64_t n, T scale, const std::uint8_t* mask, T* x) {
  if (mask == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      x[i] = mask[i] != 0 ? x[i] * scale : -std::numeric_limits<T>::infinity();
    }
  }
  const T largest = max_of(n, x);
  if (largest == -std::numeric_limits<T>::infinity()) {
    std::fill_n(x, n, T(0));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) x[i] -= largest;
  exp_span(n, x, x);
  const T inverse = static_cast<T>(1.0 / sum_of(n, [=](std::int64_t i) { return x[i]; }));
  for (std::int64_t i = 0; i < n; ++i) x[i] *= inverse;
}

/// Dropped entries become negative, what v is weighted with goes to `weights`.
template <class T>
void drop_row(const DropoutMask& dropout, std::int64_t row, std::int64_t n, T* p, T* weights) {
  constexpr std::int64_t most = 4096;
  std::uint8_t stack[most];
  std::vector<std::uint8_t> heap;
  std::uint8_t* keep = stack;
  const std::int64_t blocks = (n + dropout_block - 1) / dropout_block;
  if (blocks * dropout_block > most) {
    heap.resize(static_cast<std::size_t>(blocks * dropout_block));
    keep = heap.data();
  }
  dropout_keep_row(dropout, row, n, keep);
  const T inverse = static_cast<T>(1.0 / dropout.kept());
  for (std::int64_t i = 0; i < n; ++i) {
    weights[i] = keep[i] != 0 ? p[i] * inverse : T(0);
    p[i] = keep[i] != 0 ? p[i] : -p[i];
  }
}

/// Where one head of one sequence is in the blocks, and how much of it is used.
struct Head {
  std::int64_t q, kv;  // offsets of its first entry
  std::int64_t n;      // keys up to the last unmasked one
  std::int64_t m;      // queries among them
  std::int64_t first;  // the position of the first query
};

Head head_of(const AttentionShape& s, std::int64_t item) {
  const std::int64_t b = item / s.heads;
  const std::int64_t head = item % s.heads;
  const std::int64_t n = used_length(s, b);
  const std::int64_t first = s.causal ? s.length - s.queries : 0;
  return {b * s.queries * s.hidden() + head * s.width,
          b * s.length * s.kv_hidden() + head / (s.heads / s.kv_heads) * s.width, n,
          std::clamp<std::int64_t>(n - first, 0, s.queries), first};
}

/// Heads that are rows of one product: those of a single query that share keys.
std::int64_t heads_together(const AttentionShape& s) {
  return s.queries == 1 ? s.heads / s.kv_heads : 1;
}

/// Rows of a causal head that are computed together, and keys that are weighted together: both
/// counted from the sequence's beginning, so that a row's sums do not depend on the other rows.
constexpr std::int64_t causal_rows = 64, causal_keys = 128;

/// Calls f(first row, last row, keys that they see) over the rows of a head.
template <class F>
void for_row_blocks(const AttentionShape& s, const Head& h, F f) {
  const std::int64_t step = s.causal ? causal_rows : h.m;
  for (std::int64_t i = 0; i < h.m; i += step) {
    const std::int64_t end = std::min(h.m, i + step);
    f(i, end, s.causal ? std::min(h.n, h.first + end) : h.n);
  }
}

}  // namespace

template <class T>
void attention(const AttentionShape& s, const DropoutMask& dropout, const T* q, const T* k,
               const T* v, T* out, T* probabilities) {
  const std::int64_t ld = s.hidden();
  const std::int64_t ld_kv = s.kv_hidden();
  const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(s.width)));
  const std::int64_t together = heads_together(s);
  const std::int64_t ld_q = together > 1 ? s.width : ld;
  const std::int64_t cost = 2 * together * s.queries * s.length * s.width;
  parallel_for(s.batch * s.heads / together, cost, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t item = first * together; item < last * together; item += together) {
      const Head h = head_of(s, item);
      const std::int64_t n = h.n;
      const std::uint8_t* mask = s.mask == nullptr ? nullptr : s.mask + item / s.heads * s.length;
      if (h.m < s.queries) {
        const std::int64_t from = together > 1 ? 0 : h.m;
        const std::int64_t rows = together > 1 ? together : s.queries;
        for (std::int64_t i = from; i < rows; ++i) std::fill_n(out + h.q + i * ld_q, s.width, T(0));
      }
      if (h.m == 0) continue;
      T* p = probabilities + item * s.queries * s.length;
      const std::int64_t ld_p = together > 1 ? s.length : n;
      const bool turned = s.transposed_keys > 0;
      const T* keys_of =
          turned ? k + item / (s.heads / s.kv_heads) * s.width * s.transposed_keys : k + h.kv;
      T* dropped = dropout.threshold != 0 ? scratch<T>(0, together * h.m * ld_p) : nullptr;
      const T* weights = dropped != nullptr ? dropped : p;
      for_row_blocks(s, h, [&](std::int64_t begin, std::int64_t end, std::int64_t keys) {
        const std::int64_t rows = together > 1 ? together : end - begin;
        gemm(false, !turned, rows, keys, s.width, T(1), q + h.q + begin * ld, ld_q, keys_of,
             turned ? s.transposed_keys : ld_kv, T(0), p + begin * ld_p, ld_p);
        for (std::int64_t i = begin; i < begin + rows; ++i) {
          const std::int64_t place = h.first + (together > 1 ? 0 : i);
          const std::int64_t seen = s.causal ? std::min(n, place + 1) : n;
          masked_softmax(seen, scale, mask, p + i * ld_p);
          std::fill(p + i * ld_p + seen, p + i * ld_p + n, T(0));
          if (dropped != nullptr) {
            const std::int64_t head = together > 1 ? item + i : item;
            drop_row({dropout.key, dropout.threshold, s.length}, head * s.length + place, n,
                     p + i * ld_p, dropped + i * ld_p);
          }
        }
        const std::int64_t step = s.causal ? causal_keys : keys;
        for (std::int64_t j = 0; j < keys; j += step) {
          gemm(false, false, rows, s.width, std::min(step, keys - j), T(1),
               weights + begin * ld_p + j, ld_p, v + h.kv + j * ld_kv, ld_kv, j == 0 ? T(0) : T(1),
               out + h.q + begin * ld, ld_q);
        }
      });
    }
  });
}

// With D the dropped P: dV = Dᵀ dO, dD = dO Vᵀ, dP = dD / kept where kept, dS = P (dP - <P, dP>),
// dQ = dS K / √width, dK = dSᵀ Q / √width; dK and dV summed over the heads that share them.
template <class T>
void attention_backward(const AttentionShape& s, const DropoutMask& dropout, const T* q, const T* k,
                        const T* v, const T* probabilities, const T* dout, T* dq, T* dk, T* dv) {
  const std::int64_t ld_kv = s.kv_hidden();
  const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(s.width)));
  const T inverse = static_cast<T>(1.0 / dropout.kept());
  const std::int64_t group = s.heads / s.kv_heads;
  const std::int64_t together = heads_together(s);
  const std::int64_t ld = together > 1 ? s.width : s.hidden();
  const std::int64_t cost = 4 * s.queries * s.length * s.width * group;
  // Several products into one block add to zeros; a single one overwrites.
  const bool adds = s.causal || group > together;
  const auto some_heads = [&](std::int64_t item) {
    const Head h = head_of(s, item);
    const std::int64_t n = h.n;
    const auto clear = [&](T* d, std::int64_t stride, std::int64_t from, std::int64_t to) {
      if (d == nullptr) return;
      for (std::int64_t i = from; i < to; ++i) std::fill_n(d + i * stride, s.width, T(0));
    };
    clear(dq == nullptr ? dq : dq + h.q, ld, h.m * together, s.queries * together);
    if (item % group == 0) {
      const std::int64_t from = adds || h.m == 0 ? 0 : n;
      clear(dk == nullptr ? dk : dk + h.kv, ld_kv, from, s.length);
      clear(dv == nullptr ? dv : dv + h.kv, ld_kv, from, s.length);
    }
    if (h.m == 0) return;
    const T* p = probabilities + item * s.queries * s.length;
    const std::int64_t ld_p = together > 1 ? s.length : n;
    T* weights = scratch<T>(0, together * h.m * n);
    T* ds = scratch<T>(1, together * h.m * n);
    const T beta = adds ? T(1) : T(0);
    for_row_blocks(s, h, [&](std::int64_t begin, std::int64_t end, std::int64_t keys) {
      const std::int64_t rows = (end - begin) * together;
      const T* upstream = dout + h.q + begin * ld;
      gemm(false, true, rows, keys, s.width, T(1), upstream, ld, v + h.kv, ld_kv, T(0),
           ds + begin * n, n);
      for (std::int64_t i = begin; i < begin + rows; ++i) {
        const T* pr = p + i * ld_p;
        T* wr = weights + i * n;
        T* dr = ds + i * n;
        // <P, dP> = <D, dD>, so one sum does for both. A dropped -0 weighs nothing either way.
        for (std::int64_t j = 0; j < keys; ++j) wr[j] = pr[j] < T(0) ? T(0) : pr[j] * inverse;
        const T inner = static_cast<T>(sum_of(keys, [=](std::int64_t j) { return wr[j] * dr[j]; }));
        for (std::int64_t j = 0; j < keys; ++j) {
          dr[j] = scale * (wr[j] * dr[j] - std::abs(pr[j]) * inner);
        }
      }
      if (dv != nullptr) {
        gemm(true, false, keys, s.width, rows, T(1), weights + begin * n, n, upstream, ld, beta,
             dv + h.kv, ld_kv);
      }
      if (dq != nullptr) {
        gemm(false, false, rows, s.width, keys, T(1), ds + begin * n, n, k + h.kv, ld_kv, T(0),
             dq + h.q + begin * ld, ld);
      }
      if (dk != nullptr) {
        gemm(true, false, keys, s.width, rows, T(1), ds + begin * n, n, q + h.q + begin * ld, ld,
             beta, dk + h.kv, ld_kv);
      }
    });
  };
  parallel_for(s.batch * s.kv_heads, cost, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t item = first * group; item < last * group; item += together) {
      some_heads(item);
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template void attention(const AttentionShape&, const DropoutMask&, const T*, const T*, const T*, \
                          T*, T*);                                                                 \
  template void attention_backward(const AttentionShape&, const DropoutMask&, const T*, const T*,  \
                                   const T*, const T*, const T*, T*, T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
