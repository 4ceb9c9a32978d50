#include "kernels/gemm.hpp"

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "kernels/gemm_tiles.hpp"
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
constexpr std::int64_t pack_threshold = std::int64_t{192} * 192 * 192;

/// A product below this m n k is not worth a second thread: 90³ takes 40 µs on one core. (A step of
/// three factors with d = 100: 250 µs on two threads, 330 on one, on a 2-core AVX2 machine.)
constexpr std::int64_t gemm_threshold = std::int64_t{90} * 90 * 90;

bool is_small(std::int64_t m, std::int64_t n, std::int64_t k) {
  return m * n * k < gemm_threshold || std::max(m, n) < 32;
}

int threads_for(std::int64_t m, std::int64_t n, std::int64_t k) {
  return omp_in_parallel() != 0 || is_small(m, n, k) ? 1 : num_threads();
}

/// What a thread takes at a time of a side of c: of the side's length alone, so that an entry is
/// summed in the same order for any number of threads. OpenBLAS's order depends on where in its
/// blocks an entry falls.
std::int64_t chunk_of(std::int64_t side) {
  constexpr std::int64_t most = 16, tile = 48;  // chunks; a multiple of its register tiles
  return std::max<std::int64_t>(4 * tile, (side + most * tile - 1) / (most * tile) * tile);
}

/// The longer side of c chunk by chunk on up to `threads` threads, for OpenBLAS's own would thread
/// products from 64³ on, where its barrier costs more than it saves.
template <class T>
void by_blas(const Product<T>& s, int threads) {
  if (is_small(s.m, s.n, s.k)) {
    const BlasThreads one(1);
    call(s.trans_a, s.trans_b, s.m, s.n, s.k, s.alpha, s.a, s.lda, s.b, s.ldb, s.beta, s.c, s.ldc);
    return;
  }
  const bool by_rows = s.m >= s.n;
  const std::int64_t side = by_rows ? s.m : s.n;
  const std::int64_t chunk = chunk_of(side);
  const std::int64_t chunks = (side + chunk - 1) / chunk;
  const auto one = [&](std::int64_t i) {
    const std::int64_t first = i * chunk;
    const std::int64_t size = std::min(chunk, side - first);
    if (by_rows) {
      call(s.trans_a, s.trans_b, size, s.n, s.k, s.alpha, s.a + first * (s.trans_a ? 1 : s.lda),
           s.lda, s.b, s.ldb, s.beta, s.c + first * s.ldc, s.ldc);
    } else {
      call(s.trans_a, s.trans_b, s.m, size, s.k, s.alpha, s.a, s.lda,
           s.b + first * (s.trans_b ? s.ldb : 1), s.ldb, s.beta, s.c + first, s.ldc);
    }
  };
  if (threads == 1) {
    const BlasThreads single(1);
    for (std::int64_t i = 0; i < chunks; ++i) one(i);
    return;
  }
  // Inside a parallel region OpenBLAS's OpenMP build runs each product on the calling thread.
#pragma omp parallel for schedule(static) \
    num_threads(static_cast <int>(std::min <std::int64_t>(threads, chunks)))
  for (std::int64_t i = 0; i < chunks; ++i) one(i);
}

/// Our own kernels where the build has them; they choose how to share the work. OpenBLAS for the
/// rest.
template <class T>
void threaded(const Product<T>& s) {
  const int threads = threads_for(s.m, s.n, s.k);
  if (gemm_tiles(s, threads)) return;
  if (s.trans_b && s.m >= 8 && s.n >= 8 && s.k >= 8 && s.m * s.n * s.k < pack_threshold) {
    thread_local std::vector<T> packed;
    packed.resize(static_cast<std::size_t>(s.n * s.k));
    transpose(s.n, s.k, s.b, s.ldb, packed.data());
    Product<T> plain = s;
    plain.trans_b = false;
    plain.b = packed.data();
    plain.ldb = s.n;
    by_blas(plain, threads);
    return;
  }
  by_blas(s, threads);
}

}  // namespace

void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  threaded(Product<float>{trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
}

void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta,
          double* c, std::int64_t ldc) {
  threaded(Product<double>{trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
}

template <class T>
void affine(std::int64_t rows, std::int64_t out, std::int64_t in, const T* x, const T* w,
            const T* bias, T* y) {
  Product<T> product{false, true, rows, out, in, T(1), x, in, w, in, T(0), y, out};
  product.bias = bias;
  if (gemm_tiles(product, threads_for(rows, out, in))) return;
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
