// Gaussian processes against NumPy, their gradients, equal points, and the search that they guide.
#include <parsimony/error.hpp>
#include <parsimony/gaussian_process.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <cmath>

#include "support/catch.hpp"
#include "support/fixtures.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

GpParameters parameters(double variance, std::vector<double> lengths, double noise) {
  return {variance, std::move(lengths), noise};
}

/// A smooth bowl with a narrow valley along one variable; the rest matter little.
double bowl(const std::vector<double>& x) {
  return std::pow(4 * (x[0] - 0.3), 2) + std::pow(2 * (x[1] - 0.6), 2) + 0.3 * std::sin(6 * x[2]) +
         0.1 * x[3];
}

BoxProblem bowl_under_a_budget() {
  BoxProblem p;
  p.low.assign(4, 0.0);
  p.high.assign(4, 1.0);
  p.value = bowl;
  p.feasible = [](const std::vector<double>& x) {
    const double sum = x[0] + x[1] + x[2] + x[3];
    return sum <= 2.0 && sum >= 1.6;
  };
  return p;
}

}  // namespace

TEST_CASE("gaussian process: posterior and likelihood are NumPy's") {
  const TensorMap f = load_safetensors(parsimony::testing::fixture("gaussian_process.safetensors"));
  const GaussianProcess gp(
      f.get<double>("x"), f.get<double>("y"),
      parameters(f.get<double>("variance").item(), f.get<double>("lengths").to_vector(),
                 f.get<double>("noise").item()));
  CHECK(gp.jitter() == 0);
  CHECK(gp.log_likelihood() == Approx(f.get<double>("likelihood").item()).epsilon(1e-12));
  const auto predicted = gp.predict(f.get<double>("at"));
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    CHECK(predicted[i].mean == Approx(f.get<double>("mean").data()[i]).epsilon(1e-10));
    CHECK(predicted[i].variance ==
          Approx(f.get<double>("var").data()[i]).epsilon(1e-8).margin(1e-12));
  }
}

TEST_CASE("gaussian process: gradient of the log posterior, and the fit does not lower it") {
  Rng rng(3);
  const auto x = rng.uniform<double>({8, 2});
  const auto y = rng.normal<double>({8});
  const auto at = [&](const std::vector<double>& u) {
    return GaussianProcess(
               x, y, parameters(std::exp(u[0]), {std::exp(u[1]), std::exp(u[2])}, std::exp(u[3])))
        .log_posterior();
  };
  const std::vector<double> u{0.4, -0.9, -0.2, -4.0};
  const auto there = at(u);
  for (std::size_t i = 0; i < u.size(); ++i) {
    constexpr double step = 1e-6;
    std::vector<double> up = u;
    std::vector<double> down = u;
    up[i] += step;
    down[i] -= step;
    const double slope = (at(up).value - at(down).value) / (2 * step);
    INFO("parameter " << i);
    CHECK(there.gradient[i] == Approx(slope).epsilon(1e-6));
  }
  const GpParameters start = parameters(2, {0.8, 0.8}, 1e-8);
  const auto fitted = GaussianProcess::fit(x, y, start, 4, Rng(1));
  CHECK(fitted.log_posterior().value >= GaussianProcess(x, y, start).log_posterior().value);
  CHECK(fitted.log_posterior().value >= there.value);
}

TEST_CASE("gaussian process: equal points get a jitter, and their values are averaged") {
  const Tensor<double> x({4, 1}, {0.2, 0.2, 0.2, 0.8});
  const Tensor<double> y({4}, {1.0, 2.0, 3.0, -1.0});
  const GaussianProcess gp(x, y, parameters(1, {0.5}, 1e-30));
  CHECK(gp.jitter() > 0);
  const auto p = gp.predict(Tensor<double>({2, 1}, {0.2, 0.8}));
  CHECK(p[0].mean == Approx(2.0).epsilon(1e-4));
  CHECK(p[1].mean == Approx(-1.0).epsilon(1e-4));
  const auto fitted = GaussianProcess::fit(x, y, parameters(1, {0.5}, 1e-8), 3, Rng(0));
  CHECK(std::isfinite(fitted.log_likelihood()));
  CHECK_THROWS_AS(GaussianProcess(x, Tensor<double>({4}, {1, 2, NAN, 0}), parameters(1, {1}, 1)),
                  NumericalError);
}

TEST_CASE("gaussian process: expected improvement by quadrature") {
  const double mean = 0.3;
  const double deviation = 0.7;
  const double best = 0.1;
  double sum = 0;
  constexpr int steps = 200000;
  constexpr double width = 16.0 / steps;
  for (int i = 0; i < steps; ++i) {
    const double z = -8 + (i + 0.5) * width;
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * 3.14159265358979323846);
    sum += std::max(0.0, best - (mean + deviation * z)) * density * width;
  }
  CHECK(expected_improvement(best, mean, deviation * deviation) == Approx(sum).epsilon(1e-6));
  CHECK(expected_improvement(best, mean, 0) == 0);
}

TEST_CASE("minimize_in_box: a quadratic whose minimum is outside, and a curved valley") {
  const auto quadratic = [](const std::vector<double>& x, std::vector<double>& g) {
    g = {2 * (x[0] - 3), 20 * (x[1] + 0.5)};
    return std::pow(x[0] - 3, 2) + 10 * std::pow(x[1] + 0.5, 2);
  };
  const auto at = minimize_in_box(quadratic, {0, 1}, {-1, -1}, {1, 1});
  CHECK(at[0] == Approx(1.0));
  CHECK(at[1] == Approx(-0.5).epsilon(1e-5));
  const auto valley = [](const std::vector<double>& x, std::vector<double>& g) {
    const double a = 1 - x[0];
    const double b = x[1] - x[0] * x[0];
    g = {-2 * a - 40 * b * x[0], 20 * b};
    return a * a + 10 * b * b;
  };
  const auto end = minimize_in_box(valley, {-1, 1}, {-2, -2}, {2, 2});
  CHECK(end[0] == Approx(1.0).epsilon(1e-4));
  CHECK(end[1] == Approx(1.0).epsilon(1e-4));
}

TEST_CASE("bayes_minimize: beats random search at the same number of evaluations", "[bayes]") {
  const BoxProblem problem = bowl_under_a_budget();
  BayesOptions options;
  options.evaluations = 30;
  options.candidates = 500;
  options.restarts = 3;
  int wins = 0;
  double mine = 0;
  double theirs = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const auto found = bayes_minimize(problem, options, Rng(seed));
    const auto random = random_minimize(problem, options.evaluations, Rng(seed).split("random"));
    REQUIRE(found.history.size() == 30);
    for (const Evaluation& e : found.history) CHECK(problem.feasible(e.point));
    wins += found.result().value < random.result().value ? 1 : 0;
    mine += found.result().value;
    theirs += random.result().value;
  }
  INFO("mean of the best: " << mine / 3 << " against " << theirs / 3);
  CHECK(wins == 3);
}

TEST_CASE("bayes_minimize: deterministic, from a start, with equal values and infinite ones",
          "[bayes]") {
  BoxProblem problem = bowl_under_a_budget();
  BayesOptions options;
  options.evaluations = 8;
  options.candidates = 100;
  options.restarts = 1;
  problem.start = {{0.5, 0.5, 0.5, 0.5}};
  const auto one = bayes_minimize(problem, options, Rng(5));
  const auto two = bayes_minimize(problem, options, Rng(5));
  CHECK(one.history[0].point == problem.start[0]);
  for (std::size_t i = 0; i < 8; ++i) CHECK(one.history[i].point == two.history[i].point);
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t j = 0; j < i; ++j) CHECK(one.history[i].point != one.history[j].point);
  }
  problem.value = [](const std::vector<double>&) { return 1.0; };
  CHECK(bayes_minimize(problem, options, Rng(5)).result().value == 1.0);
  problem.value = [](const std::vector<double>& x) { return x[0] < 0.5 ? INFINITY : x[0]; };
  CHECK(std::isfinite(bayes_minimize(problem, options, Rng(5)).result().value));
}

TEST_CASE("bayes_minimize: what cannot be is refused", "[bayes]") {
  BoxProblem problem = bowl_under_a_budget();
  problem.start = {{1, 1, 1, 1}};
  CHECK_THROWS_WITH(bayes_minimize(problem, {}, Rng(0)), contains("feasible start"));
  problem.start.clear();
  problem.feasible = [](const std::vector<double>&) { return false; };
  CHECK_THROWS_AS(random_minimize(problem, 1, Rng(0)), ValueError);
  problem.low[0] = 1;
  CHECK_THROWS_AS(bayes_minimize(problem, {}, Rng(0)), ValueError);
}
