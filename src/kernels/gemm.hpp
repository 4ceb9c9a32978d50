// General matrix product over row-major spans, by our own AVX-512 kernels or by OpenBLAS; the only
// door to BLAS. An entry has the same bits for any number of threads.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// c (m, n) = alpha op(a) op(b) + beta c, row-major with leading dimensions.
void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc);
void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta,
          double* c, std::int64_t ldc);

/// y (rows, out) = x wᵀ + bias of x (rows, in), w (out, in); no bias where it is nullptr.
template <class T>
void affine(std::int64_t rows, std::int64_t out, std::int64_t in, const T* x, const T* w,
            const T* bias, T* y);

/// `batch` products with the given strides between matrices; parallel over the batch, each product
/// on one thread.
template <class T>
void gemm_batched(bool trans_a, bool trans_b, std::int64_t batch, std::int64_t m, std::int64_t n,
                  std::int64_t k, const T* a, std::int64_t stride_a, const T* b,
                  std::int64_t stride_b, T* c);

}  // namespace parsimony::kernels
