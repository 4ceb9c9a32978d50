// LAPACK's drivers with their workspace handled here, for float and double. Column-major, as LAPACK
// is; the callers in this folder hand in row-major matrices as their transposes. The only file that
// includes xtensor-blas is lapack.cpp.
#pragma once

#include <cstdint>

namespace parsimony::lapack {

/// Jobs of the SVD drivers: no vectors, the thin ones, or square U and Vᵀ.
enum class Vectors : char { none = 'N', thin = 'S', full = 'A' };

/// A (m, n) = U diag(s) Vᵀ, destroying A; divide and conquer (gesdd). Leading dimensions: m for A
/// and U; min(m, n) (thin) or n (full) for Vᵀ. @returns LAPACK's info; > 0 if it did not converge.
/// @throws ShapeError if a workspace exceeds LAPACK's 32-bit sizes (so do all drivers here).
template <class T>
int svd_divide(Vectors job, std::int64_t m, std::int64_t n, T* a, T* s, T* u, T* vt);
/// The same by QR iteration (gesvd): slower, converges where gesdd fails.
template <class T>
int svd_iterate(Vectors job, std::int64_t m, std::int64_t n, T* a, T* s, T* u, T* vt);

/// A (m, n), leading dimension m, = L Q: L below the diagonal of A, reflectors above; tau (min(m,
/// n)).
template <class T>
int lq(std::int64_t m, std::int64_t n, T* a, T* tau);
/// The first `rows` rows (rows, n) of the Q of `count` reflectors of lq, in place of them.
template <class T>
int lq_rows(std::int64_t rows, std::int64_t n, std::int64_t count, T* a, std::int64_t lda,
            const T* tau);

/// A (n, n) = Uᵀ U from A's upper triangle. @returns > 0 if A is not positive definite.
template <class T>
int cholesky(std::int64_t n, T* a);
/// Solves Uᵀ U X = B in place for B (n, k).
template <class T>
int cholesky_solve(std::int64_t n, std::int64_t k, const T* a, T* b);

/// Eigenvectors of the symmetric A (n, n), read from one triangle, in its place; w (n) ascending.
/// Divide and conquer (syevd). @returns > 0 if it did not converge.
template <class T>
int symmetric_eigen(std::int64_t n, T* a, T* w);

}  // namespace parsimony::lapack
