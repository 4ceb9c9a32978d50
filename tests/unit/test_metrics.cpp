// Metrics and paired statistics against SciPy and scikit-learn, and their edges.
#include <parsimony/error.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/safetensors.hpp>

#include <cmath>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::infinity;

namespace {

const TensorMap& fixtures() {
  static const TensorMap map = load_safetensors(parsimony::testing::fixture("metrics.safetensors"));
  return map;
}

std::vector<double> values(const std::string& name) {
  return fixtures().get<double>(name).to_vector();
}

std::vector<index_t> classes(const std::string& name) {
  const std::vector<double> v = values(name);
  return std::vector<index_t>(v.begin(), v.end());
}

bool close(double got, double expected, double relative) {
  return std::abs(got - expected) <= relative * std::abs(expected);
}

}  // namespace

TEST_CASE("metrics: correlations agree with SciPy", "[metrics]") {
  for (const std::string name : {"normal", "ties", "offset", "scores", "two"}) {
    INFO(name);
    const auto x = values("correlation." + name + ".x");
    const auto y = values("correlation." + name + ".y");
    const auto expected = values("correlation." + name + ".expected");
    // 1e8 + x has lost half its digits; both sides see the same rounded x.
    CHECK(std::abs(pearson(x, y) - expected[0]) < (name == "offset" ? 1e-9 : 1e-14));
    CHECK(std::abs(spearman(x, y) - expected[1]) < 1e-14);
    CHECK(pearson(y, x) == pearson(x, y));
  }
}

TEST_CASE("metrics: correlations at their edges", "[metrics]") {
  CHECK(pearson({1, 2, 3}, {2, 4, 6}) == 1);
  CHECK(pearson({1, 2, 3}, {-2, -4, -6}) == -1);
  CHECK(spearman({1, 2, 3}, {1, 10, 1000}) == 1);
  CHECK(average_ranks({3, 1, 3, 2, 3}) == std::vector<double>{4, 1, 4, 2, 4});
  // A constant, also one whose mean rounds, says nothing.
  CHECK(pearson({0.1, 0.1, 0.1}, {1, 2, 3}) == 0);
  CHECK(spearman({1, 2, 3}, {7, 7, 7}) == 0);
  CHECK(pearson({}, {}) == 0);
  CHECK(pearson({1}, {2}) == 0);
  CHECK(pearson({1e200, 2e200, 3e200}, {1e-200, 2e-200, 3e-200}) == Approx(1));
  CHECK_THROWS_WITH(pearson({1, 2}, {1}), contains("got 2 and 1"));
  CHECK_THROWS_AS(pearson({1, NAN}, {1, 2}), ValueError);
  CHECK_THROWS_AS(spearman({1, 2}, {infinity, 2}), ValueError);
}

TEST_CASE("metrics: classes agree with scikit-learn", "[metrics]") {
  for (const std::string name : {"two", "rare", "three"}) {
    INFO(name);
    const auto predicted = classes("classes." + name + ".predicted");
    const auto actual = classes("classes." + name + ".actual");
    const auto expected = values("classes." + name + ".expected");
    CHECK(accuracy(predicted, actual) == Approx(expected[0]).epsilon(1e-14));
    CHECK(matthews(predicted, actual) == Approx(expected[1]).epsilon(1e-13));
    CHECK(f1(predicted, actual) == Approx(expected[2]).epsilon(1e-14));
  }
}

TEST_CASE("metrics: classes at their edges", "[metrics]") {
  CHECK(matthews({1, 1, 1}, {0, 1, 0}) == 0);
  CHECK(matthews({0, 1, 0}, {0, 1, 0}) == 1);
  CHECK(matthews({1, 0, 1}, {0, 1, 0}) == -1);
  CHECK(matthews({}, {}) == 0);
  CHECK(f1({0, 0}, {0, 0}) == 0);
  CHECK(f1({0, 0}, {0, 0}, 0) == 1);
  CHECK(accuracy({}, {}) == 0);
  CHECK_THROWS_AS(accuracy({1}, {1, 0}), ValueError);
  CHECK_THROWS_AS(matthews({-1}, {0}), ValueError);
  CHECK(argmax_rows(Tensor<float>({2, 3}, {1, 3, 2, 5, 5, -1})) == std::vector<index_t>{1, 0});
  CHECK_THROWS_AS(argmax_rows(Tensor<double>({1, 2}, {0, NAN})), NumericalError);
  CHECK_THROWS_AS(argmax_rows(Tensor<double>({3}, {0, 1, 2})), ShapeError);
}

TEST_CASE("metrics: by name", "[metrics]") {
  CHECK(metric("accuracy", {0, 2, 1}, {0, 1, 1}) == Approx(2.0 / 3));
  CHECK(metric("pearson", {0, 2, 1}, {0, 4, 2}) == 1);
  for (const std::string& name : metric_names()) CHECK_NOTHROW(metric(name, {0, 1}, {1, 1}));
  CHECK_THROWS_WITH(metric("acuracy", {0}, {0}), contains("did you mean 'accuracy'"));
  CHECK_THROWS_WITH(metric("f1", {0.5}, {0}), contains("expected class numbers; got 0.5"));
}

TEST_CASE("statistics: the incomplete beta function and Student's t agree with SciPy",
          "[metrics]") {
  const Tensor<double>& beta = fixtures().get<double>("beta");
  for (index_t i = 0; i < beta.dim(0); ++i) {
    const double* row = beta.data() + 4 * i;
    INFO(row[0] << " " << row[1] << " " << row[2]);
    const double got = incomplete_beta(row[0], row[1], row[2]);
    CHECK((close(got, row[3], 2e-12) || std::abs(got - row[3]) < 1e-300));
  }
  const Tensor<double>& student = fixtures().get<double>("student");
  for (index_t i = 0; i < student.dim(0); ++i) {
    const double* row = student.data() + 3 * i;
    INFO(row[0] << " " << row[1]);
    CHECK(close(student_t_two_sided(row[0], row[1]), row[2], 1e-11));
  }
  CHECK(incomplete_beta(2, 3, 0) == 0);
  CHECK(incomplete_beta(2, 3, 1) == 1);
  CHECK(student_t_two_sided(-infinity, 3) == 0);
  CHECK_THROWS_AS(incomplete_beta(0, 1, 0.5), ValueError);
  CHECK_THROWS_AS(incomplete_beta(1, 1, 1.5), ValueError);
  CHECK_THROWS_AS(student_t_two_sided(NAN, 3), ValueError);
  CHECK_THROWS_AS(student_t_two_sided(1, 0), ValueError);
}

TEST_CASE("statistics: paired differences agree with SciPy", "[metrics]") {
  for (const std::string name : {"five", "ten", "twenty", "two"}) {
    INFO(name);
    const auto expected = values("paired." + name + ".expected");
    const PairedStatistics s =
        paired_statistics(values("paired." + name + ".a"), values("paired." + name + ".b"));
    CHECK(close(s.difference.mean, expected[0], 1e-12));
    CHECK(close(s.difference.population_std, expected[1], 1e-12));
    CHECK(close(s.difference.sample_std, expected[2], 1e-12));
    CHECK(close(s.t, expected[3], 1e-12));
    CHECK(close(s.p, expected[4], 1e-11));
    CHECK(s.wins == static_cast<index_t>(expected[5]));
    CHECK(s.wins + s.ties + s.losses == s.difference.count);
  }
}

TEST_CASE("statistics: paired differences at their edges", "[metrics]") {
  const PairedStatistics same = paired_statistics({1, 2, 3}, {1, 2, 3});
  CHECK(same.t == 0);
  CHECK(same.p == 1);
  CHECK(same.ties == 3);
  // Equal differences whose mean rounds must not pass for a tiny spread.
  const PairedStatistics shifted = paired_statistics({0.1, 0.1, 0.1}, {0, 0, 0});
  CHECK(shifted.t == infinity);
  CHECK(shifted.p == 0);
  CHECK(shifted.wins == 3);
  const PairedStatistics one = paired_statistics({2}, {1});
  CHECK(one.difference.mean == 1);
  CHECK(std::isnan(one.difference.sample_std));
  CHECK(std::isnan(one.t));
  CHECK(std::isnan(one.p));
  CHECK(spread({1, 3}).population_std == 1);
  CHECK(spread({1, 3}).sample_std == Approx(std::sqrt(2)));
  CHECK_THROWS_AS(paired_statistics({}, {}), ValueError);
  CHECK_THROWS_AS(paired_statistics({1}, {}), ValueError);
  CHECK_THROWS_AS(spread({1, NAN}), ValueError);
}
