// The calls into LAPACK, through xtensor-blas. It asks each driver for its workspace first.
#include <parsimony/error.hpp>
#include <parsimony/xtensor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>

// xtensor-blas asserts on info < 0 with a macro that it does not define here; every info goes back
// to our caller instead, who throws.
#define ASSERT(condition) static_cast<void>(condition)
#include <xtensor-blas/xlapack.hpp>
#undef ASSERT

#include "kernels/parallel.hpp"
#include "linalg/lapack.hpp"

namespace parsimony::lapack {

namespace {

/// LAPACK calls BLAS thousands of times. OpenBLAS would wake every thread for each of them, with a
/// barrier that costs more than a small product, and a time slice where another program has the
/// core (seen: 60 times slower). So threads only for long sides, and then the count that was asked.
int threads_for(std::int64_t shorter_side) { return shorter_side < 256 ? 1 : num_threads(); }

int to_int(std::int64_t n) {
  if (n > std::numeric_limits<int>::max()) {
    throw ShapeError(fmt::format("lapack: a side of {} exceeds 2^31 - 1", n));
  }
  return static_cast<int>(n);
}

/// LAPACK returns the size as a T; a float above 2^24 may have been rounded down.
template <class T>
std::vector<T> workspace(T query) {
  const double size = std::ceil(static_cast<double>(query) *
                                (1.0 + static_cast<double>(std::numeric_limits<T>::epsilon())));
  if (!(size >= 0 && size <= std::numeric_limits<int>::max())) {
    throw ShapeError(fmt::format("lapack: the workspace of {} numbers exceeds 2^31 - 1", size));
  }
  return std::vector<T>(std::max<std::size_t>(1, static_cast<std::size_t>(size)));
}

/// LAPACK's own sizes overflow silently; the largest, gesdd's, is 4 k² + 7 k plus a block row.
void check_svd_size(std::int64_t m, std::int64_t n) {
  const double k = static_cast<double>(std::min(m, n));
  const double rest = static_cast<double>(std::max(m, n));
  if (4 * k * k + 7 * k + 64 * (rest + k) > std::numeric_limits<int>::max()) {
    throw ShapeError(
        fmt::format("svd: a {} x {} matrix is too large for LAPACK's 32-bit sizes", m, n));
  }
}

}  // namespace

template <class T>
int svd_divide(Vectors job, std::int64_t m, std::int64_t n, T* a, T* s, T* u, T* vt) {
  const kernels::BlasThreads threads(threads_for(std::min(m, n)));
  check_svd_size(m, n);
  const int rows = to_int(m);
  const int cols = to_int(n);
  const int k = std::min(rows, cols);
  const int ld_vt = job == Vectors::thin ? k : cols;
  std::vector<int> integers(8 * static_cast<std::size_t>(k));
  T query = 0;
  const auto run = [&](T* work, int size) {
    return cxxlapack::gesdd<int>(static_cast<char>(job), rows, cols, a, rows, s, u, rows, vt, ld_vt,
                                 work, size, integers.data());
  };
  if (const int info = run(&query, -1); info != 0) return info;
  std::vector<T> work = workspace(query);
  return run(work.data(), static_cast<int>(work.size()));
}

template <class T>
int svd_iterate(Vectors job, std::int64_t m, std::int64_t n, T* a, T* s, T* u, T* vt) {
  const kernels::BlasThreads threads(threads_for(std::min(m, n)));
  check_svd_size(m, n);
  const int rows = to_int(m);
  const int cols = to_int(n);
  const int ld_vt = job == Vectors::thin ? std::min(rows, cols) : cols;
  T query = 0;
  const auto run = [&](T* work, int size) {
    return cxxlapack::gesvd<int>(static_cast<char>(job), static_cast<char>(job), rows, cols, a,
                                 rows, s, u, rows, vt, ld_vt, work, size);
  };
  if (const int info = run(&query, -1); info != 0) return info;
  std::vector<T> work = workspace(query);
  return run(work.data(), static_cast<int>(work.size()));
}

template <class T>
int lq(std::int64_t m, std::int64_t n, T* a, T* tau) {
  const kernels::BlasThreads threads(threads_for(std::min(m, n)));
  const int rows = to_int(m);
  const int cols = to_int(n);
  T query = 0;
  if (const int info = cxxlapack::gelqf<int>(rows, cols, a, rows, tau, &query, -1); info != 0) {
    return info;
  }
  std::vector<T> work = workspace(query);
  return cxxlapack::gelqf<int>(rows, cols, a, rows, tau, work.data(),
                               static_cast<int>(work.size()));
}

template <class T>
int lq_rows(std::int64_t rows, std::int64_t n, std::int64_t count, T* a, std::int64_t lda,
            const T* tau) {
  const kernels::BlasThreads threads(threads_for(std::min(rows, n)));
  const int m = to_int(rows);
  const int cols = to_int(n);
  const int reflectors = to_int(count);
  const int stride = to_int(lda);
  T query = 0;
  if (const int info = cxxlapack::orglq<int>(m, cols, reflectors, a, stride, tau, &query, -1);
      info != 0) {
    return info;
  }
  std::vector<T> work = workspace(query);
  return cxxlapack::orglq<int>(m, cols, reflectors, a, stride, tau, work.data(),
                               static_cast<int>(work.size()));
}

template <class T>
int cholesky(std::int64_t n, T* a) {
  const kernels::BlasThreads threads(threads_for(n));
  const int size = to_int(n);
  return cxxlapack::potrf<int>('U', size, a, size);
}

template <class T>
int cholesky_solve(std::int64_t n, std::int64_t k, const T* a, T* b) {
  const kernels::BlasThreads threads(threads_for(n));
  const int size = to_int(n);
  return cxxlapack::potrs<int>('U', size, to_int(k), a, size, b, size);
}

template <class T>
int symmetric_eigen(std::int64_t n, T* a, T* w) {
  const kernels::BlasThreads threads(threads_for(n));
  const int size = to_int(n);
  T query = 0;
  int integers_query = 0;
  if (const int info =
          cxxlapack::syevd<int>('V', 'U', size, a, size, w, &query, -1, &integers_query, -1);
      info != 0) {
    return info;
  }
  std::vector<T> work = workspace(query);
  std::vector<int> integers(static_cast<std::size_t>(std::max(1, integers_query)));
  return cxxlapack::syevd<int>('V', 'U', size, a, size, w, work.data(),
                               static_cast<int>(work.size()), integers.data(),
                               static_cast<int>(integers.size()));
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template int svd_divide<T>(Vectors, std::int64_t, std::int64_t, T*, T*, T*, T*);               \
  template int svd_iterate<T>(Vectors, std::int64_t, std::int64_t, T*, T*, T*, T*);              \
  template int lq<T>(std::int64_t, std::int64_t, T*, T*);                                        \
  template int lq_rows<T>(std::int64_t, std::int64_t, std::int64_t, T*, std::int64_t, const T*); \
  template int cholesky<T>(std::int64_t, T*);                                                    \
  template int cholesky_solve<T>(std::int64_t, std::int64_t, const T*, T*);                      \
  template int symmetric_eigen<T>(std::int64_t, T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::lapack
