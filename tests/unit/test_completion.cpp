// Completing ratings: errors and baselines against numbers worked out by hand, recovery of a
// low-rank table, early stopping, the stability guide, divergence, and tables with nothing in them.
#include <parsimony/completion.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/threads.hpp>

#include <cmath>

#include "support/catch.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

struct Table {
  IndexSet omega;
  Tensor<double> values;
  RatedPairs held;
};

/// A rank-r table of n x m with a share of its entries seen, another held out.
Table low_rank_table(index_t n, index_t m, index_t rank, double seen, std::uint64_t seed) {
  const Tensor<double> target = low_rank_target(n, m, rank, Rng(seed).split("target"));
  Table t;
  t.omega = random_index_set(n, m, seen, Rng(seed).split("mask"));
  t.values = gather_entries(t.omega, target);
  const Tensor<std::uint8_t> mask = t.omega.mask();
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < m; ++j) {
      if (mask.at({i, j}) != 0 || (i + j) % 3 != 0) continue;
      t.held.user.push_back(static_cast<std::int32_t>(i));
      t.held.item.push_back(static_cast<std::int32_t>(j));
      t.held.value.push_back(target.at({i, j}));
    }
  }
  return t;
}

}  // namespace

TEST_CASE("completion: predictions, clamping and errors by hand", "[completion]") {
  CompletionModel model;
  model.mean = 3;
  model.user_bias = Tensor<double>({2}, {0.5, -1});
  model.item_bias = Tensor<double>({3}, {0.25, 0, 1});
  model.left = Tensor<double>({2, 2}, {1, 2, 3, 4});
  model.right = Tensor<double>({3, 2}, {1, 0, 0, 1, 1, 1});
  CHECK(model.unclamped(0, 2) == 3 + 0.5 + 1 + 3);
  CHECK(model.unclamped(1, -1) == 2);
  CHECK(model.unclamped(-1, 0) == 3.25);
  CHECK(model.unclamped(-1, -1) == 3);
  CHECK_THROWS_AS(model.unclamped(2, 0), ValueError);
  model.low = 1;
  model.high = 5;
  CHECK(model.predict(0, 2) == 5);
  RatedPairs pairs;
  pairs.user = {0, -1};
  pairs.item = {2, 0};
  pairs.value = {4, 2.25};
  const CompletionError e = completion_error(model, pairs);
  CHECK(e.mae == Approx(1.0));
  CHECK(e.rmse == Approx(1.0));
  CHECK(e.mae_unclamped == Approx((3.5 + 1) / 2));
  CHECK(e.rmse_unclamped == Approx(std::sqrt((3.5 * 3.5 + 1) / 2)));
  CHECK_THROWS_AS(completion_error(model, {}), ValueError);
}

TEST_CASE("completion: biases satisfy their normal equations", "[completion]") {
  const Table t = low_rank_table(25, 18, 4, 0.4, 1);
  const double decay = 2;
  const CompletionModel m = fit_biases(t.omega, t.values, decay);
  const Tensor<double> r = residuals(m, t.omega, t.values);
  for (index_t u = 0; u < 25; ++u) {
    const auto row = static_cast<std::size_t>(u);
    double sum = 0;
    for (auto e = t.omega.row_offsets()[row]; e < t.omega.row_offsets()[row + 1]; ++e)
      sum += r.data()[e];
    CHECK(sum == Approx(decay * m.user_bias.data()[u]).margin(1e-4));
  }
  CHECK(m.mean == Approx(sum_all(t.values) / static_cast<double>(t.values.size())));
}

TEST_CASE("completion: the truncated SVD of a full table is its best approximation",
          "[completion]") {
  const Table t = low_rank_table(20, 15, 3, 1.0, 2);
  CompletionModel zero = fit_global_mean(t.omega, t.values);
  zero.mean = 0;
  const CompletionModel m = fit_truncated_svd(zero, t.omega, t.values, 3, Rng(0));
  CHECK(frobenius(residuals(m, t.omega, t.values)) < 1e-8);
  const CompletionModel two = fit_truncated_svd(zero, t.omega, t.values, 2, Rng(0));
  const Tensor<double> s = singular_values(scatter_entries(t.omega, t.values));
  CHECK(frobenius(residuals(two, t.omega, t.values)) == Approx(s.data()[2]).epsilon(1e-8));
}

TEST_CASE("completion: alternating least squares recovers a low-rank table", "[completion]") {
  const Table t = low_rank_table(60, 40, 2, 0.5, 3);
  CompletionModel zero = fit_global_mean(t.omega, t.values);
  zero.mean = 0;
  AlternatingOptions options;
  options.rank = 2;
  options.decay = 1e-9;
  options.iterations = 200;
  CHECK(completion_error(fit_als(zero, t.omega, t.values, options, Rng(1)), t.held).rmse < 1e-4);

  // One half step with the other side fixed solves (BᵀB + λI) a = Bᵀr.
  options.decay = 0.3;
  options.weighted = false;
  AlternatingLeastSquares als(zero, t.omega, t.values, options, Rng(1));
  const Tensor<double> fixed = als.right().clone();
  als.iterate();
  const auto& offsets = t.omega.row_offsets();
  const index_t n = offsets[1] - offsets[0];
  Tensor<double> b({n, 2});
  Tensor<double> r({n, 1});
  for (index_t e = 0; e < n; ++e) {
    const auto col = t.omega.columns()[static_cast<std::size_t>(e)];
    for (index_t j = 0; j < 2; ++j) b.mutable_data()[e * 2 + j] = fixed.data()[col * 2 + j];
    r.mutable_data()[e] = t.values.data()[e];
  }
  const Tensor<double> x = solve_spd(add(matmul(b, b, true, false), Tensor<double>::eye(2, 0.3)),
                                     matmul(b, r, true, false));
  CHECK(als.left().at({0, 0}) == Approx(x.data()[0]));
  CHECK(als.left().at({0, 1}) == Approx(x.data()[1]));
  options.decay = 0;
  CHECK_THROWS_AS(fit_als(zero, t.omega, t.values, options, Rng(1)), ValueError);
}

TEST_CASE("completion: the deep model recovers a low-rank table in both precisions",
          "[completion]") {
  const Table t = low_rank_table(80, 60, 2, 0.5, 4);
  CompletionModel zero = fit_global_mean(t.omega, t.values);
  zero.mean = 0;
  DeepCompletionOptions options;
  options.rank = 2;
  options.eps = 0.05;
  options.iterations = 3000;
  options.patience = 3000;
  options.check_every = 100;
  const double scale = frobenius(t.values) / std::sqrt(static_cast<double>(t.values.size()));
  const DeepCompletionFit fit =
      fit_deep_completion<double>(zero, t.omega, t.values, t.held, options, Rng(0));
  CHECK(completion_error(fit.model, t.held).rmse < 1e-3 * scale);
  // The factors are the model.
  Tensor<double> left = fit.left;
  for (int l = 3; l >= 1; --l) left = matmul(left, fit.cores[static_cast<std::size_t>(l - 1)]);
  CHECK(max_abs(sub(left, fit.model.left)) < 1e-10 * max_abs(left));
  CHECK(fit.checks.size() == 31);
  CHECK(fit.stability < 2);

  const DeepCompletionFit single =
      fit_deep_completion<float>(zero, t.omega, t.values, t.held, options, Rng(0));
  CHECK(completion_error(single.model, t.held).rmse < 1e-2 * scale);

  // γ = 0 keeps a subspace that is only near, and stays behind.
  options.gamma = 0;
  const DeepCompletionFit frozen =
      fit_deep_completion<double>(zero, t.omega, t.values, t.held, options, Rng(0));
  CHECK(completion_error(frozen.model, t.held).rmse > 1e-2 * scale);
}

TEST_CASE("completion: the same bits for a seed, whatever the threads", "[completion]") {
  const Table t = low_rank_table(300, 200, 3, 0.5, 5);
  const CompletionModel base = fit_biases(t.omega, t.values);
  DeepCompletionOptions options;
  options.rank = 3;
  options.iterations = 30;
  const int threads = num_threads();
  set_num_threads(1);
  const DeepCompletionFit one =
      fit_deep_completion<double>(base, t.omega, t.values, t.held, options, Rng(7));
  const DeepCompletionFit again =
      fit_deep_completion<double>(base, t.omega, t.values, t.held, options, Rng(7));
  CHECK(one.model.left.to_vector() == again.model.left.to_vector());
  set_num_threads(2);
  const DeepCompletionFit two =
      fit_deep_completion<double>(base, t.omega, t.values, t.held, options, Rng(7));
  set_num_threads(threads);
  CHECK(max_abs(sub(one.model.left, two.model.left)) <= 1e-9 * max_abs(one.model.left));
}

TEST_CASE("completion: training stops where validation was best", "[completion]") {
  // Noise only: every step fits it, none helps.
  Rng noise(9);
  const IndexSet omega = random_index_set(60, 50, 0.3, Rng(1));
  const Tensor<double> values = noise.normal<double>({omega.size()});
  Table t = low_rank_table(60, 50, 2, 0.3, 6);
  for (double& v : t.held.value) v = noise.normal();
  const CompletionModel base = fit_global_mean(omega, values);
  DeepCompletionOptions options;
  options.rank = 5;
  options.patience = 50;
  const DeepCompletionFit fit =
      fit_deep_completion<double>(base, omega, values, t.held, options, Rng(0));
  CHECK(fit.iterations <= fit.best_iteration + 50);
  CHECK(fit.iterations < 2000);
  double best = 1e300;
  for (const DeepCompletionCheck& c : fit.checks) best = std::min(best, c.validation_rmse);
  CHECK(completion_error(fit.model, t.held).rmse == Approx(best).epsilon(1e-12));
  CHECK(fit.checks.back().train_rmse < fit.checks.front().train_rmse);
}

TEST_CASE("completion: the stability number and its limit", "[completion]") {
  // Section 1.6: d = 100, r = 3, p = .5, eta .02: gamma .05 gives 1.97, .1 gives 2.35.
  const SpectrumEstimate s{19.0, 0.5};
  CHECK(stability_number(0.02, s, 3, 0.05) ==
        Approx(0.02 * 0.5 * (3 * std::pow(19.0, 4.0 / 3) + 2 * 0.05 * 361)));
  const Table t = low_rank_table(100, 100, 3, 0.5, 7);
  const SpectrumEstimate measured = estimate_spectrum(t.omega, t.values, Rng(0));
  const Tensor<double> target = low_rank_target(100, 100, 3, Rng(7).split("target"));
  CHECK(measured.sigma1 == Approx(singular_values(target).data()[0]).epsilon(0.15));
  CHECK(measured.density == Approx(0.5).epsilon(0.15));

  const CompletionModel base = fit_global_mean(t.omega, t.values);
  DeepCompletionOptions options;
  options.rank = 3;
  options.step = 40;  // far beyond the limit
  try {
    fit_deep_completion<double>(base, t.omega, t.values, t.held, options, Rng(0));
    FAIL("a step of 40 must diverge");
  } catch (const NumericalError& error) {
    CHECK(error.step() >= 1);
    CHECK_THAT(error.what(), contains("diverged") && contains("at iteration"));
  }
}

TEST_CASE("completion: rows without ratings, and nothing to factor", "[completion]") {
  const IndexSet omega(6, 5, {{0, 0}, {0, 1}, {1, 0}, {1, 2}, {2, 1}, {2, 2}, {3, 3}, {3, 0}});
  const Tensor<double> values({8}, {1, 2, 3, 4, 5, 4, 3, 2});
  const CompletionModel base = fit_biases(omega, values);
  CHECK(base.user_bias.data()[5] == 0);
  CHECK(base.item_bias.data()[4] == 0);
  DeepCompletionOptions options;
  options.rank = 2;
  options.iterations = 20;
  const DeepCompletionFit fit =
      fit_deep_completion<double>(base, omega, values, {}, options, Rng(0));
  CHECK(fit.model.unclamped(5, 4) == fit.model.mean);
  CHECK(fit.model.unclamped(5, 0) == fit.model.unclamped(-1, 0));
  CHECK(fit.best_iteration == 20);

  const Tensor<double> equal = Tensor<double>::full({8}, 3.0);
  const CompletionModel flat = fit_biases(omega, equal);
  const DeepCompletionFit none =
      fit_deep_completion<double>(flat, omega, equal, {}, options, Rng(0));
  CHECK(none.iterations == 0);
  CHECK(none.spectrum.sigma1 == 0);
  CHECK(none.model.unclamped(0, 0) == 3);
  CHECK(none.model.unclamped(5, 4) == 3);

  options.rank = 3;
  CHECK_THROWS_WITH((fit_deep_completion<double>(base, omega, values, {}, options, Rng(0))),
                    contains("expected a rank from 1 to 2") && contains("6 x 5"));
  options.rank = 2;
  options.gamma = -1;
  CHECK_THROWS_AS((fit_deep_completion<double>(base, omega, values, {}, options, Rng(0))),
                  ValueError);
}
