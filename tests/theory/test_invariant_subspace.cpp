// The invariant-subspace theorem: gradient descent on a deep linear network moves only a 2 r̂-wide
// block of each factor, the rest being ρ_l I with a scalar recursion; the same for heavy-ball
// momentum, not for Adam and RMSProp; and to float's precision in float.
#include "dynamics.hpp"
#include "support/catch.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

/// Unequal scales, the first `depth` of them.
std::vector<double> unequal(int depth) {
  const std::vector<double> all = {1.0, 0.6, 0.85, 0.7};
  return {all.begin(), all.begin() + depth};
}

/// Original and compressed factorisation side by side; checks T1, T2 and T3.
void check_trajectory(const Setting& s, index_t iterations) {
  const index_t width = 2 * s.rhat;
  const Tensor<double> phi = s.target();
  const std::vector<Tensor<double>> initial = s.initial();
  const InvariantSubspace<double> bases = invariant_subspace(initial, phi, s.rhat);
  const Tensor<double> rho = rho_recursion(s.eps, s.eta, s.weight_decay, s.momentum, iterations);
  const Tensor<double> left = slice(bases.u.back(), 1, 0, width);
  const Tensor<double> right = slice(bases.v.front(), 1, 0, width);
  const Tensor<double> small_phi = matmul(matmul(left, phi, true, false), right);

  const DeepLinear<double> net(initial);
  const CompressedLinear<double> small(left, right, s.depth(), s.eps, false);
  GradientDescent<double> optimizer(one_group(net.named_parameters(), s.weight_decay), s.eta,
                                    s.momentum);
  GradientDescent<double> small_optimizer(one_group(small.inner_parameters(), s.weight_decay),
                                          s.eta, s.momentum);
  double bound = static_cast<double>(s.d - width);
  for (const double eps : s.eps) bound *= eps * eps;
  const double first_loss =
      0.5 * dot(sub(net.product().value(), phi), sub(net.product().value(), phi));

  Deviation worst;
  double worst_core = 0;
  double worst_gap = 0;
  double largest_gap = 0;
  double loss = first_loss;
  for (index_t t = 0; t <= iterations; ++t) {
    double exact = static_cast<double>(s.d - width);
    for (int l = 0; l < s.depth(); ++l) exact *= std::pow(rho.at({t, l}), 2);
    const double gap = std::pow(frobenius(sub(net.product().value(), small.product().value())), 2);
    if (exact >= 1e-20) worst_gap = std::max(worst_gap, std::abs(gap - exact) / exact);
    largest_gap = std::max(largest_gap, gap);
    if (t % 50 == 0 || t < 5 || t == iterations) {
      const Deviation now = largest_deviation(bases, net, width, rho, t);
      worst.middle = std::max(worst.middle, now.middle);
      worst.off_diagonal = std::max(worst.off_diagonal, now.off_diagonal);
      for (int l = 1; l <= s.depth(); ++l) {
        const Tensor<double> block =
            in_bases(bases, net.factor(l).value(), static_cast<std::size_t>(l - 1));
        worst_core = std::max(worst_core, distance(slice(slice(block, 0, 0, width), 1, 0, width),
                                                   small.core_factor(l).value()));
      }
    }
    if (t == iterations) break;
    loss = descend(net, phi, optimizer);
    backward(half_squared_error(small.core(), small_phi));
    small_optimizer.step();
  }
  CAPTURE(s.d, s.rhat, s.depth(), s.weight_decay, s.momentum);
  CHECK(worst.middle <= 1e-12);
  CHECK(worst.off_diagonal <= 1e-12);
  CHECK(worst_core <= 1e-11);
  CHECK(worst_gap <= 1e-8);
  CHECK(largest_gap <= bound * (1 + 1e-8));
  // The dynamics did something: blocks that never moved would pass all of the above.
  CHECK(loss < 0.05 * first_loss);
  CHECK(distance(small.core_factor(1).value(), Tensor<double>::eye(width, s.eps[0])) > 0.1);
}

}  // namespace

TEST_CASE("blocks, compressed iterates and the compression gap follow the theorem",
          "[theory][T1][T2][T3]") {
  const int depth = GENERATE(2, 3, 4);
  const double weight_decay = GENERATE(0.0, 0.01);
  Setting s;
  s.d = weight_decay == 0 ? 30 : 40;
  s.eps = unequal(depth);
  s.eta = 1e-3;
  s.weight_decay = weight_decay;
  for (const index_t more : {0, 2}) {
    s.rhat = s.r + more;
    s.seed = static_cast<std::uint64_t>(10 * depth + more);
    check_trajectory(s, 2000);
  }
}

TEST_CASE("the theorem holds from a small initialisation", "[theory][T1][T2][T3]") {
  // The plateau amplifies round-off by what it amplifies the signal by.
  Setting s;
  s.eps = {1e-2, 2e-2, 1.5e-2};
  s.eta = 5e-3;
  check_trajectory(s, 6000);
}

TEST_CASE("heavy-ball momentum keeps the block form", "[theory][T6]") {
  Setting s;
  s.momentum = 0.9;
  s.eta = 2e-4;
  s.weight_decay = GENERATE(0.0, 0.01);
  s.eps = GENERATE(std::vector<double>{1, 1, 1}, std::vector<double>{0.9, 0.5});
  check_trajectory(s, 1000);
}

TEST_CASE("the recursion without its momentum term would be seen to be wrong", "[theory][T6]") {
  // Guards the tolerance of the test above: plain ρ differs from the momentum one by far more.
  const Tensor<double> plain = rho_recursion({1, 1, 1}, 2e-4, 0, 0, 1000);
  const Tensor<double> heavy = rho_recursion({1, 1, 1}, 2e-4, 0, 0.9, 1000);
  CHECK(std::abs(plain.at({1000, 0}) - heavy.at({1000, 0})) > 0.1);
}

TEST_CASE("Adam and RMSProp break the block form", "[theory][T6]") {
  const bool adam = GENERATE(true, false);
  const Setting s;
  const Tensor<double> phi = s.target();
  const std::vector<Tensor<double>> initial = s.initial();
  const InvariantSubspace<double> bases = invariant_subspace(initial, phi, s.rhat);
  const DeepLinear<double> net(initial);
  std::unique_ptr<Optimizer<double>> optimizer;
  if (adam) {
    optimizer = std::make_unique<Adam<double>>(one_group(net.named_parameters()), 1e-2);
  } else {
    optimizer = std::make_unique<RmsProp<double>>(one_group(net.named_parameters()), 1e-2);
  }
  for (int t = 0; t < 50; ++t) descend(net, phi, *optimizer);
  // Whatever ρ is: the block's own mean diagonal.
  const Tensor<double> block = in_bases(bases, net.factor(1).value(), 0);
  double mean = 0;
  for (index_t i = 2 * s.rhat; i < s.d; ++i) {
    mean += block.at({i, i}) / static_cast<double>(s.d - 2 * s.rhat);
  }
  const Deviation out = deviation(block, 2 * s.rhat, mean);
  CHECK(out.middle > 0.01);
  CHECK(out.off_diagonal > 0.01);
}

TEST_CASE("the middle singular values of W_1 are rho(50) at the paper's setting", "[theory][T5]") {
  Setting s;  // d = 30, r = 3, L = 3, eps = 1, eta_sum = 1/900
  s.seed = GENERATE(0u, 1u, 2u);
  const Tensor<double> phi = s.target();
  const DeepLinear<double> net(s.initial());
  GradientDescent<double> optimizer(one_group(net.named_parameters()), s.eta);
  Tensor<double> reference;
  for (int t = 0; t < 50; ++t) {
    descend(net, phi, optimizer);
    if (t == 0) reference = transpose(svd(net.factor(1).value()).vt.rows(3, 27));
  }
  const Svd<double> last = svd(net.factor(1).value());
  for (index_t i = 3; i < 27; ++i) CHECK(std::abs(last.s.at({i}) - 0.950961122) <= 1e-9);
  CHECK(last.s.at({2}) > 1.2);
  CHECK(last.s.at({27}) < 0.9);
  CHECK(principal_angles(transpose(last.vt.rows(3, 27)), reference).back() < 1e-6);
}

TEST_CASE("the theorem holds in float to float's precision", "[theory][T7]") {
  Setting s;
  s.d = 64;
  const double eps = GENERATE(1.0, 1e-1);
  s.eps = {eps, eps, eps};
  s.eta = 5e-4;
  const index_t iterations = 1000;
  const Tensor<float> phi = cast<float>(s.target());
  std::vector<Tensor<float>> initial;
  for (const auto& w : s.initial()) initial.push_back(cast<float>(w));
  // The bases in double from the same start: only the dynamics are in float.
  const InvariantSubspace<double> bases = invariant_subspace(s.initial(), s.target(), s.rhat);
  const Tensor<double> rho = rho_recursion(s.eps, s.eta, 0, 0, iterations);
  const DeepLinear<float> net(initial);
  GradientDescent<float> optimizer(one_group(net.named_parameters()), s.eta);
  Deviation worst;
  for (index_t t = 0; t <= iterations; ++t) {
    if (t % 100 == 0) {
      for (int l = 1; l <= net.depth(); ++l) {
        const Deviation now = deviation(
            in_bases(bases, cast<double>(net.factor(l).value()), static_cast<std::size_t>(l - 1)),
            2 * s.rhat, rho.at({t, l - 1}));
        worst.middle = std::max(worst.middle, now.middle / rho.at({t, l - 1}));
        worst.off_diagonal = std::max(worst.off_diagonal, now.off_diagonal / rho.at({t, l - 1}));
      }
    }
    descend(net, phi, optimizer);
  }
  CHECK(worst.middle <= 1e-3);
  CHECK(worst.off_diagonal <= 1e-3);
  CHECK(worst.middle > 1e-9);  // it was float
}

TEST_CASE("the bases are orthogonal and chain", "[theory][T1]") {
  Setting s;
  s.eps = unequal(4);
  s.rhat = 5;
  const std::vector<Tensor<double>> initial = s.initial();
  const InvariantSubspace<double> bases = invariant_subspace(initial, s.target(), s.rhat);
  REQUIRE(bases.u.size() == 4);
  REQUIRE(bases.v.size() == 4);
  for (std::size_t l = 0; l < 4; ++l) {
    CHECK(orthonormality_error(bases.u[l]) < 1e-13);
    CHECK(orthonormality_error(bases.v[l]) < 1e-13);
    if (l > 0) CHECK(distance(bases.v[l], bases.u[l - 1]) < 1e-13);
    // U_lᵀ W_l(0) V_l = eps_l I.
    CHECK(distance(in_bases(bases, initial[l], l), Tensor<double>::eye(s.d, s.eps[l])) < 1e-13);
  }
  const Tensor<double> phi = s.target();
  CHECK(max_abs(matmul(phi, slice(bases.v.front(), 1, 2 * s.rhat, s.d))) < 1e-12);
  CHECK(max_abs(matmul(phi, slice(bases.u.back(), 1, 2 * s.rhat, s.d), true, false)) < 1e-12);
}
