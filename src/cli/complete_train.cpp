// The methods that `parsimony complete` compares, trained and judged one after the other: baselines
// on all training ratings; the deep model first without a validation part, which says when to stop,
// then on all of them for as long.
#include <parsimony/error.hpp>
#include <parsimony/run.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "cli/complete.hpp"
#include "run/progress.hpp"

namespace parsimony::cli {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Below this many training ratings a validation part says nothing.
constexpr index_t least_for_validation = 50;
constexpr index_t usual_rank = 10;

/// The power of two that the root mean square is nearest to: 1 for ratings from 1 to 5.
double unit_of(const Tensor<double>& residual) {
  const double rms = frobenius(residual) / std::sqrt(static_cast<double>(residual.size()));
  return rms > 0 ? std::exp2(std::round(std::log2(rms))) : 1.0;
}

class Trainer {
 public:
  Trainer(const CompleteSettings& s, const CompletionData& data)
      : s_(s), data_(data), rng_(Rng(s.seed)), progress_(s.quiet) {}

  CompletionOutcome train() {
    choose_rank();
    const RatingMatrix all = rating_matrix(data_.ratings, data_.train);
    Clock::time_point start = Clock::now();
    const CompletionModel mean = fit_global_mean(all.omega, all.values);
    judge("global mean", mean, start);
    start = Clock::now();
    const CompletionModel biases = fit_biases(all.omega, all.values);
    judge("user + item bias", biases, start);
    if (out_.rank > 0 && s_.baselines == "all") {
      progress_.say(fmt::format("baselines: truncated SVD, ALS, AltMin of rank {}", out_.rank));
      start = Clock::now();
      judge(fmt::format("truncated SVD, rank {}", out_.rank),
            fit_truncated_svd(biases, all.omega, all.values, out_.rank, rng_), start);
      AlternatingOptions als;
      als.rank = out_.rank;
      // The factors go with the root of the ratings' unit, so the decay with the unit.
      const double unit = unit_of(residuals(biases, all.omega, all.values));
      als.decay = 0.15 * unit;
      start = Clock::now();
      judge(fmt::format("ALS, rank {}, decay {:.4g}", als.rank, als.decay),
            fit_als(biases, all.omega, all.values, als, rng_), start);
      als.weighted = false;
      als.decay = 0.1 * unit;
      start = Clock::now();
      judge(fmt::format("AltMin, rank {}", als.rank),
            fit_als(mean, all.omega, all.values, als, rng_), start);
    }
    start = Clock::now();
    deep(all, biases);
    remove_interrupt_handler();
    judge(out_.rank > 0 ? fmt::format("deep completion, rank {}", out_.rank)
                        : "deep completion (biases only)",
          out_.fit.model, start);
    progress_.finish();
    return std::move(out_);
  }

 private:
  void choose_rank() {
    const index_t side = std::min(data_.ratings.users.size(), data_.ratings.items.size());
    const auto train = static_cast<index_t>(data_.train.size());
    out_.rank = s_.deep.rank;
    if (out_.rank == rank_unset) {
      out_.rank = std::min(usual_rank, side / 2);
      if (train < least_for_validation) out_.rank = 0;
      if (out_.rank == 0) {
        out_.rank_note = fmt::format("{} ratings of {} x {} are too few to factor: biases only",
                                     train, data_.ratings.users.size(), data_.ratings.items.size());
      } else if (out_.rank < usual_rank) {
        out_.rank_note = fmt::format("rank {}: half of the smaller side, {}", out_.rank, side);
      }
      return;
    }
    if (out_.rank < 1 || 2 * out_.rank > side) {
      throw ValueError(
          fmt::format("--rank: expected 1 to {}: the factors are 2 rank wide, and the table has {} "
                      "users and {} items; got {}",
                      side / 2, data_.ratings.users.size(), data_.ratings.items.size(), out_.rank));
    }
  }

  CompletionModel clamped(CompletionModel model) const {
    model.low = data_.low;
    model.high = data_.high;
    return model;
  }

  void judge(const std::string& name, const CompletionModel& model, Clock::time_point start) {
    MethodResult result;
    result.name = name;
    result.seconds = seconds_since(start);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    result.error = {nan, nan, nan, nan};
    if (data_.test.size() > 0) result.error = completion_error(clamped(model), data_.test);
    out_.methods.push_back(result);
  }

  DeepCompletionFit fit(const RatingMatrix& part, const RatedPairs& validation,
                        const DeepCompletionOptions& options, const std::string& label) {
    const CompletionModel base = clamped(fit_biases(part.omega, part.values));
    bool begun = false;
    const auto show = [&](const DeepCompletionCheck& c) {
      if (c.iteration == 0 || !begun) {
        progress_.begin(label, c.iteration, options.iterations);
        begun = true;
      }
      progress_.update(
          c.iteration, Clock::now(),
          fmt::format("train {:.4f}  validation {:.4f}", c.train_rmse, c.validation_rmse));
    };
    return s_.single ? fit_deep_completion<float>(base, part.omega, part.values, validation,
                                                  options, rng_, show)
                     : fit_deep_completion<double>(base, part.omega, part.values, validation,
                                                   options, rng_, show);
  }

  void deep(const RatingMatrix& all, const CompletionModel& biases) {
    if (out_.rank == 0) {
      out_.fit.model = clamped(biases);
      return;
    }
    DeepCompletionOptions options = s_.deep;
    options.rank = out_.rank;
    install_interrupt_handler();  // from here on there is something to lose
    options.stop = [this] { return out_.interrupted = interrupt_requested(); };
    const auto count = static_cast<index_t>(data_.train.size());
    const Split split = random_split(count, count < least_for_validation ? 0.0 : s_.validation,
                                     Rng(s_.seed).split("validation"));
    out_.fit_size = static_cast<index_t>(split.first.size());
    out_.validation_size = static_cast<index_t>(split.second.size());
    if (out_.validation_size == 0) {
      progress_.say(
          fmt::format("no validation part: all {} iterations are done, without early stopping",
                      options.iterations));
      out_.fit = fit(all, {}, options, "training");
      out_.checks = out_.fit.checks;
      out_.iterations = out_.fit.iterations;
      return;
    }
    const auto positions = [&](const std::vector<index_t>& places) {
      std::vector<index_t> out;
      out.reserve(places.size());
      for (const index_t i : places) out.push_back(data_.train[static_cast<std::size_t>(i)]);
      return out;
    };
    {
      const RatingMatrix part = rating_matrix(data_.ratings, positions(split.first));
      out_.fit = fit(part, pairs_at(data_.ratings, positions(split.second)), options, "training");
    }
    out_.checks = out_.fit.checks;
    out_.iterations = out_.fit.iterations;
    if (s_.no_refit || out_.interrupted) return;
    // Once more with the validation part, for as long as was best without it.
    DeepCompletionOptions again = options;
    again.iterations = out_.fit.best_iteration;
    again.check_every = std::max<index_t>(1, again.iterations);
    again.step = out_.fit.step;
    try {
      DeepCompletionFit whole = fit(all, {}, again, "refit on all");
      if (whole.stopped) return;
      whole.halvings = out_.fit.halvings;
      out_.fit = std::move(whole);
      out_.refitted = true;
    } catch (const NumericalError&) {
      if (options.step > 0) throw;
      progress_.say("the refit on all training ratings diverged; the factors without it are kept");
    }
  }

 private:
  const CompleteSettings& s_;
  const CompletionData& data_;
  Rng rng_;
  detail::Progress progress_;
  CompletionOutcome out_;
};

}  // namespace

RatedPairs pairs_at(const Ratings& r, const std::vector<index_t>& positions) {
  RatedPairs pairs;
  for (const index_t i : positions) {
    const auto at = static_cast<std::size_t>(i);
    pairs.user.push_back(r.user[at]);
    pairs.item.push_back(r.item[at]);
    pairs.value.push_back(r.value[at]);
  }
  return pairs;
}

CompletionOutcome train_completion(const CompleteSettings& s, const CompletionData& data) {
  return Trainer(s, data).train();
}

}  // namespace parsimony::cli
