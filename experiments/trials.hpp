// What the experiments share that compare many runs of matrix completion: lists of settings, the
// training loop that stops at a tolerance, and what a run came to, averaged over trials.
//
// The loss in training is 0.5 Σ_Ω (f - Φ)², the theory's, with step eta_sum. What is logged as
// train_loss is the figures' 0.5 · mean over all d² entries of (mask .* (f - Φ))², the same number
// divided by d²; the tolerance applies to it. The papers' code steps by eta = d² · eta_sum on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support.hpp"

namespace parsimony::lab {

inline constexpr const char* eta_help =
    "step size for the summed loss 0.5 ||mask .* (f - phi)||_F^2; the figures' loss is its mean "
    "over d*d entries, whose step is d*d times this";
inline constexpr const char* tolerance_help =
    "stop when train_loss = 0.5 * mean over all d*d entries of (mask .* (f - phi))^2 is below";

/// config.integers(key): ascending numbers of [low, high]. @throws ValueError naming the culprit.
inline std::vector<index_t> ascending_integers(const Config& config, const std::string& key,
                                               index_t low, index_t high, const std::string& why) {
  const std::vector<index_t>& values = config.integers(key);
  if (values.empty()) throw ValueError(key + ": expected at least one number; got none");
  const std::string expected = key + ": expected " + std::to_string(low) + ".." +
                               std::to_string(high) + " (" + why + "); got ";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < low || values[i] > high) {
      throw ValueError(expected + std::to_string(values[i]));
    }
    if (i > 0 && values[i] <= values[i - 1]) {
      throw ValueError(key + ": expected ascending numbers; got " + std::to_string(values[i]) +
                       " after " + std::to_string(values[i - 1]));
    }
  }
  return values;
}

/// real(key) in (0, high].
inline double positive(const Config& config, const std::string& key, double high) {
  const double value = config.real(key);
  if (!(value > 0 && value <= high)) {
    throw ValueError(key + ": expected a number above 0 and up to " + number(high) + "; got " +
                     number(value));
  }
  return value;
}

/// The rank of a target that can be compressed: the cores are 2 rhat >= 2 r wide and must fit in d.
inline index_t require_half(index_t r, index_t d) {
  if (2 * r > d) {
    throw ValueError("r: expected at most d / 2 = " + std::to_string(d / 2) +
                     " (compression takes 2 r columns); got " + std::to_string(r));
  }
  return r;
}

/// The problem that these experiments vary.
struct ProblemSettings {
  explicit ProblemSettings(const Config& c)
      : d(c.integer("d", 2, 20000)),
        r(c.integer("r", 1, d)),
        p(positive(c, "p", 1)),
        eps(positive(c, "eps", 1e3)),
        trials(c.integer("trials", 1, 1000)),
        check_every(c.integer("check_every", 1, 1 << 30)),
        max_iterations(c.integer("max_iterations", 1, index_t{1} << 40)),
        tolerance(c.real("tolerance", 0, 1e300)) {}
  static void declare(Config& c, index_t d, index_t r, double p, index_t trials,
                      index_t max_iterations) {
    c.declare("d", d, "side of the target");
    c.declare("r", r, "rank of the target");
    c.declare("p", p, "fraction of entries observed, drawn without replacement");
    c.declare("eps", 1e-3, "scale of the orthogonal initialisation");
    c.declare("trials", trials, "targets, masks and starts to average over");
    c.declare("check_every", index_t{100}, "iterations between checks of the loss");
    c.declare("max_iterations", max_iterations, "limit of each run");
    c.declare("tolerance", 1e-10, tolerance_help);
  }
  index_t d, r;
  double p, eps;
  index_t trials, check_every, max_iterations;
  double tolerance;
};

/// Stream of a trial. Trial 0 is the run's own, so that it equals other experiments' single run.
inline Rng trial_rng(const Run& run, index_t trial) {
  return trial == 0 ? run.rng() : run.rng().split("trial").split(static_cast<std::uint64_t>(trial));
}

/// A run whose loss is not finite, or this many times where it started, has diverged.
inline constexpr double diverged_factor = 1e6;

/// Gradient descent until the loss, checked every `check_every` iterations, passes the tolerance.
/// `loss()` is the summed loss as a Var, `recovery()` the recovery error, off the clock. Divergence
/// is thrown with its step, or with `may_diverge` recorded: the loss is then logged as infinite.
template <class Loss, class Recovery>
void descend_to(Stage& stage, const ProblemSettings& s, GradientDescent<double>& opt,
                const Loss& loss_of, const Recovery& recovery_of, bool may_diverge = false) {
  const double entries = static_cast<double>(s.d) * static_cast<double>(s.d);
  double start = std::numeric_limits<double>::infinity();
  stage.track("initial_loss", start);
  stage.loop(s.max_iterations, [&](index_t step) {
    const Var<double> loss = loss_of();
    if (step % s.check_every == 0 || step == s.max_iterations) {
      double mean = loss.item() / entries;
      if (step == 0) start = mean;
      if (may_diverge && !(mean <= diverged_factor * start)) {
        mean = std::numeric_limits<double>::infinity();
      } else {
        stage.finite("train_loss", mean);
      }
      double recovery = mean;
      if (std::isfinite(mean)) {
        stage.off_clock([&] {
          const NoGrad no_grad;
          recovery = recovery_of();
        });
      }
      stage.log(step, {{"train_loss", mean}, {"recovery_error", recovery}});
      if (!(mean >= s.tolerance) || !std::isfinite(mean) || step == s.max_iterations) {
        return Stage::stop;
      }
    }
    backward(loss);
    opt.step();
    return Stage::go_on;
  });
}

/// What a run came to. Seconds are those of its loop, without evaluation.
struct Outcome {
  Outcome(const Record& record, double tolerance)
      : iterations(static_cast<double>(record.last_step())),
        seconds(record.total_seconds()),
        loss(record.last("train_loss")),
        recovery(record.last("recovery_error")),
        reached(loss < tolerance) {}
  double iterations, seconds, loss, recovery;
  bool reached;
};

inline double mean_of(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v;
  return total / static_cast<double>(values.size());
}

inline double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return 0.5 * (values[(n - 1) / 2] + values[n / 2]);
}

/// `reduce` of the column x of runs[trial][x], for every x.
template <class Reduce>
std::vector<double> over_trials(const std::vector<std::vector<double>>& runs,
                                const Reduce& reduce) {
  std::vector<double> out;
  for (std::size_t x = 0; x < runs.front().size(); ++x) {
    std::vector<double> column;
    column.reserve(runs.size());
    for (const auto& run : runs) column.push_back(run[x]);
    out.push_back(reduce(column));
  }
  return out;
}
inline std::vector<double> mean_over_trials(const std::vector<std::vector<double>>& runs) {
  return over_trials(runs, mean_of);
}
inline std::vector<double> median_over_trials(const std::vector<std::vector<double>>& runs) {
  return over_trials(runs, median_of);
}

inline std::vector<double> as_reals(const std::vector<index_t>& values) {
  return std::vector<double>(values.begin(), values.end());
}

/// "10: 4.1e+04, 20: 2.3e+04"
inline std::string listed(const std::vector<index_t>& keys, const std::vector<double>& values) {
  std::string text;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(keys[i]) + ": " + number(values[i]);
  }
  return text;
}

}  // namespace parsimony::lab
