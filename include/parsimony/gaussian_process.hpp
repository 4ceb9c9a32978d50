// A Gaussian process for a few dozen points in a few dimensions, and Bayesian optimisation with it.
//
// The kernel is c · Matérn-5/2 with a length scale for every variable, and noise on the diagonal:
// k(x, x') = c (1 + √5 r + 5/3 r²) exp(-√5 r), r² = Σ (x_i - x'_i)² / ℓ_i² (Rasmussen & Williams
// 2006, chapters 2, 4 and 5). Inputs are expected in [0, 1], values standardised.
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/tensor.hpp>

#include <cstddef>
#include <functional>
#include <vector>

namespace parsimony {

struct GpParameters {
  double variance = 2;          // c
  std::vector<double> lengths;  // ℓ
  double noise = 1e-8;          // variance of the noise
};

class GaussianProcess {
 public:
  /// The posterior given `values` (n) at `points` (n, d). Points that are equal or nearly so make
  /// the kernel matrix singular: what its diagonal then needs to have a Cholesky factor is added,
  /// and told by jitter(). @throws ShapeError on sizes that do not fit; NumericalError on values
  /// that are not finite.
  GaussianProcess(const Tensor<double>& points, const Tensor<double>& values,
                  const GpParameters& parameters);

  /// The same with the parameters that maximise the marginal likelihood times the priors:
  /// LogNormal(0, 1) on c, Horseshoe(0.1) on the noise, none on ℓ; within c in (e^-10, e^2), ℓ in
  /// (0.00117, 1.0897), noise in (e^-25, e^2). By L-BFGS from `start` and `restarts` random points.
  static GaussianProcess fit(const Tensor<double>& points, const Tensor<double>& values,
                             const GpParameters& start, index_t restarts, Rng rng);

  struct Prediction {
    double mean = 0;
    double variance = 0;  // of the function, without the noise
  };
  /// At the rows of `at` (k, d).
  std::vector<Prediction> predict(const Tensor<double>& at) const;
  /// log p(values | points, parameters)
  double log_likelihood() const { return log_likelihood_; }
  /// log_likelihood and the logs of the priors (without constants), and the gradient of their sum
  /// by the logarithms of c, ℓ_1.., noise.
  struct Posterior {
    double value = 0;
    std::vector<double> gradient;
  };
  Posterior log_posterior() const;
  const GpParameters& parameters() const { return parameters_; }
  double jitter() const { return jitter_; }

 private:
  double kernel(const double* a, const double* b) const;

  Tensor<double> points_, values_;
  GpParameters parameters_;
  double jitter_ = 0;
  Tensor<double> factor_;   // L, K + (noise + jitter) I = L Lᵀ
  Tensor<double> weights_;  // K⁻¹ values
  double log_likelihood_ = 0;
};

/// Expected improvement below `best` of a normal variable (minimisation); 0 where nothing is
/// unknown.
double expected_improvement(double best, double mean, double variance);

/// The minimum of f over the box [low, high] by projected L-BFGS from `start`: f(x, gradient)
/// returns the value and fills the gradient. Stops where the projected gradient is below 1e-6,
/// after 100 iterations, or where no step descends. Values that are not finite are treated as too
/// high.
std::vector<double> minimize_in_box(
    const std::function<double(const std::vector<double>&, std::vector<double>&)>& f,
    std::vector<double> start, const std::vector<double>& low, const std::vector<double>& high);

/// A costly function of a few variables, to be minimised over the feasible part of a box.
struct BoxProblem {
  std::vector<double> low, high;
  std::function<double(const std::vector<double>&)> value;
  /// Undefined: the whole box.
  std::function<bool(const std::vector<double>&)> feasible = {};
  /// A random feasible point. Undefined: draws from the box until one is feasible.
  std::function<std::vector<double>(Rng&)> draw = {};
  /// Points to begin with.
  std::vector<std::vector<double>> start = {};
};

struct BayesOptions {
  index_t evaluations = 50;
  /// Points before the process is asked: those of `start`, then random ones far from the others.
  index_t initial = 3;
  /// How often a later point is a random one.
  double random_share = 0.1;
  /// Points that a step chooses among.
  index_t candidates = 5000;
  index_t restarts = 10;
};

struct Evaluation {
  std::vector<double> point;
  double value = 0;
};

struct BayesResult {
  std::vector<Evaluation> history;
  std::size_t best = 0;
  const Evaluation& result() const { return history[best]; }
};

/// Bayesian optimisation: each step fits the process to what was evaluated and takes the point of
/// largest expected improvement among a local search from the best points and random ones, never
/// one that was evaluated. A value that is not finite counts as the worst so far. `observe` is
/// called after every evaluation. @throws ValueError on options or a start outside their ranges, or
/// if no feasible point is found in 100 000 draws.
BayesResult bayes_minimize(const BoxProblem& problem, const BayesOptions& options, const Rng& rng,
                           const std::function<void(const Evaluation&)>& observe = {});

/// The same number of random feasible points (those of `start` first): what the search is to beat.
BayesResult random_minimize(const BoxProblem& problem, index_t evaluations, const Rng& rng);

}  // namespace parsimony
