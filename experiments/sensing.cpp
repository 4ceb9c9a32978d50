// Deep matrix sensing: a low-rank target from random linear measurements y_i = <A_i, Φ>, by the
// full factorisation, by compressed ones with and without a discrepant learning rate, and by Kwon
// et al.'s variant (paper: surrogate for sensing). A dense operator costs the same in every
// variant, so the compressed ones save parameters here, not time.
#include <parsimony/experiment.hpp>

#include "trials.hpp"

namespace parsimony::lab {
namespace {

class Sensing : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"sensing",
            "deep matrix sensing: full, compressed, frozen outer factors, and Kwon's variant",
            "surrogate and discrepant learning rate, sensing (spec 1.6, 5; Kwon et al. 2.14)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 2}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {{"S1",
             "With gamma > 0 the compressed factorisation recovers the target as the full one "
             "does; with gamma = 0 it does not",
             "spec 1.6, 5 (sensing)",
             "relative Frobenius error: full and gamma > 0 below the tolerance within the limit of "
             "iterations; gamma = 0 above 0.05 at its end",
             "1e-5 after 2200 (full) and 5500 iterations (gamma = .01); gamma = 0 stuck at .43"},
            {"S2",
             "An iteration of the compressed factorisation costs about as much as one of the full "
             "one, for the dense operator dominates both: no gain in time",
             "spec 5 (sensing)", "seconds an iteration, full over compressed: between 0.5 and 2",
             "about 1; no wall-clock gain is claimed"}};
  }

  void declare(Config& c) const override {
    c.declare("d", index_t{30}, "side of the target");
    c.declare("r", index_t{2}, "rank of the target");
    c.declare("measurements", index_t{600}, "M, the measurements; A_i has entries N(0, 1/M)");
    c.declare("rhat", index_t{2}, "assumed rank; the cores are 2 rhat wide");
    c.declare("depth", index_t{3}, "factors L");
    c.declare("eps", 1e-2, "scale of the orthogonal initialisation");
    c.declare("eta_sum", 1e-2,
              "step size for the summed loss 0.5 ||A(f - phi)||^2; train_loss in the log is that "
              "loss divided by d*d, as in the matrix completion figures");
    c.declare("gamma", 0.01, "step size of the outer factors as a fraction of eta");
    c.declare("kwon_alpha", 1.0,
              "Kwon's variant: step of its first and last factor as a fraction of eta; 0 leaves "
              "the variant out");
    c.declare("check_every", index_t{100}, "iterations between checks of the error");
    c.declare("max_iterations", index_t{30000}, "limit of the full, gamma > 0 and Kwon runs");
    c.declare("frozen_iterations", index_t{4000}, "iterations of the gamma = 0 run");
    c.declare("tolerance", 1e-5,
              "stop when ||f - phi||_F / ||phi||_F, logged as relative_error, is below");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("d", index_t{16});
      c.preset("r", index_t{1});
      c.preset("rhat", index_t{1});
      c.preset("measurements", index_t{180});
      c.preset("eta_sum", 2e-2);
      c.preset("gamma", 0.05);
      c.preset("check_every", index_t{20});
      c.preset("frozen_iterations", index_t{1000});
    } else if (name == "paper") {
      c.preset("d", index_t{50});
      c.preset("r", index_t{3});
      c.preset("rhat", index_t{3});
      c.preset("measurements", index_t{1500});
      c.preset("eta_sum", 5e-3);
      c.preset("frozen_iterations", index_t{6000});
    }
  }

  void run(Run& run) const override;
};

struct Settings {
  explicit Settings(const Config& c)
      : d(c.integer("d", 2, 1000)),
        r(c.integer("r", 1, d)),
        measurements(c.integer("measurements", 1, index_t{1} << 30)),
        rhat(c.integer("rhat", 1, d / 2)),
        depth(static_cast<int>(c.integer("depth", 2, 20))),
        eps(positive(c, "eps", 1e3)),
        eta(positive(c, "eta_sum", 1e6)),
        gamma(positive(c, "gamma", 1e6)),
        kwon_alpha(c.real("kwon_alpha", 0, 1e6)),
        check_every(c.integer("check_every", 1, 1 << 30)),
        max_iterations(c.integer("max_iterations", 1, index_t{1} << 40)),
        frozen_iterations(c.integer("frozen_iterations", 1, index_t{1} << 40)),
        tolerance(positive(c, "tolerance", 1e300)) {
    // The operator is dense: 4 GiB of doubles is where it stops being a sensible experiment.
    constexpr index_t most = index_t{1} << 29;
    if (measurements > most / (d * d)) {
      throw ValueError("measurements: expected at most " + std::to_string(most / (d * d)) +
                       " for d = " + std::to_string(d) +
                       " (the dense operator would pass 4 GiB); "
                       "got " +
                       std::to_string(measurements));
    }
  }
  index_t d, r, measurements, rhat;
  int depth;
  double eps, eta, gamma, kwon_alpha;
  index_t check_every, max_iterations, frozen_iterations;
  double tolerance;
};

/// y = A vec(Φ), with A_i as the rows of a (M, d²) matrix.
struct SensingProblem {
  SensingProblem(const Settings& s, const Rng& rng)
      : phi(low_rank_target(s.d, s.d, s.r, rng.split("target"))),
        a(rng.split("operator")
              .normal<double>({s.measurements, s.d * s.d},
                              1 / std::sqrt(static_cast<double>(s.measurements)))),
        y(matmul(phi.reshape({1, s.d * s.d}), a, false, true)),
        norm(frobenius(phi)) {}
  /// 0.5 ||A(f) - y||²
  Var<double> loss(const Var<double>& product) const {
    return half_squared_error(
        matmul(reshape(product, {1, phi.size()}), Var<double>(a), false, true), y);
  }
  double relative_error(const Tensor<double>& product) const {
    return frobenius(sub(product, phi)) / norm;
  }
  /// A*(y) = Σ y_i A_i, near Φ: what Kwon's start is made of.
  Tensor<double> surrogate() const { return matmul(y, a).reshape(phi.shape()); }

  Tensor<double> phi, a, y;
  double norm;
};

/// Gradient descent until the relative error, checked every `check_every` iterations, passes the
/// tolerance.
template <class Net>
void train(Stage& stage, const Settings& s, const SensingProblem& problem, const Net& net,
           const std::vector<ParameterGroup<double>>& groups, index_t iterations) {
  GradientDescent<double> opt(groups, s.eta);
  stage.track(net.named_parameters());
  const auto entries = static_cast<double>(s.d * s.d);
  stage.loop(iterations, [&](index_t step) {
    const Var<double> product = net.product();
    const Var<double> loss = problem.loss(product);
    if (step % s.check_every == 0 || step == iterations) {
      const double mean = stage.finite("train_loss", loss.item() / entries);
      double error = 0;
      stage.off_clock([&] { error = problem.relative_error(product.value()); });
      stage.log(step, {{"train_loss", mean}, {"relative_error", error}});
      if (error < s.tolerance || step == iterations) return Stage::stop;
    }
    backward(loss);
    opt.step();
    return Stage::go_on;
  });
  for (const auto& [name, var] : net.named_parameters()) stage.keep(name, var.value());
}

double seconds_an_iteration(const Record& record) {
  return record.total_seconds() / std::max(1.0, static_cast<double>(record.last_step()));
}

std::string outcome(const Record& record) {
  return number(record.last("relative_error")) + " after " + std::to_string(record.last_step()) +
         " its";
}

void judge(Run& run, const Settings& s, const Record& full, const Record& compressed,
           const Record& frozen, const Record* kwon) {
  std::string measured = "full " + outcome(full) + "; gamma " + number(s.gamma) + ": " +
                         outcome(compressed) + "; gamma 0: " + outcome(frozen);
  if (kwon != nullptr) measured += "; Kwon: " + outcome(*kwon);
  run.claim("S1",
            full.last("relative_error") < s.tolerance &&
                compressed.last("relative_error") < s.tolerance &&
                frozen.last("relative_error") > 0.05,
            measured);
  const double ratio = seconds_an_iteration(full) / seconds_an_iteration(compressed);
  const std::string times = number(1e3 * seconds_an_iteration(full)) + " ms full, " +
                            number(1e3 * seconds_an_iteration(compressed)) +
                            " ms compressed: " + number(ratio) + "; in all " +
                            number(full.total_seconds()) + " s and " +
                            number(compressed.total_seconds()) + " s";
  if (s.d < 30) {
    run.claim_not_run("S2", "judged from d = 30 on, where the operator dominates; here " + times);
  } else {
    run.claim("S2", ratio >= 0.5 && ratio <= 2, times);
  }
}

void draw(Run& run, const Settings& s, const Record& full, const Record& compressed,
          const Record& frozen, const Record* kwon) {
  Figure f;
  f.name = "sensing";
  f.title = "Deep matrix sensing";
  f.caption = "Relative Frobenius error from " + std::to_string(s.measurements) +
              " Gaussian measurements of a " + std::to_string(s.d) + " × " + std::to_string(s.d) +
              " target of rank " + std::to_string(s.r) +
              ", against iterations and seconds. The dense operator dominates an iteration of "
              "every variant.";
  for (const bool seconds : {false, true}) {
    Panel& p = f.panel(seconds ? "against seconds" : "against iterations");
    p.log_y = true;
    p.x_label = seconds ? "seconds" : "iterations / 100";
    p.y_label = "relative error";
    p.legend = Panel::below;
    const auto x = [&](const Record& record) {
      std::vector<double> v =
          seconds ? record.seconds("relative_error") : record.steps("relative_error");
      for (double& t : v) t /= seconds ? 1 : 100;
      return v;
    };
    p.line("full", x(full), full.series("relative_error"));
    p.dashed("compressed, γ = " + number(s.gamma), x(compressed),
             compressed.series("relative_error"));
    p.line("compressed, γ = 0", x(frozen), frozen.series("relative_error")).style = Series::dot;
    if (kwon != nullptr) p.line("Kwon et al.", x(*kwon), kwon->series("relative_error"));
    p.horizontal(s.tolerance);
  }
  run.figure(f);
}

void Sensing::run(Run& run) const {
  const Settings s(run.config());
  const Rng rng = run.rng();
  const SensingProblem problem(s, rng);
  const auto initial = initial_factors(s.d, s.depth, s.eps, rng);
  const OuterFactors<double> outer = outer_factors(
      initial, first_gradient(initial, [&](auto& net) { return problem.loss(net.product()); }),
      s.rhat);

  const auto compressed_run = [&](const std::string& name, double gamma,
                                  index_t iterations) -> const Record& {
    return run.stage(name, [&](Stage& stage) {
      const CompressedLinear<double> net(outer.left, outer.right, s.depth, {s.eps}, gamma > 0);
      train(stage, s, problem, net, discrepant_groups(net, gamma), iterations);
    });
  };
  const Record& full = run.stage("full", [&](Stage& stage) {
    const DeepLinear<double> net(initial);
    train(stage, s, problem, net, one_group(net.named_parameters()), s.max_iterations);
  });
  const Record& compressed = compressed_run("compressed", s.gamma, s.max_iterations);
  const Record& frozen = compressed_run("compressed-gamma-0", 0.0, s.frozen_iterations);
  const Record* kwon = nullptr;
  if (s.kwon_alpha > 0) {
    kwon = &run.stage("kwon", [&](Stage& stage) {
      const DeepLinear<double> net(kwon_factors(problem.surrogate(), 2 * s.rhat, s.depth, s.eps));
      NamedParameters<double> inner = net.named_parameters();
      const NamedParameters<double> ends{inner.front(), inner.back()};
      inner.erase(inner.begin());
      inner.pop_back();
      std::vector<ParameterGroup<double>> groups{{ends, s.kwon_alpha, 0.0}};
      if (!inner.empty()) groups.push_back({inner, 1.0, 0.0});
      train(stage, s, problem, net, groups, s.max_iterations);
    });
  }

  run.array("phi", problem.phi);
  run.array("y", problem.y);
  run.array("left.t0", outer.left);
  run.array("right.t0", outer.right);
  for (const auto& [name, tensor] : compressed.tensors()) {
    run.array(name + ".t" + std::to_string(compressed.last_step()), tensor);
  }
  for (const auto& [name, tensor] : full.tensors()) {
    run.array(name + ".t" + std::to_string(full.last_step()), tensor);
  }
  run.array_note("eta_sum", number(s.eta));
  run.array_note("gamma", number(s.gamma));
  run.array_note("eps", number(s.eps));
  judge(run, s, full, compressed, frozen, kwon);
  draw(run, s, full, compressed, frozen, kwon);
}

}  // namespace
PARSIMONY_EXPERIMENT(65, Sensing)
}  // namespace parsimony::lab
