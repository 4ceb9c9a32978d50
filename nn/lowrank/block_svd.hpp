// Leading singular triplets of a matrix that is known by its products only.
#pragma once

#include <parsimony/deep_linear.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>
#include <cmath>

namespace parsimony {

/// Top k triplets of an (m, n) matrix A by block subspace iteration with twice the vectors:
/// `times(v)` is A v for v (n, b), `transposed_times(u)` is Aᵀ u. 1 <= k <= min(m, n).
template <class T, class Times, class TransposedTimes>
TopSingular<T> block_svd(index_t m, index_t n, index_t k, Rng stream, Times times,
                         TransposedTimes transposed_times) {
  const index_t block = std::min(std::min(m, n), k + std::max<index_t>(8, k));
  Tensor<T> v = qr(stream.template normal<T>({n, block})).q;
  Tensor<T> u;
  double previous = 0;
  for (int pass = 0; pass < 60; ++pass) {
    u = qr(times(v)).q;
    const Qr<T> back = qr(transposed_times(u));
    v = back.q;
    const double sum = frobenius(slice(back.r, 0, 0, k));
    if (pass >= 8 && std::abs(sum - previous) <= 1e-10 * sum) break;
    previous = sum;
  }
  // Rayleigh-Ritz on the converged block.
  const Svd<T> small = svd(matmul(u, times(v), true, false));
  return {matmul(u, slice(small.u, 1, 0, k)), slice(small.s, 0, 0, k),
          matmul(v, transpose(small.vt.rows(0, k)))};
}

}  // namespace parsimony
