// Training of the compressed deep factorisation on sparse residuals: outer factors from their top
// singular vectors, a step from the paper's stability guide, heavy-ball gradient descent through
// the autodiff engine with the discrepant rate γ for the outer factors, and early stopping.
#include <parsimony/completion.hpp>

#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "kernels/parallel.hpp"

namespace parsimony {

namespace {

// A quarter of what the guide allows: ratings are not spread evenly, and the guide counts on it.
constexpr double automatic_stability = 0.5;
// Inner factors begin at this share of where they must arrive (1): the first direction escapes in
// about 1 / (η p eps) iterations, and the product still begins at 3 % (L = 3).
constexpr double automatic_eps = 0.3;
// The loss begins where the model predicts nothing; far above that the step is too large.
constexpr double divergence_factor = 1.5;
// Far above what trains; a slip of the finger would ask for all memory.
constexpr int most_depth = 1000;

void check_options(const DeepCompletionOptions& o, const IndexSet& omega) {
  const index_t side = std::min(omega.rows(), omega.cols());
  const auto bad = [](const std::string& what) { throw ValueError("deep completion: " + what); };
  if (o.rank < 1 || 2 * o.rank > side) {
    bad(
        fmt::format("expected a rank from 1 to {}, as the factors are 2 rank wide and the smaller "
                    "side of the {} x {} table is {}; got {}",
                    side / 2, omega.rows(), omega.cols(), side, o.rank));
  }
  if (o.depth < 2 || o.depth > most_depth) {
    bad(fmt::format("expected a depth from 2 to {}; got {}", most_depth, o.depth));
  }
  const auto positive_or_auto = [&](const char* name, double v) {
    if (!(v >= 0) || !std::isfinite(v))
      bad(fmt::format("expected {} > 0, or 0 = automatic; got {}", name, v));
  };
  positive_or_auto("a step", o.step);
  positive_or_auto("eps", o.eps);
  if (!(o.gamma >= 0) || !std::isfinite(o.gamma))
    bad(fmt::format("expected gamma >= 0; got {}", o.gamma));
  if (!(o.momentum >= 0 && o.momentum < 1))
    bad(fmt::format("expected a momentum in [0, 1); got {}", o.momentum));
  if (!(o.weight_decay >= 0) || !std::isfinite(o.weight_decay)) {
    bad(fmt::format("expected a weight decay >= 0; got {}", o.weight_decay));
  }
  if (o.iterations < 0) bad(fmt::format("expected iterations >= 0; got {}", o.iterations));
  if (o.check_every < 1) bad(fmt::format("expected check_every >= 1; got {}", o.check_every));
  if (o.patience < 1) bad(fmt::format("expected a patience >= 1; got {}", o.patience));
}

/// Zeroes the rows that have no entry in the offsets.
Tensor<double> without_empty_rows(Tensor<double> a, const std::vector<std::int32_t>& offsets) {
  double* p = a.mutable_data();
  const index_t k = a.dim(1);
  for (index_t r = 0; r < a.dim(0); ++r) {
    const auto row = static_cast<std::size_t>(r);
    if (offsets[row] == offsets[row + 1]) std::fill(p + r * k, p + (r + 1) * k, 0.0);
  }
  return a;
}

/// From the first of the top triplets.
template <class T>
SpectrumEstimate spectrum_of(const IndexSet& omega, const TopSingular<T>& top) {
  const Tensor<T> seen = sampled_product(omega, slice(top.u, 1, 0, 1), slice(top.v, 1, 0, 1));
  SpectrumEstimate estimate;
  estimate.density = dot(seen, seen);
  const auto s = static_cast<double>(top.s.data()[0]);
  estimate.sigma1 = s > 0 && estimate.density > 0 ? s / estimate.density : 0.0;
  return estimate;
}

}  // namespace

template <class T>
SpectrumEstimate estimate_spectrum(const IndexSet& omega, const Tensor<T>& values, const Rng& rng) {
  return spectrum_of(omega, top_singular(omega, values, 1, rng.split("spectrum")));
}

double stability_number(double step, const SpectrumEstimate& spectrum, int depth, double gamma) {
  const double s = spectrum.sigma1;
  const double inner = depth * std::pow(s, 2.0 * (depth - 1) / depth);
  return step * spectrum.density * (inner + 2.0 * gamma * s * s);
}

template <class T>
struct DeepCompletion<T>::Training {
  Training(const CompressedLinear<T>& net, const DeepCompletionOptions& o, double step)
      : optimizer({ParameterGroup<T>{net.inner_parameters(), 1.0, o.weight_decay},
                   ParameterGroup<T>{net.outer_parameters(), o.gamma, 0.0}},
                  step, o.momentum) {}
  GradientDescent<T> optimizer;
};

template <class T>
DeepCompletion<T>::~DeepCompletion() = default;

template <class T>
DeepCompletion<T>::DeepCompletion(const IndexSet& omega, const Tensor<double>& residual,
                                  const DeepCompletionOptions& options, const Rng& rng)
    : omega_(omega) {
  check_options(options, omega);
  // In units of a power of two, which rounds nothing: float holds ratings of any size so.
  const double largest = max_abs(residual);
  const double unit = largest > 0 ? std::ldexp(1.0, std::ilogb(largest)) : 1.0;
  const Tensor<T> values = cast<T>(parsimony::scale(residual, 1.0 / unit));
  const TopSingular<T> top = top_singular(omega, values, options.rank, rng.split("outer"));
  const OuterFactors<T> outer =
      outer_factors_from_singular_vectors(top.u, top.v, rng.split("frames"));
  if (largest > 0) spectrum_ = spectrum_of(omega, top);
  target_ = spectrum_.sigma1 > 0 ? parsimony::scale(values, 1.0 / spectrum_.sigma1) : values;
  spectrum_.sigma1 *= unit;
  sigma1_ = spectrum_.sigma1;
  const SpectrumEstimate scaled{1.0, spectrum_.density};
  eps_ = options.eps > 0 ? options.eps : automatic_eps;
  step_ = options.step;
  if (step_ == 0) {
    const double at_one = stability_number(1.0, scaled, options.depth, options.gamma);
    step_ = at_one > 0 ? automatic_stability / at_one : 1.0;
  }
  stability_ = stability_number(step_, scaled, options.depth, options.gamma);
  net_ = std::make_unique<CompressedLinear<T>>(outer.left, outer.right, options.depth,
                                               std::vector<double>{eps_}, options.gamma > 0);
  training_ = std::make_unique<Training>(*net_, options, step_);
  first_rms_ = frobenius(residual) / std::sqrt(static_cast<double>(residual.size()));
}

template <class T>
double DeepCompletion<T>::iterate() {
  const Var<T> loss = net_->completion_loss(omega_, target_);
  const double rms = sigma1_ * std::sqrt(2.0 * static_cast<double>(loss.item()) /
                                         static_cast<double>(omega_.size()));
  if (!std::isfinite(rms) || rms > divergence_factor * first_rms_ + 1e-12) {
    if (iteration_ == 0) {  // nothing was trained: the start is at fault
      throw ValueError(
          fmt::format("deep completion: eps {:.6g} is too large for a depth of {}: the root mean "
                      "squared residual begins at {:.6g}, {:.6g} without a model; choose a smaller "
                      "eps, or 0 for the automatic one",
                      eps_, net_->depth(), rms, first_rms_));
    }
    throw NumericalError(
        fmt::format("deep completion: training diverged: root mean squared residual {:.6g} at "
                    "iteration {}, {:.6g} without a model; a smaller step or γ may help",
                    rms, iteration_, first_rms_),
        iteration_);
  }
  backward(loss);
  training_->optimizer.step();
  ++iteration_;
  return rms;
}

template <class T>
Tensor<double> DeepCompletion<T>::left() const {
  const NoGrad no_grad;
  const Var<T> product = matmul(net_->left(), net_->core());
  return without_empty_rows(parsimony::scale(cast<double>(product.value()), sigma1_),
                            omega_.row_offsets());
}

template <class T>
Tensor<double> DeepCompletion<T>::right() const {
  return without_empty_rows(cast<double>(net_->right().value()), omega_.col_offsets());
}

namespace {

/// Keeps the factors of the best check.
template <class T>
void keep(DeepCompletionFit& fit, const CompletionModel& candidate, const IndexSet& omega,
          const DeepCompletion<T>& training) {
  fit.model = candidate;
  fit.left = without_empty_rows(cast<double>(training.net().left().value()), omega.row_offsets());
  fit.right = candidate.right;
  fit.cores.clear();
  for (int l = 1; l <= training.net().depth(); ++l) {
    const double factor = l == training.net().depth() ? training.scale() : 1.0;
    fit.cores.push_back(
        parsimony::scale(cast<double>(training.net().core_factor(l).value()), factor));
  }
  fit.best_iteration = training.iteration();
}

template <class T>
DeepCompletionFit train(const CompletionModel& base, const IndexSet& omega,
                        const Tensor<double>& residual, const RatedPairs& validation,
                        const DeepCompletionOptions& options, const Rng& rng,
                        const std::function<void(const DeepCompletionCheck&)>& progress) {
  using Clock = std::chrono::steady_clock;
  DeepCompletion<T> training(omega, residual, options, rng);
  DeepCompletionFit fit;
  fit.step = training.step();
  fit.eps = training.eps();
  fit.stability = training.stability();
  fit.spectrum = training.spectrum();
  CompletionModel candidate = base;
  double best = std::numeric_limits<double>::infinity();
  double seconds = 0;
  const auto train_rmse = [&] {
    const double squares = kernels::blocked_sum(
        omega.size(), [&, product = sampled_product(omega, candidate.left, candidate.right)](
                          index_t first, index_t stop) {
          double sum = 0;
          for (index_t e = first; e < stop; ++e) {
            const double r = residual.data()[e] - product.data()[e];
            sum += r * r;
          }
          return sum;
        });
    return std::sqrt(squares / static_cast<double>(omega.size()));
  };
  for (;;) {
    const index_t t = training.iteration();
    const bool done = t == options.iterations || training.trivial();
    fit.stopped = !done && options.stop && options.stop();
    const bool last = done || fit.stopped;
    if (t % options.check_every == 0 || last) {
      candidate.left = training.left();
      candidate.right = training.right();
      DeepCompletionCheck check;
      check.iteration = t;
      check.seconds = seconds;
      check.train_rmse = train_rmse();
      check.validation_rmse = validation.size() > 0 ? completion_error(candidate, validation).rmse
                                                    : std::numeric_limits<double>::quiet_NaN();
      fit.checks.push_back(check);
      if (progress) progress(check);
      const bool better = validation.size() == 0 || check.validation_rmse < best;
      if (better) {
        best = check.validation_rmse;
        keep(fit, candidate, omega, training);
      }
      if (last || t - fit.best_iteration >= options.patience) break;
    }
    const Clock::time_point begin = Clock::now();
    training.iterate();
    seconds += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  fit.iterations = training.iteration();
  fit.seconds_per_iteration =
      fit.iterations > 0 ? seconds / static_cast<double>(fit.iterations) : 0;
  return fit;
}

}  // namespace

template <class T>
DeepCompletionFit fit_deep_completion(
    const CompletionModel& base, const IndexSet& omega, const Tensor<double>& values,
    const RatedPairs& validation, const DeepCompletionOptions& options, const Rng& rng,
    const std::function<void(const DeepCompletionCheck&)>& progress) {
  constexpr int most_halvings = 6;
  const Tensor<double> residual = residuals(base, omega, values);
  DeepCompletionOptions tried = options;
  for (int halvings = 0;; ++halvings) {
    try {
      DeepCompletionFit fit = train<T>(base, omega, residual, validation, tried, rng, progress);
      fit.halvings = halvings;
      return fit;
    } catch (const NumericalError&) {
      if (options.step > 0 || halvings == most_halvings) throw;
      const SpectrumEstimate unit{1.0, estimate_spectrum(omega, residual, rng).density};
      tried.step = automatic_stability * std::pow(0.5, halvings + 1) /
                   stability_number(1.0, unit, options.depth, options.gamma);
    }
  }
}

#define PARSIMONY_INSTANTIATE(T)                                                              \
  template SpectrumEstimate estimate_spectrum(const IndexSet&, const Tensor<T>&, const Rng&); \
  template class DeepCompletion<T>;                                                           \
  template DeepCompletionFit fit_deep_completion<T>(                                          \
      const CompletionModel&, const IndexSet&, const Tensor<double>&, const RatedPairs&,      \
      const DeepCompletionOptions&, const Rng&,                                               \
      const std::function<void(const DeepCompletionCheck&)>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
