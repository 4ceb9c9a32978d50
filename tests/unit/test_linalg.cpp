// Decompositions against reconstruction and orthonormality, at the edges of shape and rank; angles
// far below the square root of machine precision; Haar matrices; and input that must be refused.
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/rng.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "linalg/lapack.hpp"
#include "support/catch.hpp"

using namespace parsimony;

namespace {

template <class T>
double tolerance() {
  return std::is_same_v<T, double> ? 1e-13 : 5e-5;
}

/// ||a - b||_F relative to ||b||_F, or absolute where b = 0.
template <class T>
double difference(const Tensor<T>& a, const Tensor<T>& b) {
  const double norm = frobenius(b);
  return frobenius(sub(a, b)) / (norm > 0 ? norm : 1.0);
}

template <class T>
Tensor<T> diagonal(const Tensor<T>& s, index_t rows, index_t cols) {
  Tensor<T> out = Tensor<T>::zeros({rows, cols});
  for (index_t i = 0; i < s.size(); ++i) out.mutable_data()[i * cols + i] = s.data()[i];
  return out;
}

template <class T>
Tensor<T> low_rank(Rng& rng, index_t m, index_t n, index_t rank) {
  return matmul(rng.normal<T>({m, rank}), rng.normal<T>({n, rank}), false, true);
}

const std::vector<Shape> shapes = {{1, 1}, {1, 7},  {7, 1},  {2, 3},     {3, 2},
                                   {5, 5}, {40, 9}, {9, 40}, {120, 119}, {64, 64}};

template <class T>
void check_svd(const Tensor<T>& a) {
  const index_t m = a.dim(0);
  const index_t n = a.dim(1);
  const index_t k = std::min(m, n);
  CAPTURE(a.shape().str());
  for (const bool full : {false, true}) {
    const Svd<T> parts = svd(a, full);
    REQUIRE(parts.u.shape() == Shape{m, full ? m : k});
    REQUIRE(parts.s.shape() == Shape{k});
    REQUIRE(parts.vt.shape() == Shape{full ? n : k, n});
    CHECK(orthonormality_error(parts.u) < tolerance<T>());
    CHECK(orthonormality_error(transpose(parts.vt)) < tolerance<T>());
    CHECK(std::is_sorted(parts.s.begin(), parts.s.end(), [](T x, T y) { return x > y; }));
    CHECK(*std::min_element(parts.s.begin(), parts.s.end()) >= T(0));
    const Tensor<T> middle = diagonal(parts.s, full ? m : k, full ? n : k);
    CHECK(difference(matmul(matmul(parts.u, middle), parts.vt), a) < tolerance<T>());
    CHECK(difference(singular_values(a), parts.s) < tolerance<T>());
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the SVD rebuilds its matrix", "[linalg]", float, double) {
  Rng rng(1);
  for (const Shape& shape : shapes) {
    const Tensor<TestType> a = rng.normal<TestType>(shape);
    const Tensor<TestType> before = a.clone();
    check_svd(a);
    CHECK(difference(a, before) == 0.0);  // the input is left alone
    check_svd(Tensor<TestType>::zeros(shape));
    check_svd(scale(a, 1e-30));
    check_svd(scale(a, 1e30));
  }
  check_svd(low_rank<TestType>(rng, 30, 20, 3));
  check_svd(low_rank<TestType>(rng, 20, 30, 1));
  check_svd(Tensor<TestType>::eye(12));
}

TEST_CASE("singular values of known matrices", "[linalg]") {
  const Svd<double> parts = svd(Tensor<double>({2, 2}, {3, 0, 4, 5}));
  CHECK(parts.s.at({0}) == Approx(std::sqrt(45.0)).epsilon(1e-15));
  CHECK(parts.s.at({1}) == Approx(std::sqrt(5.0)).epsilon(1e-15));
  const Tensor<double> s = singular_values(Tensor<double>({3, 2}, {0, -2, 0, 0, 7, 0}));
  CHECK(s.at({0}) == Approx(7).epsilon(1e-15));
  CHECK(s.at({1}) == Approx(2).epsilon(1e-15));
}

TEMPLATE_TEST_CASE("the QR iteration agrees with divide and conquer", "[linalg]", float, double) {
  // The fallback of svd, driven directly: row-major (m, n) is LAPACK's (n, m).
  using T = TestType;
  Rng rng(2);
  for (const Shape& shape : shapes) {
    const index_t m = shape[0];
    const index_t n = shape[1];
    const index_t k = std::min(m, n);
    const Tensor<T> a = rng.normal<T>(shape);
    const Svd<T> expected = svd(a);
    Tensor<T> work = a.clone();
    Tensor<T> s({k});
    Tensor<T> u({m, k});
    Tensor<T> vt({k, n});
    REQUIRE(lapack::svd_iterate(lapack::Vectors::thin, n, m, work.mutable_data(), s.mutable_data(),
                                vt.mutable_data(), u.mutable_data()) == 0);
    CHECK(difference(s, expected.s) < tolerance<T>());
    CHECK(difference(matmul(matmul(u, diagonal(s, k, k)), vt), a) < tolerance<T>());
    T unused = 0;
    std::copy(a.begin(), a.end(), work.mutable_data());
    REQUIRE(lapack::svd_iterate(lapack::Vectors::none, n, m, work.mutable_data(), s.mutable_data(),
                                &unused, &unused) == 0);
    CHECK(difference(s, expected.s) < tolerance<T>());
  }
}

TEMPLATE_TEST_CASE("QR rebuilds its matrix", "[linalg]", float, double) {
  using T = TestType;
  Rng rng(3);
  for (const Shape& shape : shapes) {
    for (const bool zero : {false, true}) {
      const Tensor<T> a = zero ? Tensor<T>::zeros(shape) : rng.normal<T>(shape);
      const index_t k = std::min(shape[0], shape[1]);
      const Qr<T> parts = qr(a);
      CAPTURE(shape.str());
      REQUIRE(parts.q.shape() == Shape{shape[0], k});
      REQUIRE(parts.r.shape() == Shape{k, shape[1]});
      CHECK(orthonormality_error(parts.q) < tolerance<T>());
      CHECK(difference(matmul(parts.q, parts.r), a) < tolerance<T>());
      for (index_t i = 1; i < k; ++i) {
        for (index_t j = 0; j < i; ++j) CHECK(parts.r.at({i, j}) == T(0));
      }
    }
  }
}

TEST_CASE("orth spans the column space", "[linalg]") {
  Rng rng(4);
  const Tensor<double> a = low_rank<double>(rng, 30, 20, 4);
  const Tensor<double> q = orth(a);
  REQUIRE(q.shape() == Shape{30, 4});
  CHECK(orthonormality_error(q) < 1e-13);
  CHECK(difference(matmul(q, matmul(q, a, true, false)), a) < 1e-13);
  CHECK(orth(a, 2).shape() == Shape{30, 2});
  CHECK(difference(orth(a, 2), slice(svd(a).u, 1, 0, 2)) == 0.0);
  CHECK(orth(a, 20).shape() == Shape{30, 20});
  CHECK(orth(a, 0).shape() == Shape{30, 0});
  CHECK(orth(Tensor<double>::zeros({5, 3})).shape() == Shape{5, 0});
  CHECK_THROWS_AS(orth(a, 21), ValueError);
}

TEMPLATE_TEST_CASE("the orthogonal complement completes the basis", "[linalg]", float, double) {
  using T = TestType;
  Rng rng(5);
  for (const Shape& shape : std::vector<Shape>{{1, 1}, {5, 1}, {6, 6}, {40, 9}, {100, 97}}) {
    const Tensor<T> q = haar_orthogonal<T>(rng, shape[0], shape[1]);
    const Tensor<T> rest = orthogonal_complement(q);
    CAPTURE(shape.str());
    REQUIRE(rest.shape() == Shape{shape[0], shape[0] - shape[1]});
    if (rest.size() == 0) continue;
    CHECK(orthonormality_error(concat<T>({q, rest}, 1)) < tolerance<T>());
  }
  CHECK(difference(orthogonal_complement(Tensor<T>({4, 0})), Tensor<T>::eye(4)) == 0.0);
  CHECK_THROWS_AS(orthogonal_complement(rng.normal<T>({5, 2})), ValueError);
  CHECK_THROWS_AS(orthogonal_complement(rng.normal<T>({2, 5})), ShapeError);
}

TEMPLATE_TEST_CASE("solve_spd solves", "[linalg]", float, double) {
  using T = TestType;
  Rng rng(6);
  for (const index_t n : {1, 2, 10, 65}) {
    for (const index_t k : {1, 3}) {
      const Tensor<T> root = rng.normal<T>({n, 2 * n});
      const Tensor<T> a = add(matmul(root, root, false, true), Tensor<T>::eye(n));
      const Tensor<T> x = rng.normal<T>({n, k});
      const Tensor<T> solved = solve_spd(a, matmul(a, x));
      REQUIRE(solved.shape() == Shape{n, k});
      CHECK(difference(solved, x) < (std::is_same_v<T, double> ? 1e-11 : 1e-2));
      CHECK(difference(matmul(a, solved), matmul(a, x)) < tolerance<T>());
    }
  }
  // Only the lower triangle counts.
  const Tensor<T> lower({2, 2}, {4, 99, 1, 3});
  const Tensor<T> x = solve_spd(lower, Tensor<T>({2, 1}, {6, 7}));
  CHECK(x.at({0, 0}) == Approx(1));
  CHECK(x.at({1, 0}) == Approx(2));
  CHECK_THROWS_AS(solve_spd(Tensor<T>({2, 2}, {1, 2, 2, 1}), x), NumericalError);
  CHECK_THROWS_AS(solve_spd(Tensor<T>::zeros({2, 2}), x), NumericalError);
  CHECK_THROWS_AS(solve_spd(Tensor<T>::eye(3), x), ShapeError);
  CHECK_THROWS_AS(solve_spd(Tensor<T>({2, 3}, {1, 2, 3, 4, 5, 6}), x), ShapeError);
}

TEST_CASE("numerical rank follows NumPy's rule", "[linalg]") {
  Rng rng(7);
  CHECK(numerical_rank(low_rank<double>(rng, 50, 40, 6)) == 6);
  CHECK(numerical_rank(low_rank<float>(rng, 50, 40, 6)) == 6);
  CHECK(numerical_rank(rng.normal<double>({9, 30})) == 9);
  CHECK(numerical_rank(Tensor<double>::zeros({4, 3})) == 0);
  CHECK(numerical_rank(Tensor<double>({1, 1}, {1e-300})) == 1);
  // The threshold of diag(1, x) is 2 eps.
  const double eps = std::numeric_limits<double>::epsilon();
  CHECK(numerical_rank(Tensor<double>({2, 2}, {1, 0, 0, 2.1 * eps})) == 2);
  CHECK(numerical_rank(Tensor<double>({2, 2}, {1, 0, 0, 1.9 * eps})) == 1);
  // Padding with zero rows raises it to 20 eps.
  Tensor<double> tall = Tensor<double>::zeros({20, 2});
  tall.mutable_data()[0] = 1;
  tall.mutable_data()[3] = 19 * eps;
  CHECK(numerical_rank(tall) == 1);
  tall.mutable_data()[3] = 21 * eps;
  CHECK(numerical_rank(tall) == 2);
  const Tensor<double> d({3, 3}, {5, 0, 0, 0, 1, 0, 0, 0, 0.1});
  CHECK(numerical_rank(d, 0.5) == 2);
  CHECK(numerical_rank(d, 1.0) >= 1);
  CHECK(numerical_rank(d, 10.0) == 0);
  CHECK(numerical_rank(d, 0.0) == 3);
  CHECK(numerical_rank_of(Tensor<double>({3}, {5, 1, 1e-16}), 3) == 2);
  CHECK_THROWS_AS(numerical_rank(d, std::nan("")), ValueError);
}

TEST_CASE("principal angles keep their digits at both ends", "[linalg]") {
  // Span{e0, e1, e2} against its members turned by known angles towards e3, e4, e5, in a random
  // orthonormal frame and with random bases of both spaces.
  Rng rng(8);
  const double half_pi = std::acos(0.0);
  const std::vector<double> expected = {1e-14, 3e-9, 0.7};
  const index_t n = 40;
  const Tensor<double> frame = haar_orthogonal<double>(rng, n, n);
  Tensor<double> a = Tensor<double>::zeros({n, 3});
  Tensor<double> b = Tensor<double>::zeros({n, 3});
  for (index_t i = 0; i < 3; ++i) {
    a.mutable_data()[i * 3 + i] = 1;
    b.mutable_data()[i * 3 + i] = std::cos(expected[static_cast<std::size_t>(i)]);
    b.mutable_data()[(i + 3) * 3 + i] = std::sin(expected[static_cast<std::size_t>(i)]);
  }
  const Tensor<double> qa = matmul(matmul(frame, a), haar_orthogonal<double>(rng, 3, 3));
  const Tensor<double> qb = matmul(matmul(frame, b), haar_orthogonal<double>(rng, 3, 3));
  const std::vector<double> angles = principal_angles(qa, qb);
  REQUIRE(angles.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(angles[i] - expected[i]) < 3e-15);
  CHECK(std::is_sorted(angles.begin(), angles.end()));

  for (const double angle : principal_angles(qa, qa)) CHECK(angle < 2e-15);
  const Tensor<double> rest = orthogonal_complement(qa);
  const std::vector<double> right = principal_angles(qa, rest);
  CHECK(right.size() == 3);
  for (const double angle : right) CHECK(std::abs(angle - half_pi) < 2e-15);
  // A wider space that holds the narrower one, in both orders.
  const Tensor<double> wide = concat<double>({qb, slice(orthogonal_complement(qb), 1, 0, 5)}, 1);
  for (const auto& angle : {principal_angles(wide, qb), principal_angles(qb, wide)}) {
    REQUIRE(angle.size() == 3);
    for (const double x : angle) CHECK(x < 3e-15);
  }
  CHECK(principal_angles(qa, wide).size() == 3);
}

TEST_CASE("principal angles of float bases are limited by the data, not by the sum", "[linalg]") {
  Rng rng(9);
  const Tensor<float> q = haar_orthogonal<float>(rng, 200, 20);
  for (const double angle : principal_angles(q, q)) CHECK(angle < 1e-14);
  // The same space in another float basis: off by float's rounding only.
  const Tensor<float> turned = matmul(q, haar_orthogonal<float>(rng, 20, 20));
  for (const double angle : principal_angles(q, turned)) CHECK(angle < 2e-6);
  CHECK_THROWS_AS(principal_angles(q, scale(q, 2.0)), ValueError);
  CHECK_THROWS_AS(principal_angles(q, haar_orthogonal<float>(rng, 100, 20)), ShapeError);
  CHECK_THROWS_AS(principal_angles(q, Tensor<float>({200, 0})), ShapeError);
}

TEMPLATE_TEST_CASE("Haar matrices are orthonormal both ways", "[linalg]", float, double) {
  using T = TestType;
  Rng rng(10);
  for (const Shape& shape : shapes) {
    const Tensor<T> q = haar_orthogonal<T>(rng, shape[0], shape[1]);
    CAPTURE(shape.str());
    REQUIRE(q.shape() == shape);
    CHECK(orthonormality_error(shape[0] >= shape[1] ? q : transpose(q)) < tolerance<T>());
  }
  CHECK_THROWS_AS(haar_orthogonal<T>(rng, 0, 3), ShapeError);
  CHECK_THROWS_AS(haar_orthogonal<T>(rng, 3, -1), ShapeError);
}

TEST_CASE("Haar matrices have Haar's distribution", "[linalg]") {
  // In 3 dimensions a column is uniform on the sphere, so each entry is uniform on [-1, 1]; the
  // trace has mean 0 and variance 1; both determinants come equally often. Without the sign fix
  // the diagonal would lean to one side.
  const int n = 4000;
  std::vector<std::vector<double>> entries(9);
  double trace = 0;
  double trace2 = 0;
  int positive = 0;
  for (int i = 0; i < n; ++i) {
    Rng rng = Rng(12).split(static_cast<std::uint64_t>(i));
    const std::vector<double> q = haar_orthogonal<double>(rng, 3, 3).to_vector();
    for (std::size_t j = 0; j < 9; ++j) entries[j].push_back(q[j]);
    const double t = q[0] + q[4] + q[8];
    trace += t / n;
    trace2 += t * t / n;
    positive += q[0] * (q[4] * q[8] - q[5] * q[7]) - q[1] * (q[3] * q[8] - q[5] * q[6]) +
                            q[2] * (q[3] * q[7] - q[4] * q[6]) >
                        0
                    ? 1
                    : 0;
  }
  for (auto& sample : entries) {
    std::sort(sample.begin(), sample.end());
    double distance = 0;
    for (int i = 0; i < n; ++i) {
      const double f = (sample[static_cast<std::size_t>(i)] + 1) / 2;
      distance = std::max({distance, f - i / double(n), (i + 1) / double(n) - f});
    }
    CHECK(distance < 1.95 / std::sqrt(n));
  }
  CHECK(std::abs(trace) < 4 / std::sqrt(n));
  CHECK(std::abs(trace2 - 1) < 0.15);
  CHECK(std::abs(positive - n / 2) < 2 * std::sqrt(n));
  int plus = 0;
  Rng rng(13);
  for (int i = 0; i < 1000; ++i) plus += haar_orthogonal<double>(rng, 1, 1).item() > 0 ? 1 : 0;
  CHECK(std::abs(plus - 500) < 64);
}

TEMPLATE_TEST_CASE("decompositions refuse what has no answer", "[linalg]", float, double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T inf = std::numeric_limits<T>::infinity();
  for (const T bad : {nan, inf, -inf}) {
    Tensor<T> a = Tensor<T>::eye(5);
    a.mutable_data()[7] = bad;
    CHECK_THROWS_AS(svd(a), NumericalError);
    CHECK_THROWS_AS(svd(a, true), NumericalError);
    CHECK_THROWS_AS(singular_values(a), NumericalError);
    CHECK_THROWS_AS(qr(a), NumericalError);
    CHECK_THROWS_AS(orth(a), NumericalError);
    CHECK_THROWS_AS(orthogonal_complement(a), NumericalError);
    CHECK_THROWS_AS(numerical_rank(a), NumericalError);
    CHECK_THROWS_AS(solve_spd(a, Tensor<T>::eye(5)), NumericalError);
    CHECK_THROWS_AS(solve_spd(Tensor<T>::eye(5), a), NumericalError);
    CHECK_THROWS_AS(principal_angles(a, a), NumericalError);
  }
  for (const Shape& shape : std::vector<Shape>{{0, 0}, {0, 3}, {3, 0}, {4}, {2, 2, 2}, {}}) {
    const Tensor<T> a = Tensor<T>::zeros(shape);
    CAPTURE(shape.str());
    CHECK_THROWS_AS(svd(a), ShapeError);
    CHECK_THROWS_AS(singular_values(a), ShapeError);
    CHECK_THROWS_AS(qr(a), ShapeError);
    CHECK_THROWS_AS(orth(a), ShapeError);
    CHECK_THROWS_AS(numerical_rank(a), ShapeError);
    CHECK_THROWS_AS(solve_spd(a, a), ShapeError);
  }
  CHECK_THROWS_AS(svd(Tensor<T>()), ShapeError);
  CHECK_THROWS_WITH(svd(Tensor<T>({0, 3})), testing::contains("(0, 3)"));
}

TEST_CASE("cholesky: L Lᵀ is the matrix, of which the lower triangle counts") {
  Rng rng(12);
  const auto x = rng.normal<double>({9, 5});
  const auto a = matmul(x, x, true, false);
  Tensor<double> lower = a.clone();
  for (index_t i = 0; i < 5; ++i) {
    for (index_t j = i + 1; j < 5; ++j) lower.mutable_data()[i * 5 + j] = 77;
  }
  const auto l = cholesky(lower);
  CHECK(max_abs(sub(matmul(l, l, false, true), a)) < 1e-13 * max_abs(a));
  CHECK(l.at({0, 4}) == 0);
  CHECK_THROWS_AS(cholesky(scale(a, -1)), NumericalError);
  CHECK_THROWS_AS(cholesky(x), ShapeError);
}

TEST_CASE("symmetric_eigen: descending values, orthonormal columns") {
  Rng rng(13);
  const auto x = rng.normal<double>({6, 6});
  const auto a = add(x, transpose(x));
  const auto e = symmetric_eigen(a);
  CHECK(orthonormality_error(e.vectors) < 1e-13);
  CHECK(max_abs(sub(matmul(mul(e.vectors, e.values), e.vectors, false, true), a)) < 1e-13);
  for (index_t i = 1; i < 6; ++i) CHECK(e.values.data()[i] <= e.values.data()[i - 1]);
  const auto f = symmetric_eigen(cast<float>(a));
  CHECK(max_abs(sub(cast<double>(f.values), e.values)) < 1e-5);
  CHECK_THROWS_AS(symmetric_eigen(Tensor<double>::full({2, 2}, NAN)), NumericalError);
}
