// Matrix products written for AVX-512, used by gemm() where they beat the BLAS at hand.
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
/// false where the build is not for AVX-512.
template <class T>
bool gemm_avx512(const Product<T>& s, int threads);

}  // namespace parsimony::kernels
