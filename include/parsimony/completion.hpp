// Completing a table of ratings: the compressed deep factorisation trained on the observed entries,
// and the methods a practitioner would compare it with. Nothing dense of size users x items exists
// anywhere; an iteration of the deep model costs O(|Ω| r̂).
//
// Every method's prediction has one form,
//     mean + user_bias[u] + item_bias[i] + <left[u], right[i]>,
// with zeros for what a method does not have, for users and items without a training rating, and
// for those it has never heard of (number -1).
#pragma once

#include <parsimony/deep_linear.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace parsimony {

/// Ratings to predict: users and items by number, -1 = unknown.
struct RatedPairs {
  std::vector<std::int32_t> user, item;
  std::vector<double> value;
  index_t size() const { return static_cast<index_t>(user.size()); }
};

struct CompletionModel {
  double mean = 0;
  Tensor<double> user_bias, item_bias;  // (users), (items)
  Tensor<double> left, right;           // (users, k), (items, k), or undefined
  /// Predictions are clamped to [low, high].
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();

  index_t users() const { return user_bias.size(); }
  index_t items() const { return item_bias.size(); }
  /// The formula above. @throws ValueError on numbers beyond the table.
  double unclamped(index_t user, index_t item) const;
  double predict(index_t user, index_t item) const;
};

/// Errors over a set of ratings, of the clamped predictions and of those before clamping.
struct CompletionError {
  double rmse = 0, mae = 0;
  double rmse_unclamped = 0, mae_unclamped = 0;
};
/// @throws ValueError on no ratings.
CompletionError completion_error(const CompletionModel& model, const RatedPairs& pairs);

// --- What to compare with ----------------------------------------------------------------------

/// Only the mean of the values.
CompletionModel fit_global_mean(const IndexSet& omega, const Tensor<double>& values);

/// mean + b_u + b_i, minimising Σ (r - mean - b_u - b_i)² + decay (Σ b_u² + Σ b_i²) by alternating
/// exact solutions until nothing moves by more than a millionth of the largest value.
CompletionModel fit_biases(const IndexSet& omega, const Tensor<double>& values, double decay = 5.0);

/// Values less the model's (unclamped) predictions on Ω.
Tensor<double> residuals(const CompletionModel& model, const IndexSet& omega,
                         const Tensor<double>& values);

/// Adds the truncated SVD of the base's residual, unobserved entries counting as 0.
/// @throws ValueError unless 1 <= rank <= the smaller side.
CompletionModel fit_truncated_svd(const CompletionModel& base, const IndexSet& omega,
                                  const Tensor<double>& values, index_t rank, const Rng& rng);

/// Alternating least squares on the base's residual.
struct AlternatingOptions {
  index_t rank = 10;
  index_t iterations = 15;
  double decay = 0.1;
  /// A row's decay is multiplied by its number of ratings (Zhou et al. 2008).
  bool weighted = true;
};
class AlternatingLeastSquares {
 public:
  /// Right factors begin as small random numbers. @throws ValueError on rank < 1 or a decay that
  /// is not positive.
  AlternatingLeastSquares(const CompletionModel& base, const IndexSet& omega,
                          const Tensor<double>& values, const AlternatingOptions& options, Rng rng);
  /// Solves for all left factors, then for all right ones: O(|Ω| k² + (users + items) k³).
  void iterate();
  /// Shares no buffers with later iterates.
  CompletionModel model() const;
  /// The factors, for checkpoints.
  const Tensor<double>& left() const { return left_; }
  const Tensor<double>& right() const { return right_; }

 private:
  CompletionModel base_;
  IndexSet omega_;
  Tensor<double> residual_;
  AlternatingOptions options_;
  Tensor<double> left_, right_;
};
CompletionModel fit_als(const CompletionModel& base, const IndexSet& omega,
                        const Tensor<double>& values, const AlternatingOptions& options, Rng rng);

// --- The compressed deep factorisation ---------------------------------------------------------

/// Size of the largest singular direction of a matrix seen on Ω: with the top triplet (s, u, v) of
/// the zero-filled matrix, density = Σ_Ω (u_i v_j)², the share of u vᵀ that Ω sees, and
/// sigma1 = s / density, the best multiple of u vᵀ on Ω. For uniform sampling these are p and
/// σ₁(Φ) of the paper's stability guide; for real ratings they follow the dense corner that
/// training feels.
struct SpectrumEstimate {
  double sigma1 = 0;
  double density = 0;
};
template <class T>
SpectrumEstimate estimate_spectrum(const IndexSet& omega, const Tensor<T>& values, const Rng& rng);

/// η p (L σ₁^{2(L-1)/L} + 2 γ σ₁²), which must stay below 2 (paper, section on completion).
double stability_number(double step, const SpectrumEstimate& spectrum, int depth, double gamma);

/// Steps and sizes refer to the residual divided by its sigma1, so that they mean the same on any
/// scale of ratings: a target Φ with step η and γ trains as Φ/σ₁ does with η σ₁^{2(L-1)/L} and
/// γ σ₁^{2/L}.
struct DeepCompletionOptions {
  index_t rank = 10;          // r̂; the factors are 2r̂ wide
  int depth = 3;              // L
  double gamma = 0.1;         // outer factors learn with γη; 0 freezes them
  double eps = 0;             // inner factors begin as eps I; 0 = automatic
  double step = 0;            // η; 0 = automatic, then halved whenever training diverges
  double momentum = 0.9;      // heavy ball; 0 = plain gradient descent
  double weight_decay = 0;    // of the inner factors
  index_t iterations = 2000;  // at most
  index_t check_every = 5;    // iterations between looks at the validation error
  index_t patience = 200;     // iterations without a better one before training ends
  /// Asked before every iteration: true ends the training with a last check.
  std::function<bool()> stop = nullptr;
};

/// One training of U W̃_L ··· W̃_1 Vᵀ on sparse residuals through the autodiff engine. float halves
/// memory and time.
template <class T>
class DeepCompletion {
 public:
  /// Outer factors from the top r̂ singular vectors of the residual.
  /// @throws ValueError on options out of range, or unless 2 r̂ <= both sides.
  DeepCompletion(const IndexSet& omega, const Tensor<double>& residual,
                 const DeepCompletionOptions& options, const Rng& rng);
  ~DeepCompletion();

  /// One iteration; returns the root mean squared residual on Ω before its update.
  /// @throws NumericalError with the iteration if it is not finite or far above that of no model;
  /// ValueError if it is so before the first update, which is for eps to mend.
  double iterate();
  index_t iteration() const { return iteration_; }
  /// The residual vanishes: nothing to train.
  bool trivial() const { return sigma1_ == 0; }

  double step() const { return step_; }
  double eps() const { return eps_; }
  double stability() const { return stability_; }
  const SpectrumEstimate& spectrum() const { return spectrum_; }

  /// U W̃_L ··· W̃_1 σ₁ and V, rows without a rating zeroed.
  Tensor<double> left() const;
  Tensor<double> right() const;
  /// left, right and core1 ... coreL; their product times sigma1 is the completed residual.
  const CompressedLinear<T>& net() const { return *net_; }
  double scale() const { return sigma1_; }

 private:
  struct Training;
  IndexSet omega_;
  Tensor<T> target_;  // residual / sigma1
  std::unique_ptr<CompressedLinear<T>> net_;
  std::unique_ptr<Training> training_;
  SpectrumEstimate spectrum_;
  double sigma1_ = 0, step_ = 0, eps_ = 0, stability_ = 0;
  double first_rms_ = 0;
  index_t iteration_ = 0;
};

/// A look at the training: root mean squared errors of training and validation.
struct DeepCompletionCheck {
  index_t iteration = 0;
  double seconds = 0;
  double train_rmse = 0, validation_rmse = 0;
};

struct DeepCompletionFit {
  CompletionModel model;
  /// The factors at the best check: model.left = left core_L ··· core_1, model.right = right. Rows
  /// without a rating are zero; core_L carries the scale of the ratings.
  Tensor<double> left, right;
  std::vector<Tensor<double>> cores;  // core1 first
  std::vector<DeepCompletionCheck> checks;
  index_t iterations = 0;      // run
  index_t best_iteration = 0;  // whose factors these are
  double seconds_per_iteration = 0;
  double step = 0, eps = 0, stability = 0;
  SpectrumEstimate spectrum;
  int halvings = 0;      // of the automatic step
  bool stopped = false;  // by DeepCompletionOptions::stop
};

/// Trains on the base's residual and keeps the factors with the smallest validation error (those of
/// the last iteration if there are no validation ratings). `progress` is called at every check.
/// @throws NumericalError if a given step diverges; ValueError as DeepCompletion.
template <class T>
DeepCompletionFit fit_deep_completion(
    const CompletionModel& base, const IndexSet& omega, const Tensor<double>& values,
    const RatedPairs& validation, const DeepCompletionOptions& options, const Rng& rng,
    const std::function<void(const DeepCompletionCheck&)>& progress = nullptr);

}  // namespace parsimony
