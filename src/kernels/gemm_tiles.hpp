// Matrix products of our own, for AVX-512 and AVX2: gemm() uses them where the build has them.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// c (m, n) = alpha op(a) op(b) + beta c, all row-major; op transposes where the flag is set. With
/// a `bias` (n) every row of it takes the place of beta c.
template <class T>
struct Product {
  bool trans_a, trans_b;
  std::int64_t m, n, k;
  T alpha;
  const T* a;
  std::int64_t lda;
  const T* b;
  std::int64_t ldb;
  T beta;
  T* c;
  std::int64_t ldc;
  const T* bias = nullptr;
};

/// Computes `s` on up to `threads` threads; the same bits for any number. Does nothing and returns
/// false where the build is for neither.
template <class T>
bool gemm_tiles(const Product<T>& s, int threads);

}  // namespace parsimony::kernels
