// The discrepant learning rate of compressed matrix completion: which γ converge, how fast, and
// whether η p (L σ₁^(2(L-1)/L) + 2γσ₁²) < 2 tells in advance (paper: discrepant learning rate; the
// number is derived from it). Runs that blow up are part of the result here.
#include <parsimony/experiment.hpp>

#include "trials.hpp"

namespace parsimony::lab {
namespace {

constexpr double stable_below = 2.0;
constexpr double unstable_above = 2.3;

class CompletionGamma : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"completion-gamma",
            "which discrepant learning rates converge, and how fast; the stability number",
            "surrogate and discrepant learning rate (spec 1.6, 5)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 0.7}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {{"M5",
             "The stability number eta p (L sigma_1^(2(L-1)/L) + 2 gamma sigma_1^2) tells which "
             "gamma converge",
             "spec 1.6, checklist M5",
             "every run with a number below 2 reaches the tolerance, none with a number above 2.3 "
             "does; at least one of each; between them nothing is claimed",
             "gamma 1e-3 to .05 (number <= 1.97) converge, .07 (2.12) and .1 (2.35) fail"}};
  }

  void declare(Config& c) const override {
    ProblemSettings::declare(c, 100, 3, 0.5, 1, 60000);
    c.declare("rhat", index_t{3}, "assumed rank; the cores are 2 rhat wide");
    c.declare("depth", index_t{3}, "factors L");
    c.declare("eta_sum", 0.02, eta_help);
    c.declare("gammas",
              std::vector<double>{1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 5e-2, 7e-2, 0.1, 0.15, 0.3},
              "steps of the outer factors as fractions of eta, ascending, > 0");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("d", index_t{40});
      c.preset("r", index_t{2});
      c.preset("rhat", index_t{2});
      c.preset("p", 0.6);
      c.preset("eps", 1e-2);
      c.preset("eta_sum", 0.03);
      c.preset("gammas", std::vector<double>{0.01, 0.05, 1.0});
      c.preset("check_every", index_t{20});
      c.preset("max_iterations", index_t{20000});
    } else if (name == "paper") {
      c.preset("trials", index_t{5});
      c.preset("max_iterations", index_t{100000});
    }
  }

  void run(Run& run) const override;
};

struct Settings : ProblemSettings {
  explicit Settings(const Config& c)
      : ProblemSettings(c),
        rhat(c.integer("rhat", require_half(r, d), d / 2)),
        depth(static_cast<int>(c.integer("depth", 2, 20))),
        eta(positive(c, "eta_sum", 1e6)),
        gammas(c.reals("gammas")) {
    for (std::size_t i = 0; i < gammas.size(); ++i) {
      if (!(gammas[i] > 0 && gammas[i] <= 1e6)) {
        throw ValueError("gammas: expected numbers above 0 and up to 1e6; got " +
                         number(gammas[i]));
      }
      if (i > 0 && !(gammas[i] > gammas[i - 1])) {
        throw ValueError("gammas: expected ascending numbers; got " + number(gammas[i]) +
                         " after " + number(gammas[i - 1]));
      }
    }
  }
  index_t rhat;
  int depth;
  double eta;
  std::vector<double> gammas;
};

/// One γ in one trial.
struct Point {
  double gamma, stability;
  Outcome outcome;
  bool diverged() const { return !std::isfinite(outcome.loss); }
};

/// γ at which the stability number is `limit`.
double gamma_at(double limit, const Settings& s, double sigma1) {
  const double inner = stability_number(s.eta, s.p, sigma1, s.depth, 0.0);
  return (limit - inner) / (2 * s.eta * s.p * sigma1 * sigma1);
}

void judge(Run& run, const Settings& s, const std::vector<Point>& points) {
  int stable = 0;
  int stable_reached = 0;
  int unstable = 0;
  int unstable_reached = 0;
  std::string measured;
  for (const Point& p : points) {
    if (p.stability < stable_below) {
      ++stable;
      stable_reached += p.outcome.reached ? 1 : 0;
    } else if (p.stability > unstable_above) {
      ++unstable;
      unstable_reached += p.outcome.reached ? 1 : 0;
    }
    if (&p - points.data() < static_cast<std::ptrdiff_t>(s.gammas.size())) {
      const std::string end = p.outcome.reached ? number(p.outcome.iterations) + " its"
                              : p.diverged()    ? "diverges by " + number(p.outcome.iterations)
                                                : "stays at " + number(p.outcome.loss);
      measured += (measured.empty() ? "" : "; ") + number(p.gamma) + " (" + number(p.stability) +
                  "): " + end;
    }
  }
  if (s.trials > 1) {
    measured = std::to_string(stable_reached) + " of " + std::to_string(stable) +
               " runs below 2 reach the tolerance, " + std::to_string(unstable_reached) + " of " +
               std::to_string(unstable) + " above 2.3; first trial: " + measured;
  } else {
    measured = "gamma (number): " + measured;
  }
  if (stable == 0 || unstable == 0) {
    run.claim_not_run("M5", "needs a gamma below and one above the limit; " + measured);
  } else {
    run.claim("M5", stable_reached == stable && unstable_reached == 0, measured);
  }
}

void draw(Run& run, const Settings& s, const std::vector<Point>& points,
          const std::vector<const Record*>& records, double sigma1) {
  Figure f;
  f.name = "completion-gamma";
  f.title = "The discrepant learning rate and its limit";
  f.caption = "Compressed matrix completion, d = " + std::to_string(s.d) + ", rank " +
              std::to_string(s.r) + ", " + number(100 * s.p) + " % observed, η = " + number(s.eta) +
              ", " + std::to_string(s.trials) + (s.trials == 1 ? " trial" : " trials") +
              ". Left: iterations to a training loss of " + number(s.tolerance) +
              "; points at the top are runs that do not get there. Middle: the loss that each run "
              "ends with against its stability number; runs that blow up are drawn at the top. "
              "Right: training loss of the first trial.";
  std::vector<double> gx, gy, bx, nx, ny, dx;
  double most = 0;
  for (const Point& p : points) {
    if (p.outcome.reached) {
      gx.push_back(p.gamma);
      gy.push_back(p.outcome.iterations);
      most = std::max(most, p.outcome.iterations);
    } else {
      bx.push_back(p.gamma);
    }
    if (p.diverged()) {
      dx.push_back(p.stability);
    } else {
      nx.push_back(p.stability);
      ny.push_back(p.outcome.loss);
    }
  }
  const double limit = gamma_at(stable_below, s, sigma1);

  Panel& speed = f.panel("iterations to the tolerance");
  speed.log_x = speed.log_y = true;
  speed.x_label = "γ";
  speed.y_label = "iterations";
  speed.legend = Panel::below;
  speed.points("converges", gx, gy);
  speed.points("does not", bx, std::vector<double>(bx.size(), std::max(most, 1.0) * 2));
  if (limit > 0) speed.vertical(limit, "number = 2");

  Panel& end = f.panel("where it ends");
  end.log_y = true;
  end.x_label = "stability number";
  end.y_label = "final training loss";
  end.legend = Panel::below;
  end.points("finite", nx, ny);
  end.points("diverges", dx, std::vector<double>(dx.size(), 1e3));
  end.vertical(stable_below, "2");
  end.vertical(unstable_above, "2.3");

  Panel& loss = f.panel("training loss");
  loss.log_y = true;
  loss.x_label = "iterations / 1000";
  loss.y_label = "training loss";
  loss.legend = Panel::bottom_left;
  loss.y_range = {0.1 * std::max(s.tolerance, 1e-30), 1e2};
  // The slowest runs would squeeze the others into a corner.
  double longest = 0;
  for (const Point& p : points) {
    if (p.gamma >= 1e-3 && p.outcome.reached) longest = std::max(longest, p.outcome.iterations);
  }
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < s.gammas.size() && drawn < 8; ++i) {
    std::vector<double> x;
    std::vector<double> y;
    const std::vector<double> steps = records[i]->steps("train_loss");
    const std::vector<double> losses = records[i]->series("train_loss");
    for (std::size_t k = 0; k < steps.size() && (longest == 0 || steps[k] <= 1.5 * longest); ++k) {
      x.push_back(steps[k] / 1000);
      y.push_back(losses[k]);
    }
    if (s.gammas.size() > 8 && s.gammas[i] < 1e-3) continue;
    loss.line("γ = " + number(s.gammas[i]), x, y);
    ++drawn;
  }
  run.figure(f);
}

/// One target with its mask, and what the compressed runs on it start from.
struct Trial {
  Trial(const Settings& s, const Rng& rng, std::string at)
      : suffix(std::move(at)),
        problem(completion_problem(s.d, s.r, s.p, rng)),
        sigma1(singular_values(problem.phi).data()[0]) {
    const auto initial = initial_factors(s.d, s.depth, s.eps, rng);
    const auto gradient = first_gradient(initial, [&](auto& net) {
      return masked_half_squared_error(net.product(), problem.phi, problem.mask);
    });
    outer = outer_factors(initial, gradient, s.rhat);
  }
  std::string suffix;
  CompletionProblem problem;
  double sigma1;
  OuterFactors<double> outer;
};

void CompletionGamma::run(Run& run) const {
  const Settings s(run.config());
  std::vector<Trial> trials;
  for (index_t t = 0; t < s.trials; ++t) {
    trials.emplace_back(s, trial_rng(run, t), ".trial" + std::to_string(t));
    const Trial& trial = trials.back();
    run.array("phi" + trial.suffix, trial.problem.phi);
    run.array("mask" + trial.suffix, trial.problem.mask);
    run.array("left.t0" + trial.suffix, trial.outer.left);
    run.array("right.t0" + trial.suffix, trial.outer.right);
    run.array_note("sigma1" + trial.suffix, number(trial.sigma1));
  }
  std::vector<Run::Member> members;
  for (const Trial& trial : trials) {
    for (const double gamma : s.gammas) {
      members.push_back(
          {"gamma" + number(gamma) + trial.suffix, [&s, &trial, gamma](Stage& stage) {
             const CompletionProblem& problem = trial.problem;
             CompressedLinear<double> net(trial.outer.left, trial.outer.right, s.depth, {s.eps},
                                          true);
             GradientDescent<double> opt(discrepant_groups(net, gamma), s.eta);
             stage.track(net.named_parameters());
             descend_to(
                 stage, s, opt,
                 [&] { return net.completion_loss(problem.omega, problem.observed); },
                 [&] { return recovery_error(net.product().value(), problem.phi, problem.mask); },
                 true);
           }});
    }
  }
  const std::vector<const Record*> records = run.stages("discrepant learning rates", members);
  std::vector<Point> points;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Trial& trial = trials[i / s.gammas.size()];
    const double gamma = s.gammas[i % s.gammas.size()];
    points.push_back({gamma, stability_number(s.eta, s.p, trial.sigma1, s.depth, gamma),
                      Outcome(*records[i], s.tolerance)});
  }
  run.array_note("eta_sum", number(s.eta));
  run.array_note("eps", number(s.eps));
  judge(run, s, points);
  draw(run, s, points, records, trials.front().sigma1);
}

}  // namespace
PARSIMONY_EXPERIMENT(50, CompletionGamma)
}  // namespace parsimony::lab
