// The outer factors of the compressed form: from the first gradient they span what the target's
// would, the authors' intersection and the cheap construction agree, and so do the constructions
// that never touch the factors. Also the top singular triplets of sparse matrices and Kwon's form.
#include <parsimony/error.hpp>

#include "dynamics.hpp"
#include "support/catch.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

Tensor<double> columns(const Tensor<double>& a, index_t first, index_t last) {
  return slice(a, 1, first, last);
}

Tensor<double> top_left(const Tensor<double>& a, index_t h) { return columns(svd(a).u, 0, h); }
Tensor<double> top_right(const Tensor<double>& a, index_t h) {
  return transpose(svd(a).vt.rows(0, h));
}

/// ‖a - p a‖ for the projector p on the columns of `basis`: what of a's columns it misses.
double missed(const Tensor<double>& basis, const Tensor<double>& a) {
  return max_abs(sub(a, matmul(basis, matmul(basis, a, true, false))));
}

void check_same(const OuterFactors<double>& a, const OuterFactors<double>& b) {
  CHECK(distance(projector(a.left), projector(b.left)) <= 1e-12);
  CHECK(distance(projector(a.right), projector(b.right)) <= 1e-12);
  // The product that training starts from, whatever the bases.
  CHECK(distance(matmul(a.left, a.right, false, true), matmul(b.left, b.right, false, true)) <=
        1e-12);
}

}  // namespace

TEST_CASE("the first gradient finds the invariant subspace", "[theory][T4]") {
  Setting s;
  s.d = GENERATE(30, 41);
  s.eps = GENERATE(std::vector<double>{1, 1, 1}, std::vector<double>{0.9, 0.5},
                   std::vector<double>{1e-2, 3e-2, 1e-2, 2e-2});
  const Tensor<double> phi = s.target();
  const std::vector<Tensor<double>> initial = s.initial();
  const OuterFactors<double> outer = outer_factors(initial, gradient_at_first(initial, phi), s.r);
  CHECK(orthonormality_error(outer.left) < 1e-13);
  CHECK(orthonormality_error(outer.right) < 1e-13);
  CHECK(max_abs(matmul(phi, orthogonal_complement(outer.right))) <= 1e-12);
  CHECK(max_abs(matmul(phi, orthogonal_complement(outer.left), true, false)) <= 1e-12);
  // The same spaces as from the target itself.
  const InvariantSubspace<double> bases = invariant_subspace(initial, phi, s.r);
  CHECK(distance(projector(outer.right), projector(columns(bases.v.front(), 0, 2 * s.r))) <= 1e-12);
  CHECK(distance(projector(outer.left), projector(columns(bases.u.back(), 0, 2 * s.r))) <= 1e-12);
  check_same(outer, outer_factors_by_intersection(initial, gradient_at_first(initial, phi), s.r));
}

TEST_CASE("over-specified outer factors still hold the target", "[theory][T4]") {
  const Setting s;
  const Tensor<double> phi = s.target();
  const std::vector<Tensor<double>> initial = s.initial();
  const Tensor<double> gradient = gradient_at_first(initial, phi);
  for (const auto& outer : {outer_factors(initial, gradient, s.r + 2),
                            outer_factors_by_intersection(initial, gradient, s.r + 2)}) {
    REQUIRE(outer.right.shape() == Shape{s.d, 2 * s.r + 4});
    CHECK(orthonormality_error(outer.right) < 1e-13);
    CHECK(max_abs(matmul(phi, orthogonal_complement(outer.right))) <= 1e-12);
    CHECK(max_abs(matmul(phi, orthogonal_complement(outer.left), true, false)) <= 1e-12);
  }
}

TEST_CASE("both constructions agree on a masked gradient", "[theory][T4]") {
  Setting s;
  s.d = 40;
  s.eps = {0.1, 0.2, 0.1};
  const index_t h = GENERATE(3, 5);
  const Tensor<std::uint8_t> mask = random_index_set(s.d, s.d, 0.4, Rng(8)).mask();
  const std::vector<Tensor<double>> initial = s.initial();
  const Tensor<double> gradient = gradient_at_first(initial, s.target(), &mask);
  REQUIRE(numerical_rank(gradient) == s.d);  // nothing low-rank about it
  check_same(outer_factors(initial, gradient, h),
             outer_factors_by_intersection(initial, gradient, h));
}

TEST_CASE("the product's gradient gives the factors that the first factor's gradient does",
          "[theory][T4]") {
  // For square factors dl/dW_1 = W_{L:2}ᵀ G, so with O = W_{L:1}/Π eps both constructions see the
  // same spaces.
  Setting s;
  s.d = 24;
  s.r = s.rhat = 3;
  s.eps = {0.1, 0.1, 0.1};
  const std::vector<Tensor<double>> initial = s.initial();
  const DeepLinear<double> net(initial);
  const Tensor<double> product = net.product().value();
  const Tensor<double> g = sub(product, s.target());
  check_same(outer_factors(initial, gradient_at_first(initial, s.target()), 3),
             outer_factors_from_product_gradient(g, scale(product, 1e3), 3));
}

TEST_CASE("rectangular outer factors follow their definition", "[theory][T4]") {
  const auto shape = GENERATE(Shape{24, 24}, Shape{24, 60}, Shape{60, 24});
  const index_t m = shape[0];
  const index_t n = shape[1];
  const index_t h = 4;
  Rng rng(5);
  const Tensor<double> g = rng.normal<double>(shape);
  const Tensor<double> o = haar_orthogonal<double>(rng, m, n);
  const OuterFactors<double> outer = outer_factors_from_product_gradient(g, o, h);
  CAPTURE(shape.str());
  REQUIRE(outer.left.shape() == Shape{m, 2 * h});
  REQUIRE(outer.right.shape() == Shape{n, 2 * h});
  const Tensor<double> u = top_left(g, h);
  const Tensor<double> v = top_right(g, h);
  const Tensor<double> start = matmul(outer.left, outer.right, false, true);
  if (m <= n) {
    CHECK(orthonormality_error(outer.right) < 1e-13);
    CHECK(missed(outer.right, v) < 1e-13);
    CHECK(missed(outer.right, matmul(o, u, true, false)) < 1e-13);
    CHECK(distance(outer.left, matmul(o, outer.right)) < 1e-13);
    CHECK(distance(start, matmul(o, projector(outer.right))) < 1e-13);
  }
  if (m >= n) {
    const Tensor<double> left = orth(outer.left, 2 * h);
    CHECK(missed(left, u) < 1e-12);
    CHECK(missed(left, matmul(o, v)) < 1e-12);
    CHECK(distance(start, matmul(projector(left), o)) < 1e-12);
  }
  if (m == n) {
    CHECK(orthonormality_error(outer.left) < 1e-13);
    CHECK(orthonormality_error(outer.right) < 1e-13);
  }
}

TEST_CASE("rectangular outer factors are those of the gradient at the square factor",
          "[theory][T4]") {
  // The definition on real factors: W_1 is square for a wide product, W_L for a tall one, and
  // right = orth[V_h, W_1ᵀU_h/eps] of the gradient there (transposed for the tall one).
  const bool wide = GENERATE(true, false);
  const index_t h = 3;
  const double eps = 0.1;
  const std::vector<index_t> dims =
      wide ? std::vector<index_t>{60, 60, 60, 24} : std::vector<index_t>{24, 60, 60, 60};
  const DeepLinear<double> net(dims, {eps}, Rng(17));
  Rng rng(18);
  Var<double> product = net.product();
  product.retain_grad();
  const Tensor<double> target = rng.normal<double>({dims.back(), dims.front()});
  backward(half_squared_error(product, target));
  const Tensor<double> o = scale(product.value(), std::pow(eps, -3));
  const OuterFactors<double> cheap = outer_factors_from_product_gradient(product.grad(), o, h);

  const Var<double>& square = wide ? net.factor(1) : net.factor(3);
  const Tensor<double> g = wide ? square.grad() : transpose(square.grad());
  const Tensor<double> w = scale(wide ? transpose(square.value()) : square.value(), 1 / eps);
  const Tensor<double> basis =
      orth(concat<double>({top_right(g, h), matmul(w, top_left(g, h))}, 1), 2 * h);
  const Tensor<double> expected = wide ? matmul(o, projector(basis)) : matmul(projector(basis), o);
  CHECK(distance(matmul(cheap.left, cheap.right, false, true), expected) <= 1e-12);
}

TEST_CASE("a tall product's factors are a wide one's, transposed", "[theory][T4]") {
  Rng rng(6);
  const Tensor<double> g = rng.normal<double>({24, 60});
  const Tensor<double> o = haar_orthogonal<double>(rng, 24, 60);
  const OuterFactors<double> wide = outer_factors_from_product_gradient(g, o, 3);
  const OuterFactors<double> tall =
      outer_factors_from_product_gradient(transpose(g), transpose(o), 3);
  CHECK(distance(matmul(tall.left, tall.right, false, true),
                 matmul(wide.right, wide.left, false, true)) <= 1e-12);
}

TEST_CASE("outer factors from singular vectors alone belong to an orthogonal O", "[theory][T4]") {
  const index_t m = GENERATE(20, 50);
  const index_t n = 30;
  const index_t h = 4;
  Rng rng(7);
  const Tensor<double> g = rng.normal<double>({m, n});
  const Tensor<double> u = top_left(g, h);
  const Tensor<double> v = top_right(g, h);
  const OuterFactors<double> outer = outer_factors_from_singular_vectors(u, v, Rng(9));
  REQUIRE(outer.left.shape() == Shape{m, 2 * h});
  REQUIRE(outer.right.shape() == Shape{n, 2 * h});
  CHECK(orthonormality_error(outer.left) < 1e-13);
  CHECK(orthonormality_error(outer.right) < 1e-13);
  CHECK(missed(outer.left, u) < 1e-13);
  CHECK(missed(outer.right, v) < 1e-13);
  // left rightᵀ = P Vᵀ + U Qᵀ is O restricted: isometric on span(right), O V = P, Oᵀ U = Q.
  const Tensor<double> start = matmul(outer.left, outer.right, false, true);
  const Tensor<double> s = singular_values(start);
  for (index_t i = 0; i < 2 * h; ++i) CHECK(std::abs(s.at({i}) - 1) < 1e-13);
  CHECK(distance(matmul(start, v), columns(outer.left, 0, h)) < 1e-13);
  CHECK(max_abs(matmul(u, matmul(start, v), true, false)) < 1e-13);
  // Another stream draws other frames, the same one the same.
  CHECK(distance(outer_factors_from_singular_vectors(u, v, Rng(9)).left, outer.left) == 0.0);
  CHECK(distance(outer_factors_from_singular_vectors(u, v, Rng(10)).left, outer.left) > 0.01);
}

TEST_CASE("top singular triplets of a sparse matrix match the dense SVD", "[theory][top]") {
  const auto shape = GENERATE(Shape{60, 60}, Shape{40, 90}, Shape{90, 40}, Shape{12, 7});
  const index_t k = GENERATE(1, 5);
  Rng rng(11);
  // A low-rank part above a floor of noise, as ratings have.
  const Tensor<double> dense =
      add(matmul(rng.normal<double>({shape[0], 6}), rng.normal<double>({shape[1], 6}), false, true),
          rng.normal<double>(shape, 0.1));
  const IndexSet omega = random_index_set(shape[0], shape[1], 0.5, Rng(12));
  const Tensor<double> values = gather_entries(omega, dense);
  const TopSingular<double> top = top_singular(omega, values, k, Rng(13));
  const Svd<double> expected = svd(scatter_entries(omega, values));
  CAPTURE(shape.str(), k);
  REQUIRE(top.u.shape() == Shape{shape[0], k});
  REQUIRE(top.s.shape() == Shape{k});
  REQUIRE(top.v.shape() == Shape{shape[1], k});
  for (index_t i = 0; i < k; ++i) {
    CHECK(std::abs(top.s.at({i}) - expected.s.at({i})) < 1e-9 * expected.s.at({0}));
  }
  CHECK(orthonormality_error(top.u) < 1e-12);
  CHECK(orthonormality_error(top.v) < 1e-12);
  // Residual S v - u s: right whatever the gaps between singular values.
  const Tensor<double> residual = sub(sparse_product(omega, values, top.v), mul(top.u, top.s));
  CHECK(max_abs(residual) < 1e-7 * expected.s.at({0}));
  const Tensor<double> other =
      sub(sparse_transposed_product(omega, values, top.u), mul(top.v, top.s));
  CHECK(max_abs(other) < 1e-4 * expected.s.at({0}));
}

TEST_CASE("top singular triplets of hard matrices", "[theory][top]") {
  // Rank below k, and zero: the missing values are 0 and the vectors still orthonormal.
  Rng rng(14);
  const Tensor<std::uint8_t> mask = Tensor<std::uint8_t>::ones({20, 15});
  const IndexSet omega = IndexSet::from_mask(mask);
  const Tensor<double> rank_one =
      matmul(rng.normal<double>({20, 1}), rng.normal<double>({15, 1}), false, true);
  const TopSingular<double> top = top_singular(omega, gather_entries(omega, rank_one), 3, Rng(15));
  CHECK(std::abs(top.s.at({0}) - frobenius(rank_one)) < 1e-12 * frobenius(rank_one));
  CHECK(top.s.at({1}) < 1e-12 * frobenius(rank_one));
  CHECK(orthonormality_error(top.u) < 1e-10);
  CHECK(orthonormality_error(top.v) < 1e-10);
  CHECK_THROWS_AS(top_singular(omega, gather_entries(omega, rank_one), 16, Rng(15)), ValueError);
  CHECK_THROWS_AS(top_singular(omega, gather_entries(omega, rank_one), 0, Rng(15)), ValueError);
}

TEST_CASE("Kwon's factors carry eps on every factor and start on the surrogate's subspaces",
          "[theory][kwon]") {
  Rng rng(16);
  const Tensor<double> surrogate = rng.normal<double>({30, 22});
  const index_t k = 6;
  const double eps = 0.05;
  const std::vector<Tensor<double>> factors = kwon_factors(surrogate, k, 4, eps);
  REQUIRE(factors.size() == 4);
  REQUIRE(factors.front().shape() == Shape{k, 22});
  REQUIRE(factors.back().shape() == Shape{30, k});
  CHECK(distance(factors[1], Tensor<double>::eye(k, eps)) == 0.0);
  CHECK(distance(factors[2], Tensor<double>::eye(k, eps)) == 0.0);
  const Svd<double> s = svd(surrogate);
  const DeepLinear<double> net(factors);
  CHECK(distance(net.product().value(),
                 scale(matmul(columns(s.u, 0, k), s.vt.rows(0, k)), std::pow(eps, 4))) < 1e-16);
  CHECK(kwon_factors(surrogate, k, 2, eps).size() == 2);
  CHECK_THROWS_AS(kwon_factors(surrogate, 23, 3, eps), ValueError);
  CHECK_THROWS_AS(kwon_factors(surrogate, 0, 3, eps), ValueError);
  CHECK_THROWS_AS(kwon_factors(surrogate, 3, 1, eps), ValueError);
}

TEST_CASE("what has no subspace is refused", "[theory]") {
  const Setting s;
  const std::vector<Tensor<double>> initial = s.initial();
  const Tensor<double> phi = s.target();
  const Tensor<double> g = gradient_at_first(initial, phi);
  CHECK_THROWS_AS(invariant_subspace(initial, phi, s.r - 1), ValueError);  // rank above r̂
  CHECK_THROWS_AS(invariant_subspace(initial, phi, s.d / 2), ValueError);  // 2 r̂ = d
  CHECK_THROWS_AS(outer_factors(initial, g, 0), ValueError);
  CHECK_THROWS_AS(outer_factors(initial, g, s.d / 2 + 1), ValueError);
  CHECK_THROWS_AS(outer_factors_by_intersection(initial, g, 0), ValueError);
  CHECK_THROWS_AS(outer_factors_from_product_gradient(g, Tensor<double>::eye(s.d + 1), 2),
                  ShapeError);
  CHECK_THROWS_AS(outer_factors_from_singular_vectors(Tensor<double>::zeros({5, 3}),
                                                      Tensor<double>::zeros({9, 3}), Rng(1)),
                  ValueError);
  std::vector<Tensor<double>> rectangular = initial;
  rectangular[1] = Tensor<double>::ones({s.d, s.d + 1});
  CHECK_THROWS_AS(invariant_subspace(rectangular, phi, s.r), ShapeError);
  std::vector<Tensor<double>> zero = initial;
  zero[0] = Tensor<double>::zeros({s.d, s.d});
  CHECK_THROWS_AS(invariant_subspace(zero, phi, s.r), ValueError);
  std::vector<Tensor<double>> skewed = initial;
  skewed[1] = Rng(1).normal<double>({s.d, s.d});
  CHECK_THROWS_WITH(
      invariant_subspace(skewed, phi, s.r),
      testing::contains("expected orthogonal factors times eps, WᵀW = eps² I; W2 is"));
}
