// The scalar recursion of the inactive block: its bounds, its closed-form limit, and a value that
// NumPy computed.
#include <parsimony/deep_linear.hpp>

#include <cmath>

#include "support/catch.hpp"

using namespace parsimony;

TEST_CASE("rho starts at eps and takes the step of its formula", "[theory][rho]") {
  const std::vector<double> eps = {0.5, 0.8, 1.1};
  const double eta = 0.02;
  const double decay = 0.03;
  const Tensor<double> rho = rho_recursion(eps, eta, decay, 0, 3);
  REQUIRE(rho.shape() == Shape{4, 3});
  for (index_t l = 0; l < 3; ++l) CHECK(rho.at({0, l}) == eps[static_cast<std::size_t>(l)]);
  // All layers from the same iterate, each with the squares of the others.
  CHECK(rho.at({1, 0}) == Approx(0.5 * (1 - eta * decay - eta * 0.64 * 1.21)).epsilon(1e-15));
  CHECK(rho.at({1, 1}) == Approx(0.8 * (1 - eta * decay - eta * 0.25 * 1.21)).epsilon(1e-15));
  CHECK(rho.at({1, 2}) == Approx(1.1 * (1 - eta * decay - eta * 0.25 * 0.64)).epsilon(1e-15));
  CHECK(rho_recursion(eps, eta, decay, 0, 0).shape() == Shape{1, 3});
  CHECK_THROWS_WITH(rho_recursion(eps, eta, decay, 0, -1),
                    testing::contains("expected iterations >= 0; got -1"));
}

TEST_CASE("rho has the paper's value after 50 iterations", "[theory][rho][T5]") {
  const Tensor<double> rho = rho_recursion({1, 1, 1}, 1.0 / 900, 0, 0, 50);
  CHECK(std::abs(rho.at({50, 0}) - 0.950961122) < 1e-9);
  const Tensor<double> other = rho_recursion({0.5, 0.5, 0.5}, 0.02, 0.01, 0, 50);
  CHECK(std::abs(other.at({50, 2}) - 0.46855098825113) < 1e-13);
}

TEST_CASE("rho stays between its bounds", "[theory][rho]") {
  const int depth = GENERATE(2, 3, 4);
  const double eps = GENERATE(1.0, 0.3, 1e-3);
  const double decay = GENERATE(0.0, 0.02);
  const double eta = 0.01;
  const Tensor<double> rho =
      rho_recursion(std::vector<double>(static_cast<std::size_t>(depth), eps), eta, decay, 0, 3000);
  const double slow = 1 - eta * decay;
  const double fast = slow - eta * std::pow(eps, 2.0 * (depth - 1));
  bool within = true;
  for (index_t t = 0; t <= 3000; ++t) {
    const auto steps = static_cast<double>(t);
    within = within && rho.at({t, 0}) <= eps * std::pow(slow, steps) * (1 + 1e-12) &&
             rho.at({t, 0}) >= eps * std::pow(fast, steps) * (1 - 1e-12);
  }
  CAPTURE(depth, eps, decay);
  CHECK(within);
}

TEST_CASE("rho approaches its closed form without weight decay", "[theory][rho]") {
  const int depth = GENERATE(2, 3);
  const double eta = 0.01;
  const index_t t = 20000;
  const Tensor<double> rho =
      rho_recursion(std::vector<double>(static_cast<std::size_t>(depth), 1.0), eta, 0, 0, t);
  const double power = 2.0 * (depth - 1);
  const double closed = std::pow(1.0 + power * eta * static_cast<double>(t), -1.0 / power);
  CHECK(std::abs(rho.at({t, 0}) - closed) < 1e-3 * closed);
}

TEST_CASE("weight decay drives rho to zero, and to nothing else", "[theory][rho]") {
  const Tensor<double> rho = rho_recursion({1e-2, 1e-2, 1e-2}, 0.1, 0.05, 0, 5000);
  CHECK(rho.at({5000, 0}) < 1e-12);
  CHECK(rho.at({5000, 0}) > 0);
}

TEST_CASE("momentum zero is the plain recursion, and momentum accumulates", "[theory][rho]") {
  const Tensor<double> rho = rho_recursion({0.7, 0.9}, 0.05, 0.01, 0.8, 2);
  double r1 = 0.7, r2 = 0.9, v1 = 0, v2 = 0;
  for (int t = 0; t < 2; ++t) {
    v1 = 0.8 * v1 + 0.01 * r1 + r1 * r2 * r2;
    const double g2 = 0.01 * r2 + r2 * r1 * r1;
    r1 -= 0.05 * v1;
    v2 = 0.8 * v2 + g2;
    r2 -= 0.05 * v2;
  }
  CHECK(rho.at({2, 0}) == Approx(r1).epsilon(1e-14));
  CHECK(rho.at({2, 1}) == Approx(r2).epsilon(1e-14));
}
