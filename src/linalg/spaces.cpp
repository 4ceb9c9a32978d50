// What the theory measures: rank, angles between subspaces, and Haar-random matrices.
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/rng.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace parsimony {

template <class T>
index_t numerical_rank_of(const Tensor<T>& s, index_t largest_side, double tolerance) {
  if (std::isnan(tolerance)) throw ValueError("numerical_rank: the tolerance is NaN");
  if (s.rank() != 1 || s.size() < 1) {
    throw ShapeError(
        fmt::format("numerical_rank: expected singular values (k); got shape {}", s.shape().str()));
  }
  if (tolerance < 0) {
    tolerance = static_cast<double>(*std::max_element(s.begin(), s.end())) *
                static_cast<double>(largest_side) *
                static_cast<double>(std::numeric_limits<T>::epsilon());
  }
  return std::count_if(s.begin(), s.end(),
                       [tolerance](T x) { return static_cast<double>(x) > tolerance; });
}

template <class T>
index_t numerical_rank(const Tensor<T>& a, double tolerance) {
  const Tensor<T> s = singular_values(a);
  return numerical_rank_of(s, std::max(a.dim(0), a.dim(1)), tolerance);
}

template <class T>
double orthonormality_error(const Tensor<T>& a) {
  if (a.rank() != 2) {
    throw ShapeError(
        fmt::format("orthonormality_error: expected a matrix; got shape {}", a.shape().str()));
  }
  return max_abs(sub(matmul(a, a, true, false), Tensor<T>::eye(a.dim(1))));
}

namespace {

/// The basis in double, its columns orthonormal to double's precision: a float basis is off by
/// 1e-7, which would drown angles below that.
template <class T>
Tensor<double> sharpened(const Tensor<T>& basis) {
  if (basis.rank() != 2 || basis.dim(0) < 1 || basis.dim(1) < 1 || basis.dim(1) > basis.dim(0)) {
    throw ShapeError(fmt::format("principal_angles: expected bases (n, k), n >= k >= 1; got {}",
                                 basis.shape().str()));
  }
  const Tensor<double> q = qr(cast<double>(basis)).q;
  if (const double error = orthonormality_error(basis); error > 1e-3) {
    throw ValueError(fmt::format(
        "principal_angles: the columns of the {} basis are not orthonormal; |aᵀa - I| is {:.3g}; "
        "use orth first",
        basis.shape().str(), error));
  }
  return q;
}

}  // namespace

template <class T>
std::vector<double> principal_angles(const Tensor<T>& a, const Tensor<T>& b) {
  Tensor<double> large = sharpened(a);
  Tensor<double> small = sharpened(b);
  if (large.dim(0) != small.dim(0)) {
    throw ShapeError(fmt::format("principal_angles: the spaces differ: {} and {}", a.shape().str(),
                                 b.shape().str()));
  }
  if (large.dim(1) < small.dim(1)) std::swap(large, small);
  // Cosines lose half the digits near 0 and sines near π/2 (Björck & Golub 1973; Knyazev &
  // Argentati 2002); their quotient loses none: the i-th largest cosine belongs to the i-th
  // smallest sine.
  const Tensor<double> overlap = matmul(large, small, true, false);
  const Tensor<double> cosines = singular_values(overlap);
  const Tensor<double> sines = singular_values(sub(small, matmul(large, overlap)));
  const auto count = static_cast<std::size_t>(small.dim(1));
  std::vector<double> angles(count);
  for (std::size_t i = 0; i < count; ++i) {
    angles[i] = std::atan2(sines.data()[count - 1 - i], cosines.data()[i]);
  }
  return angles;
}

template <class T>
Tensor<T> haar_orthogonal(Rng& rng, index_t rows, index_t cols) {
  if (rows < 1 || cols < 1) {
    throw ShapeError(
        fmt::format("haar_orthogonal: expected sides of at least 1; got ({}, {})", rows, cols));
  }
  if (rows < cols) return transpose(haar_orthogonal<T>(rng, cols, rows));
  const Qr<T> parts = qr(rng.normal<T>({rows, cols}));
  // QR fixes Q only up to the signs of R's diagonal; with a positive diagonal it is a function of
  // the Gaussian that rotates along with it.
  Tensor<T> q = parts.q;
  T* out = q.mutable_data();
  for (index_t j = 0; j < cols; ++j) {
    if (!std::signbit(parts.r.data()[j * cols + j])) continue;
    for (index_t i = 0; i < rows; ++i) out[i * cols + j] = -out[i * cols + j];
  }
  return q;
}

#define PARSIMONY_INSTANTIATE(T)                                                     \
  template index_t numerical_rank_of(const Tensor<T>&, index_t, double);             \
  template index_t numerical_rank(const Tensor<T>&, double);                         \
  template double orthonormality_error(const Tensor<T>&);                            \
  template std::vector<double> principal_angles(const Tensor<T>&, const Tensor<T>&); \
  template Tensor<T> haar_orthogonal(Rng&, index_t, index_t);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
