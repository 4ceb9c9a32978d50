// SVD, QR and Cholesky of row-major matrices. LAPACK reads a row-major matrix as its transpose, so
// the SVD a = u s vt is LAPACK's aᵀ = vtᵀ s uᵀ with the factors exchanged, and the QR of a is the
// LQ of aᵀ: nothing is transposed in memory.
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "linalg/lapack.hpp"

namespace parsimony {

namespace {

template <class T>
void require_matrix(const char* op, const Tensor<T>& a) {
  if (!a.defined() || a.rank() != 2 || a.dim(0) < 1 || a.dim(1) < 1) {
    throw ShapeError(fmt::format("{}: expected a matrix with sides of at least 1; got shape {}", op,
                                 a.shape().str()));
  }
  if (!all_finite(a)) {
    throw NumericalError(
        fmt::format("{}: the matrix of shape {} has NaN or infinite entries", op, a.shape().str()));
  }
}

/// LAPACK reports a bad argument as info < 0; with the checks above only a NaN born inside (an
/// overflow) can cause it.
template <class T>
[[noreturn]] void throw_failed(const char* op, const Tensor<T>& a, int info) {
  throw NumericalError(fmt::format("{}: LAPACK failed on a matrix of shape {} (info = {})", op,
                                   a.shape().str(), info));
}

/// The singular values and, where u and vt are given, the vectors of row-major a.
template <class T>
void decompose(const Tensor<T>& a, lapack::Vectors job, T* s, T* u, T* vt) {
  const index_t m = a.dim(0);
  const index_t n = a.dim(1);
  Tensor<T> work = a.clone();
  int info = lapack::svd_divide(job, n, m, work.mutable_data(), s, vt, u);
  if (info != 0) {
    std::copy(a.begin(), a.end(), work.mutable_data());
    info = lapack::svd_iterate(job, n, m, work.mutable_data(), s, vt, u);
  }
  if (info != 0) throw_failed("svd", a, info);
  if (!std::all_of(s, s + std::min(m, n), [](T x) { return x - x == T(0); })) {
    throw_failed("svd", a, 0);
  }
}

/// a's reflectors and R, in a copy of a; tau (k).
template <class T>
Tensor<T> factor(const char* op, const Tensor<T>& a, Tensor<T>& tau) {
  Tensor<T> work = a.clone();
  tau = Tensor<T>({std::min(a.dim(0), a.dim(1))});
  const int info = lapack::lq(a.dim(1), a.dim(0), work.mutable_data(), tau.mutable_data());
  if (info != 0) throw_failed(op, a, info);
  return work;
}

template <class T>
void require_square(const char* op, const Tensor<T>& a) {
  require_matrix(op, a);
  if (a.dim(0) != a.dim(1)) {
    throw ShapeError(fmt::format("{}: expected a square matrix; got {}", op, a.shape().str()));
  }
}

/// L in the lower triangle, what a had above it.
template <class T>
Tensor<T> cholesky_factor(const char* op, const Tensor<T>& a) {
  Tensor<T> factor = a.clone();
  const int info = lapack::cholesky(a.dim(0), factor.mutable_data());
  if (info > 0) {
    throw NumericalError(
        fmt::format("{}: the matrix of shape {} is not positive definite (leading minor {})", op,
                    a.shape().str(), info));
  }
  if (info < 0) throw_failed(op, a, info);
  return factor;
}

}  // namespace

template <class T>
Svd<T> svd(const Tensor<T>& a, bool full) {
  require_matrix("svd", a);
  const index_t m = a.dim(0);
  const index_t n = a.dim(1);
  const index_t k = std::min(m, n);
  Svd<T> out{Tensor<T>({m, full ? m : k}), Tensor<T>({k}), Tensor<T>({full ? n : k, n})};
  decompose(a, full ? lapack::Vectors::full : lapack::Vectors::thin, out.s.mutable_data(),
            out.u.mutable_data(), out.vt.mutable_data());
  return out;
}

template <class T>
Tensor<T> singular_values(const Tensor<T>& a) {
  require_matrix("singular_values", a);
  Tensor<T> s({std::min(a.dim(0), a.dim(1))});
  T unused = 0;
  decompose(a, lapack::Vectors::none, s.mutable_data(), &unused, &unused);
  return s;
}

template <class T>
Qr<T> qr(const Tensor<T>& a) {
  require_matrix("qr", a);
  const index_t m = a.dim(0);
  const index_t n = a.dim(1);
  const index_t k = std::min(m, n);
  Tensor<T> tau;
  Tensor<T> work = factor("qr", a, tau);
  Tensor<T> r = Tensor<T>::zeros({k, n});
  T* out = r.mutable_data();
  for (index_t i = 0; i < k; ++i) {
    std::copy(work.data() + i * n + i, work.data() + (i + 1) * n, out + i * n + i);
  }
  const int info = lapack::lq_rows(k, m, k, work.mutable_data(), n, tau.data());
  if (info != 0) throw_failed("qr", a, info);
  return {n == k ? work : slice(work, 1, 0, k), r};
}

template <class T>
Tensor<T> orth(const Tensor<T>& a, index_t columns) {
  require_matrix("orth", a);
  const index_t k = std::min(a.dim(0), a.dim(1));
  if (columns > k) {
    throw ValueError(fmt::format("orth: {} columns exceed the smaller side of a matrix of shape {}",
                                 columns, a.shape().str()));
  }
  const Svd<T> parts = svd(a);
  if (columns < 0) columns = numerical_rank_of(parts.s, std::max(a.dim(0), a.dim(1)));
  return columns == k ? parts.u : slice(parts.u, 1, 0, columns);
}

template <class T>
Tensor<T> orthogonal_complement(const Tensor<T>& q) {
  if (!q.defined() || q.rank() != 2 || q.dim(0) < 1 || q.dim(1) > q.dim(0)) {
    throw ShapeError(fmt::format(
        "orthogonal_complement: expected shape (n, k), 1 <= n >= k; got {}", q.shape().str()));
  }
  const index_t n = q.dim(0);
  const index_t k = q.dim(1);
  if (k == 0) return Tensor<T>::eye(n);
  require_matrix("orthogonal_complement", q);
  if (const double error = orthonormality_error(q); error > 1e-3) {
    throw ValueError(
        fmt::format("orthogonal_complement: the columns of the {} matrix are not orthonormal; |qᵀq "
                    "- I| is {:.3g}",
                    q.shape().str(), error));
  }
  // The reflectors that turn q into R also give the rest of the basis: the last n - k columns of
  // the square Q.
  Tensor<T> tau;
  const Tensor<T> reflectors = factor("orthogonal_complement", q, tau);
  Tensor<T> square = Tensor<T>::zeros({n, n});
  T* out = square.mutable_data();
  for (index_t i = 0; i < n; ++i) std::copy_n(reflectors.data() + i * k, k, out + i * n);
  const int info = lapack::lq_rows(n, n, k, out, n, tau.data());
  if (info != 0) throw_failed("orthogonal_complement", q, info);
  return slice(square, 1, k, n);
}

template <class T>
Tensor<T> solve_spd(const Tensor<T>& a, const Tensor<T>& b) {
  require_matrix("solve_spd", a);
  require_matrix("solve_spd", b);
  const index_t n = a.dim(0);
  if (a.dim(1) != n || b.dim(0) != n) {
    throw ShapeError(fmt::format("solve_spd: expected a (n, n) and b (n, k); got {} and {}",
                                 a.shape().str(), b.shape().str()));
  }
  const Tensor<T> factor = cholesky_factor("solve_spd", a);
  Tensor<T> x = transpose(b);
  const int solved = lapack::cholesky_solve(n, b.dim(1), factor.data(), x.mutable_data());
  if (solved != 0) throw_failed("solve_spd", a, solved);
  return transpose(x);
}

template <class T>
Tensor<T> cholesky(const Tensor<T>& a) {
  require_square("cholesky", a);
  Tensor<T> factor = cholesky_factor("cholesky", a);
  const index_t n = a.dim(0);
  T* l = factor.mutable_data();
  for (index_t i = 0; i < n; ++i) std::fill(l + i * n + i + 1, l + (i + 1) * n, T(0));
  return factor;
}

// LAPACK leaves the eigenvectors in its columns, our rows, by ascending eigenvalues.
template <class T>
SymmetricEigen<T> symmetric_eigen(const Tensor<T>& a) {
  require_square("symmetric_eigen", a);
  const index_t n = a.dim(0);
  Tensor<T> rows = a.clone();
  Tensor<T> ascending({n});
  const int info = lapack::symmetric_eigen(n, rows.mutable_data(), ascending.mutable_data());
  if (info != 0) throw_failed("symmetric_eigen", a, info);
  SymmetricEigen<T> out{Tensor<T>({n}), Tensor<T>({n, n})};
  T* values = out.values.mutable_data();
  T* vectors = out.vectors.mutable_data();
  for (index_t j = 0; j < n; ++j) {
    values[j] = ascending.data()[n - 1 - j];
    const T* from = rows.data() + (n - 1 - j) * n;
    for (index_t i = 0; i < n; ++i) vectors[i * n + j] = from[i];
  }
  return out;
}

#define PARSIMONY_INSTANTIATE(T)                                    \
  template Svd<T> svd(const Tensor<T>&, bool);                      \
  template Tensor<T> singular_values(const Tensor<T>&);             \
  template Qr<T> qr(const Tensor<T>&);                              \
  template Tensor<T> orth(const Tensor<T>&, index_t);               \
  template Tensor<T> orthogonal_complement(const Tensor<T>&);       \
  template Tensor<T> solve_spd(const Tensor<T>&, const Tensor<T>&); \
  template Tensor<T> cholesky(const Tensor<T>&);                    \
  template SymmetricEigen<T> symmetric_eigen(const Tensor<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
