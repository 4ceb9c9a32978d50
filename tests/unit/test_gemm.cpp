// The matrix product against three plain loops in double: random shapes around the edges of tiles
// and blocks, transposes, leading dimensions, alpha and beta, and what BLAS says about NaN.
#include "kernels/gemm.hpp"

#include <parsimony/threads.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace {

using parsimony::kernels::gemm;
using std::int64_t;

struct Sides {
  bool trans_a, trans_b;
  int64_t m, n, k;
};

std::mt19937 numbers(7);

int64_t pick(int64_t first, int64_t last) {
  return std::uniform_int_distribution<int64_t>(first, last)(numbers);
}

template <class T>
std::vector<T> random_values(int64_t count) {
  std::vector<T> x(static_cast<std::size_t>(count));
  for (T& value : x) value = std::uniform_real_distribution<T>(-1, 1)(numbers);
  return x;
}

/// Largest difference from the plain loops, in units of what k roundings may add up to; padding
/// behind the rows of c counts too, so that writing there is seen.
template <class T>
double error_of(const Sides& s) {
  int64_t lda = (s.trans_a ? s.m : s.k) + pick(0, 9);
  if (pick(0, 9) == 0) lda = (lda + 511) / 512 * 512;  // rows that fall into the same cache lines
  const int64_t ldb = (s.trans_b ? s.k : s.n) + pick(0, 9);
  const int64_t ldc = s.n + pick(0, 9);
  const auto a = random_values<T>((s.trans_a ? s.k : s.m) * lda);
  const auto b = random_values<T>((s.trans_b ? s.n : s.k) * ldb);
  const auto before = random_values<T>(s.m * ldc);
  const T scales[] = {T(1), T(0), T(-0.75)};
  const T alpha = scales[pick(0, 2)];
  const T beta = scales[pick(0, 2)];
  auto c = before;
  gemm(s.trans_a, s.trans_b, s.m, s.n, s.k, alpha, a.data(), lda, b.data(), ldb, beta, c.data(),
       ldc);
  double worst = 0;
  for (int64_t i = 0; i < s.m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const auto at = static_cast<std::size_t>(i * ldc + j);
      double expected = before[at];
      if (j < s.n) {
        double sum = 0;
        for (int64_t p = 0; p < s.k; ++p) {
          const double x = a[static_cast<std::size_t>(s.trans_a ? p * lda + i : i * lda + p)];
          sum += x * b[static_cast<std::size_t>(s.trans_b ? j * ldb + p : p * ldb + j)];
        }
        expected = alpha * sum + beta * expected;
      }
      worst = std::max(worst, std::abs(c[at] - expected));
    }
  }
  return worst / (static_cast<double>(s.k + 2) * std::numeric_limits<T>::epsilon());
}

template <class T>
void check(const Sides& s) {
  CAPTURE(s.trans_a, s.trans_b, s.m, s.n, s.k);
  REQUIRE(error_of<T>(s) <= 1);
}

}  // namespace

TEMPLATE_TEST_CASE("a product is what three loops compute", "[gemm]", float, double) {
  const int before = parsimony::num_threads();
#ifdef __SANITIZE_ADDRESS__
  const int rounds = 300;  // the three loops take most of the time there
#else
  const int rounds = 1500;
#endif
  for (int round = 0; round < rounds; ++round) {
    parsimony::set_num_threads(1 + round % 3);
    Sides s{pick(0, 1) == 1, pick(0, 1) == 1, pick(1, 70), pick(1, 70), pick(0, 70)};
    if (round % 16 == 0) s.k = pick(200, 1300);  // several blocks of k
    if (round % 48 == 1) s.n = pick(300, 900);   // several blocks of columns
    if (round % 48 == 2) s.m = pick(300, 900);
    if (round % 16 == 3) s.n = pick(1, 8);
    if (round % 16 == 4) s.m = pick(1, 8);
    check<TestType>(s);
  }
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      parsimony::set_num_threads(3);
      for (const auto& [m, n, k] : {std::array<int64_t, 3>{600, 8, 900},
                                    {8, 600, 900},
                                    {200, 170, 400},
                                    {40, 600, 180},
                                    {0, 5, 5},
                                    {5, 0, 5}}) {
        check<TestType>({trans_a, trans_b, m, n, k});
      }
    }
  }
  parsimony::set_num_threads(before);
}

TEMPLATE_TEST_CASE("a product passes NaN and infinity on, and does not read c for beta 0", "[gemm]",
                   float, double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T infinity = std::numeric_limits<T>::infinity();
  for (const int64_t n : {3, 40}) {
    const auto count = static_cast<std::size_t>(n * n);
    std::vector<T> a(count, T(0)), b(count, T(1)), c(count, nan);
    b[static_cast<std::size_t>(n + 1)] = infinity;  // 0 · ∞ in column 1
    a[static_cast<std::size_t>(2 * n)] = nan;       // all of row 2
    gemm(false, false, n, n, n, T(1), a.data(), n, b.data(), n, T(0), c.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        CAPTURE(n, i, j);
        const T value = c[static_cast<std::size_t>(i * n + j)];
        if (i == 2 || j == 1) {
          REQUIRE(std::isnan(value));
        } else {
          REQUIRE(value == T(0));
        }
      }
    }
    c.assign(count, nan);
    gemm(false, false, n, n, 0, T(1), a.data(), n, b.data(), n, T(0), c.data(), n);
    REQUIRE(c == std::vector<T>(count, T(0)));
  }
}

TEMPLATE_TEST_CASE("affine rows are the product plus the bias, also over several blocks of k",
                   "[gemm]", float, double) {
  using T = TestType;
  const int before = parsimony::num_threads();
  for (const auto& [rows, out, in] : {std::array<int64_t, 3>{5, 7, 3},
                                      {200, 130, 64},
                                      {60, 40, 700},
                                      {8, 600, 900},
                                      {300, 33, 0}}) {
    for (const int threads : {1, 3}) {
      CAPTURE(rows, out, in, threads);
      parsimony::set_num_threads(threads);
      const auto x = random_values<T>(rows * in), w = random_values<T>(out * in);
      const auto bias = random_values<T>(out);
      std::vector<T> y(static_cast<std::size_t>(rows * out), std::numeric_limits<T>::quiet_NaN());
      auto plain = y;
      parsimony::kernels::affine(rows, out, in, x.data(), w.data(), bias.data(), y.data());
      parsimony::kernels::affine<T>(rows, out, in, x.data(), w.data(), nullptr, plain.data());
      double worst = 0;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < out; ++j) {
          double sum = 0;
          for (int64_t p = 0; p < in; ++p) {
            sum += static_cast<double>(x[static_cast<std::size_t>(i * in + p)]) *
                   w[static_cast<std::size_t>(j * in + p)];
          }
          const auto at = static_cast<std::size_t>(i * out + j);
          const double b = bias[static_cast<std::size_t>(j)];
          worst = std::max({worst, std::abs(y[at] - (sum + b)), std::abs(plain[at] - sum)});
        }
      }
      REQUIRE(worst <= static_cast<double>(in + 2) * std::numeric_limits<T>::epsilon());
    }
  }
  parsimony::set_num_threads(before);
}
