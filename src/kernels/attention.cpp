#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gemm.hpp"
#include "kernels/parallel.hpp"
#include "kernels/row_sums.hpp"
#include "kernels/transpose.hpp"
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
  thread_local std::vector<T> buffers[4];
  auto& buffer = buffers[which];
  if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

/// Softmax of a row of scores times `scale` over the unmasked keys, in place.
template <class T>
void masked_softmax(std::int64_t n, T scale, const std::uint8_t* mask, T* x) {
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    x[i] = mask == nullptr || mask[i] != 0 ? x[i] * scale : -std::numeric_limits<T>::infinity();
    largest = x[i] > largest ? x[i] : largest;
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

}  // namespace

template <class T>
void attention(const AttentionShape& s, const DropoutMask& dropout, const T* q, const T* k,
               const T* v, T* out, T* probabilities) {
  const std::int64_t ld = s.hidden();
  const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(s.width)));
  const std::int64_t cost = 2 * s.queries * s.length * s.width;
  parallel_for(s.batch * s.heads, cost, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t item = first; item < last; ++item) {
      const std::int64_t b = item / s.heads;
      const std::int64_t head = item % s.heads * s.width;
      const std::int64_t at = b * s.length * ld + head;
      const std::int64_t at_q = b * s.queries * ld + head;
      const std::int64_t n = used_length(s, b);
      const std::int64_t m = std::min(n, s.queries);
      for (std::int64_t i = m; i < s.queries; ++i) std::fill_n(out + at_q + i * ld, s.width, T(0));
      if (m == 0) continue;
      T* p = probabilities + item * s.queries * s.length;
      T* kt = scratch<T>(0, n * s.width);
      transpose(n, s.width, k + at, ld, kt);
      gemm(false, false, m, n, s.width, T(1), q + at_q, ld, kt, n, T(0), p, n);
      const T* weights = p;
      T* dropped = dropout.threshold != 0 ? scratch<T>(1, m * n) : nullptr;
      for (std::int64_t i = 0; i < m; ++i) {
        masked_softmax(n, scale, s.mask == nullptr ? nullptr : s.mask + b * s.length, p + i * n);
        if (dropped != nullptr) {
          drop_row({dropout.key, dropout.threshold, s.length}, item * s.length + i, n, p + i * n,
                   dropped + i * n);
        }
      }
      if (dropped != nullptr) weights = dropped;
      gemm(false, false, m, s.width, n, T(1), weights, n, v + at, ld, T(0), out + at_q, ld);
    }
  });
}

// With D the dropped P: dV = Dᵀ dO, dD = dO Vᵀ, dP = dD / kept where kept, dS = P (dP - <P, dP>),
// dQ = dS K / √width, dK = dSᵀ Q / √width.
template <class T>
void attention_backward(const AttentionShape& s, const DropoutMask& dropout, const T* q, const T* k,
                        const T* v, const T* probabilities, const T* dout, T* dq, T* dk, T* dv) {
  const std::int64_t ld = s.hidden();
  const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(s.width)));
  const T inverse = static_cast<T>(1.0 / dropout.kept());
  const std::int64_t cost = 4 * s.queries * s.length * s.width;
  parallel_for(s.batch * s.heads, cost, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t item = first; item < last; ++item) {
      const std::int64_t b = item / s.heads;
      const std::int64_t head = item % s.heads * s.width;
      const std::int64_t at = b * s.length * ld + head;
      const std::int64_t at_q = b * s.queries * ld + head;
      const std::int64_t n = used_length(s, b);
      const std::int64_t m = std::min(n, s.queries);
      const auto clear = [&](T* d, std::int64_t from, std::int64_t to) {
        if (d == nullptr) return;
        for (std::int64_t i = from; i < to; ++i) std::fill_n(d + i * ld, s.width, T(0));
      };
      clear(dq == nullptr ? dq : dq + at_q, m, s.queries);
      clear(dk == nullptr ? dk : dk + at, n, s.length);
      clear(dv == nullptr ? dv : dv + at, n, s.length);
      if (m == 0) continue;
      const T* p = probabilities + item * s.queries * s.length;
      T* weights = scratch<T>(1, m * n);
      T* ds = scratch<T>(2, m * n);
      T* vt = scratch<T>(0, n * s.width);
      transpose(n, s.width, v + at, ld, vt);
      gemm(false, false, m, n, s.width, T(1), dout + at_q, ld, vt, n, T(0), ds, n);
      for (std::int64_t i = 0; i < m; ++i) {
        const T* pr = p + i * n;
        T* wr = weights + i * n;
        T* dr = ds + i * n;
        // <P, dP> = <D, dD>, so one sum does for both. A dropped -0 weighs nothing either way.
        for (std::int64_t j = 0; j < n; ++j) wr[j] = pr[j] < T(0) ? T(0) : pr[j] * inverse;
        const T inner = static_cast<T>(sum_of(n, [=](std::int64_t j) { return wr[j] * dr[j]; }));
        for (std::int64_t j = 0; j < n; ++j) {
          dr[j] = scale * (wr[j] * dr[j] - std::abs(pr[j]) * inner);
        }
      }
      if (dv != nullptr) {
        gemm(true, false, n, s.width, m, T(1), weights, n, dout + at_q, ld, T(0), dv + at, ld);
      }
      if (dq != nullptr) {
        gemm(false, false, m, s.width, n, T(1), ds, n, k + at, ld, T(0), dq + at_q, ld);
      }
      if (dk != nullptr) {
        gemm(true, false, n, s.width, m, T(1), ds, n, q + at_q, ld, T(0), dk + at, ld);
      }
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
