// Decompositions and what the theory measures with them, over LAPACK (through xtensor-blas).
// Every function checks that its input is finite and LAPACK's info; matrices are row-major.
#pragma once

#include <parsimony/tensor.hpp>

#include <vector>

namespace parsimony {

/// Thin SVD a = u diag(s) vt with k = min(m, n): u (m, k), s (k) descending, vt (k, n).
template <class T>
struct Svd {
  Tensor<T> u, s, vt;
};
/// `full` returns square u (m, m) and vt (n, n). Divide and conquer first, QR iteration if it does
/// not converge. @throws NumericalError on non-finite input or no convergence; ShapeError unless
/// rank 2 with sides >= 1.
template <class T>
Svd<T> svd(const Tensor<T>& a, bool full = false);

/// Singular values only, descending; half the cost of svd.
template <class T>
Tensor<T> singular_values(const Tensor<T>& a);

/// Thin QR: q (m, k), r (k, n), k = min(m, n).
template <class T>
struct Qr {
  Tensor<T> q, r;
};
template <class T>
Qr<T> qr(const Tensor<T>& a);

/// Orthonormal basis of the column space, by SVD with the tolerance of numerical_rank, or exactly
/// `columns` leading left singular vectors where columns >= 0.
/// @throws ValueError if columns > min(m, n).
template <class T>
Tensor<T> orth(const Tensor<T>& a, index_t columns = -1);

/// Orthonormal basis (n, n - k) of the orthogonal complement of the columns of an orthonormal
/// (n, k) matrix. @throws ValueError if its columns are not orthonormal to 1e-3.
template <class T>
Tensor<T> orthogonal_complement(const Tensor<T>& q);

/// Solves a x = b for symmetric positive definite a (n, n), b (n, k), by Cholesky.
/// Only the lower triangle of a is read. @throws NumericalError if a is not positive definite.
template <class T>
Tensor<T> solve_spd(const Tensor<T>& a, const Tensor<T>& b);

/// Lower triangular L (n, n) with a = L Lᵀ for symmetric positive definite a, of which only the
/// lower triangle is read. @throws NumericalError if a is not positive definite.
template <class T>
Tensor<T> cholesky(const Tensor<T>& a);

/// Eigenvalues (n), descending, of a symmetric a (n, n), and their eigenvectors, the columns of
/// `vectors` (n, n). Only the lower triangle of a is read. @throws NumericalError on non-finite
/// input or no convergence; ShapeError unless a is square.
template <class T>
struct SymmetricEigen {
  Tensor<T> values, vectors;
};
template <class T>
SymmetricEigen<T> symmetric_eigen(const Tensor<T>& a);

/// Number of singular values above max(s) * max(m, n) * machine epsilon of T (NumPy's rule), or
/// above `tolerance` where it is >= 0.
template <class T>
index_t numerical_rank(const Tensor<T>& a, double tolerance = -1);

/// The same from singular values (k) that are at hand; `largest_side` is max(m, n).
template <class T>
index_t numerical_rank_of(const Tensor<T>& s, index_t largest_side, double tolerance = -1);

/// Principal angles in radians, ascending, between the column spaces of two orthonormal bases
/// (n, p) and (n, q); min(p, q) of them. Small angles come from the sine, so 1e-16 is reachable.
/// @throws ValueError if the columns of a basis are not orthonormal to 1e-3.
template <class T>
std::vector<double> principal_angles(const Tensor<T>& a, const Tensor<T>& b);

/// Largest entry of |aᵀa - I|.
template <class T>
double orthonormality_error(const Tensor<T>& a);

}  // namespace parsimony
