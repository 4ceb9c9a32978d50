#include "kernels/gemm.hpp"

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "kernels/gemm_avx512.hpp"
#include "kernels/parallel.hpp"
#include "kernels/transpose.hpp"

namespace parsimony::kernels {

namespace {

CBLAS_TRANSPOSE flag(bool transposed) { return transposed ? CblasTrans : CblasNoTrans; }

int blas_int(std::int64_t n) { return static_cast<int>(n); }

void call(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  cblas_sgemm(CblasRowMajor, flag(trans_a), flag(trans_b), blas_int(m), blas_int(n), blas_int(k),
              alpha, a, blas_int(lda), b, blas_int(ldb), beta, c, blas_int(ldc));
}

void call(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta,
          double* c, std::int64_t ldc) {
  cblas_dgemm(CblasRowMajor, flag(trans_a), flag(trans_b), blas_int(m), blas_int(n), blas_int(k),
              alpha, a, blas_int(lda), b, blas_int(ldb), beta, c, blas_int(ldc));
}

/// OpenBLAS's kernels for small a bᵀ run at half the rate of those for a b, so below this m n k it
/// pays to write bᵀ out first (100³: 29 µs against 41).
constexpr std::int64_t pack_threshold = 192 * 192 * 192;

/// A product below this m n k is not worth waking a thread: 160³ takes about 0.1 ms on one core.
constexpr std::int64_t gemm_threshold = 160 * 160 * 160;

int threads_for(std::int64_t m, std::int64_t n, std::int64_t k) {
  const bool alone = omp_in_parallel() != 0 || m * n * k < gemm_threshold || std::max(m, n) < 32;
  return alone ? 1 : num_threads();
}

// Our own kernels where the build has them; they choose how to share the work. For the rest,
// OpenBLAS would thread products from 64³ on, where its barrier costs more than it saves, so the
// choice is ours: one thread, or the longer side of c in one block a thread.
template <class T>
void threaded(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
              const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c,
              std::int64_t ldc) {
  const int threads = threads_for(m, n, k);
  const Product<T> product{trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
  if (gemm_avx512(product, threads)) return;
  if (trans_b && m >= 8 && n >= 8 && k >= 8 && m * n * k < pack_threshold) {
    thread_local std::vector<T> packed;
    packed.resize(static_cast<std::size_t>(n * k));
    transpose(n, k, b, ldb, packed.data());
    threaded(trans_a, false, m, n, k, alpha, a, lda, packed.data(), n, beta, c, ldc);
    return;
  }
  if (omp_in_parallel() != 0) {
    call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  if (threads == 1) {
    const BlasThreads one(1);
    call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    return;
  }
  const bool by_rows = m >= n;
  const std::int64_t side = by_rows ? m : n;
  // Whole register tiles for every thread but the last, so that an entry is summed in the same
  // order for any number of threads: OpenBLAS's kernels walk our rows by 12 (Haswell, Zen) or 2, 4
  // or 8, our columns by 8, 16 or 48.
  const std::int64_t tile = by_rows ? 24 : 48;
  const std::int64_t tiles = (side + tile - 1) / tile;
#pragma omp parallel num_threads(static_cast <int>(std::min <std::int64_t>(threads, tiles)))
  {
    const std::int64_t t = omp_get_thread_num();
    const std::int64_t count = omp_get_num_threads();
    const std::int64_t first = std::min(side, tiles * t / count * tile);
    const std::int64_t last = std::min(side, tiles * (t + 1) / count * tile);
    if (first < last && by_rows) {
      call(trans_a, trans_b, last - first, n, k, alpha, a + first * (trans_a ? 1 : lda), lda, b,
           ldb, beta, c + first * ldc, ldc);
    } else if (first < last) {
      call(trans_a, trans_b, m, last - first, k, alpha, a, lda, b + first * (trans_b ? ldb : 1),
           ldb, beta, c + first, ldc);
    }
  }
}

}  // namespace

void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  threaded(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta,
          double* c, std::int64_t ldc) {
  threaded(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <class T>
void affine(std::int64_t rows, std::int64_t out, std::int64_t in, const T* x, const T* w,
            const T* bias, T* y) {
  Product<T> product{false, true, rows, out, in, T(1), x, in, w, in, T(0), y, out};
  product.bias = bias;
  if (gemm_avx512(product, threads_for(rows, out, in))) return;
  if (bias != nullptr) {
    parallel_for(rows, out, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) std::copy(bias, bias + out, y + r * out);
    });
  }
  gemm(false, true, rows, out, in, T(1), x, in, w, in, bias != nullptr ? T(1) : T(0), y, out);
}

template <class T>
void gemm_batched(bool trans_a, bool trans_b, std::int64_t batch, std::int64_t m, std::int64_t n,
                  std::int64_t k, const T* a, std::int64_t stride_a, const T* b,
                  std::int64_t stride_b, T* c) {
  const std::int64_t lda = trans_a ? m : k;
  const std::int64_t ldb = trans_b ? k : n;
  // Inside a parallel region OpenBLAS's OpenMP build runs each product on the calling thread.
  parallel_for(batch, m * n * k, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      gemm(trans_a, trans_b, m, n, k, T(1), a + i * stride_a, lda, b + i * stride_b, ldb, T(0),
           c + i * m * n, n);
    }
  });
}

template void affine<float>(std::int64_t, std::int64_t, std::int64_t, const float*, const float*,
                            const float*, float*);
template void affine<double>(std::int64_t, std::int64_t, std::int64_t, const double*, const double*,
                             const double*, double*);
template void gemm_batched<float>(bool, bool, std::int64_t, std::int64_t, std::int64_t,
                                  std::int64_t, const float*, std::int64_t, const float*,
                                  std::int64_t, float*);
template void gemm_batched<double>(bool, bool, std::int64_t, std::int64_t, std::int64_t,
                                   std::int64_t, const double*, std::int64_t, const double*,
                                   std::int64_t, double*);

}  // namespace parsimony::kernels
