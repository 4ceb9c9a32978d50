// Deep linear models as modules: shapes, scales, names, products in full and on Ω, gradients of
// every form, and the trajectory that NumPy computed.
#include <parsimony/deep_linear.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <functional>

#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using parsimony::testing::largest_difference;

namespace {

Tensor<double> chain(const std::vector<Tensor<double>>& factors) {
  Tensor<double> product = factors[0];
  for (std::size_t i = 1; i < factors.size(); ++i) product = matmul(factors[i], product);
  return product;
}

/// Largest error of the gradients of `parameters` against central differences of loss(), relative
/// to the gradient's largest entry.
double gradient_error(const NamedParameters<double>& parameters,
                      const std::function<Var<double>()>& loss) {
  backward(loss());
  double worst = 0;
  for (const auto& [name, var] : parameters) {
    Var<double> v = var;
    if (!v.requires_grad()) continue;
    const Tensor<double> g = v.grad().clone();
    v.zero_grad();
    for (index_t i = 0; i < g.size(); ++i) {
      const double x = v.value().data()[i];
      const double h = 1e-5;
      v.mutable_data()[i] = x + h;
      const double up = loss().item();
      v.mutable_data()[i] = x - h;
      const double down = loss().item();
      v.mutable_data()[i] = x;
      worst = std::max(worst, std::abs((up - down) / (2 * h) - g.data()[i]) / max_abs(g));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("gradient descent follows NumPy's trajectory", "[deep_linear]") {
  const TensorMap fixture = load_safetensors(testing::fixture("deep_linear.safetensors"));
  const auto start = [&](const std::string& t) {
    std::vector<Tensor<double>> factors;
    for (int l = 1; l <= 3; ++l) {
      factors.push_back(fixture.get<double>("w" + std::to_string(l) + ".t" + t));
    }
    return factors;
  };
  const DeepLinear<double> net(start("0"));
  const double eta = std::stod(fixture.metadata.at("eta_sum"));
  const double decay = std::stod(fixture.metadata.at("weight_decay"));
  GradientDescent<double> optimizer(one_group(net.named_parameters(), decay), eta);
  const auto& phi = fixture.get<double>("phi");
  for (int t = 1; t <= 50; ++t) {
    backward(half_squared_error(net.product(), phi));
    optimizer.step();
    if (t != 1 && t != 10 && t != 50) continue;
    const auto expected = start(std::to_string(t));
    for (int l = 1; l <= 3; ++l) {
      CAPTURE(t, l);
      CHECK(largest_difference(net.factor(l).value(), expected[static_cast<std::size_t>(l - 1)]) <
            1e-12);
    }
  }
  // The theorem's plateau in the file's own weights.
  const Tensor<double> s = singular_values(net.factor(2).value());
  int equal = 0;
  for (const double value : s) equal += std::abs(value - 0.46855098825113) < 1e-12 ? 1 : 0;
  CHECK(equal >= 8);
}

TEST_CASE("factors are scaled orthogonal, of any shape", "[deep_linear]") {
  const std::vector<index_t> dims = {7, 5, 5, 9};
  const std::vector<double> eps = {0.5, 2.0, 1e-3};
  const DeepLinear<double> net(dims, eps, Rng(3));
  REQUIRE(net.depth() == 3);
  for (int l = 1; l <= 3; ++l) {
    const auto i = static_cast<std::size_t>(l);
    REQUIRE(net.factor(l).shape() == Shape{dims[i], dims[i - 1]});
    const Tensor<double> s = singular_values(net.factor(l).value());
    for (const double value : s) CHECK(value == Approx(eps[i - 1]).epsilon(1e-13));
  }
  CHECK(net.product().shape() == Shape{9, 7});
  CHECK(net.parameter_count() == 5 * 7 + 5 * 5 + 9 * 5);
  const auto names = net.named_parameters();
  REQUIRE(names.size() == 3);
  CHECK(names[0].first == "w1");
  CHECK(names[2].first == "w3");
}

TEST_CASE("a layer's draw does not depend on the other layers", "[deep_linear]") {
  const DeepLinear<double> shallow({6, 6, 6}, {1.0}, Rng(4));
  const DeepLinear<double> deep({6, 6, 6, 6, 6}, {1.0}, Rng(4));
  CHECK(largest_difference(shallow.factor(1).value(), deep.factor(1).value()) == 0.0);
  CHECK(largest_difference(shallow.factor(2).value(), deep.factor(2).value()) == 0.0);
  CHECK(largest_difference(deep.factor(3).value(), deep.factor(4).value()) > 0.1);
}

TEST_CASE("the product is the chain's, from whichever end is cheaper", "[deep_linear]") {
  for (const auto& dims : std::vector<std::vector<index_t>>{
           {8, 8, 8}, {2, 9, 9, 9}, {9, 9, 9, 2}, {5, 1, 5}, {3, 12, 1, 12, 4}}) {
    const DeepLinear<double> net(dims, {1.5}, Rng(5));
    CHECK(largest_difference(net.product().value(), chain(net.values())) < 1e-13);
  }
}

TEST_CASE("entries on omega are those of the product", "[deep_linear]") {
  const IndexSet omega = random_index_set(9, 7, 0.4, Rng(6));
  const DeepLinear<double> net({7, 4, 5, 9}, {0.8}, Rng(7));
  CHECK(largest_difference(net.sampled(omega).value(),
                           gather_entries(omega, net.product().value())) < 1e-14);
  Rng rng(8);
  const CompressedLinear<double> small(haar_orthogonal<double>(rng, 9, 4),
                                       haar_orthogonal<double>(rng, 7, 4), 3, {0.9}, true);
  CHECK(largest_difference(small.sampled(omega).value(),
                           gather_entries(omega, small.product().value())) < 1e-14);
}

TEST_CASE("the compressed form starts at eps^L left rightᵀ", "[deep_linear]") {
  Rng rng(9);
  const Tensor<double> left = haar_orthogonal<double>(rng, 12, 4);
  const Tensor<double> right = haar_orthogonal<double>(rng, 8, 4);
  const CompressedLinear<double> net(left, right, 3, {0.1, 0.2, 0.3}, true);
  CHECK(largest_difference(net.product().value(), scale(matmul(left, right, false, true), 6e-3)) <
        1e-16);
  CHECK(largest_difference(net.core().value(), Tensor<double>::eye(4, 6e-3)) < 1e-17);
  CHECK(net.parameter_count() == 12 * 4 + 8 * 4 + 3 * 16);
  CHECK(net.inner_parameters().size() == 3);
  CHECK(net.outer_parameters().size() == 2);
  // It copies: training it leaves the matrices that it was made from alone.
  Var<double> l = net.left();
  l.mutable_data()[0] += 1;
  CHECK(left.at({0, 0}) != net.left().value().at({0, 0}));
}

TEST_CASE("frozen outer factors get no gradient", "[deep_linear]") {
  Rng rng(10);
  const CompressedLinear<double> net(haar_orthogonal<double>(rng, 10, 4),
                                     haar_orthogonal<double>(rng, 10, 4), 2, {0.5}, false);
  backward(half_squared_error(net.product(), Tensor<double>::eye(10)));
  CHECK_FALSE(net.left().has_grad());
  CHECK_FALSE(net.right().has_grad());
  CHECK(net.core_factor(1).has_grad());
  CHECK(net.core_factor(2).has_grad());
  CHECK(net.parameter_count() == 2 * 16);
}

TEST_CASE("gradients of every form match finite differences", "[deep_linear]") {
  Rng rng(11);
  const Tensor<double> target = rng.normal<double>({6, 5});
  const IndexSet omega = random_index_set(6, 5, 0.5, Rng(12));
  const Tensor<double> observed = gather_entries(omega, target);
  const Tensor<std::uint8_t> mask = omega.mask();

  const DeepLinear<double> net({5, 4, 3, 6}, {0.9}, Rng(13));
  const auto net_parameters = net.named_parameters();
  CHECK(gradient_error(net_parameters, [&] { return half_squared_error(net.product(), target); }) <
        1e-8);
  CHECK(gradient_error(net_parameters, [&] {
          return masked_half_squared_error(net.product(), target, mask);
        }) < 1e-8);
  CHECK(gradient_error(net_parameters,
                       [&] { return half_squared_error(net.sampled(omega), observed); }) < 1e-8);

  const CompressedLinear<double> small(haar_orthogonal<double>(rng, 6, 4),
                                       haar_orthogonal<double>(rng, 5, 4), 3, {0.9}, true);
  const auto small_parameters = small.named_parameters();
  CHECK(gradient_error(small_parameters,
                       [&] { return half_squared_error(small.product(), target); }) < 1e-8);
  CHECK(gradient_error(small_parameters,
                       [&] { return half_squared_error(small.sampled(omega), observed); }) < 1e-8);
}

TEST_CASE("the sampled loss has the masked loss's gradients", "[deep_linear]") {
  Rng rng(14);
  const Tensor<double> target = rng.normal<double>({20, 15});
  const IndexSet omega = random_index_set(20, 15, 0.3, Rng(15));
  const DeepLinear<double> a({15, 15, 20}, {0.7}, Rng(16));
  const DeepLinear<double> b({15, 15, 20}, {0.7}, Rng(16));
  const Var<double> masked = masked_half_squared_error(a.product(), target, omega.mask());
  const Var<double> sampled = half_squared_error(b.sampled(omega), gather_entries(omega, target));
  CHECK(masked.item() == Approx(sampled.item()).epsilon(1e-13));
  backward(masked);
  backward(sampled);
  for (int l = 1; l <= 2; ++l) {
    CHECK(largest_difference(a.factor(l).grad(), b.factor(l).grad()) < 1e-12);
  }
}

TEST_CASE("bad deep linear models are refused", "[deep_linear]") {
  using Net = DeepLinear<double>;
  CHECK_THROWS_AS(Net({4, 4}, {1.0}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net({4, 0, 4}, {1.0}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net({4, -3, 4}, {1.0}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net({4, 4, 4, 4}, {1.0, 2.0}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net({4, 4, 4}, {1.0, testing::nan_value}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net({4, 4, 4}, {testing::infinity}, Rng(1)), ValueError);
  CHECK_THROWS_AS(Net(std::vector<Tensor<double>>{Tensor<double>::eye(3)}), ValueError);
  CHECK_THROWS_AS(Net(std::vector<Tensor<double>>{Tensor<double>::eye(3), Tensor<double>::eye(4)}),
                  ShapeError);
  CHECK_THROWS_AS(
      Net(std::vector<Tensor<double>>{Tensor<double>::zeros({3}), Tensor<double>::eye(3)}),
      ShapeError);
  using Small = CompressedLinear<double>;
  CHECK_THROWS_AS(Small(Tensor<double>::ones({5, 2}), Tensor<double>::ones({5, 3}), 3, {1.0}, true),
                  ShapeError);
  CHECK_THROWS_AS(Small(Tensor<double>::ones({5, 2}), Tensor<double>::ones({5, 2}), 0, {1.0}, true),
                  ValueError);
  CHECK_THROWS_AS(
      Small(Tensor<double>::ones({5, 2}), Tensor<double>::ones({5, 2}), 3, {1.0, 2.0}, true),
      ValueError);
}
