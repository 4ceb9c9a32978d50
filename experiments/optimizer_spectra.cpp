// How the singular values of the factors evolve under gradient descent, heavy-ball momentum, Adam
// and RMSProp (Yaras et al. 2023, "The law of parsimony in gradient descent for learning deep
// linear networks"; spec 2.14): under the first two the middle d - 2r values of every factor stay
// together and their subspace does not turn, under the others they spread and turn.
#include <parsimony/experiment.hpp>

#include <limits>

#include "spectra.hpp"

namespace parsimony::lab {
namespace {

struct Kind {
  const char* stage;
  const char* label;
};
const Kind kinds[] = {{"gradient-descent", "gradient descent"},
                      {"momentum", "momentum"},
                      {"adam", "Adam"},
                      {"rmsprop", "RMSProp"}};

struct Settings {
  explicit Settings(const Config& c)
      : d(c.integer("d", 3, 4000)),
        r(c.integer("r")),
        depth(static_cast<int>(c.integer("depth", 2, 20))),
        eps(c.real("eps", 1e-12, 1e3)),
        eta(c.real("eta_sum", 0, 1e6)),
        momentum(c.real("momentum", 0, 0.9999)),
        momentum_eta(c.real("momentum_eta_sum", 0, 1e6)),
        adaptive_rate(c.real("adaptive_rate", 0, 1e6)),
        iterations(c.integer("iterations", 1, 1000000)) {
    if (r < 1 || 2 * r >= d) {
      throw ValueError("r: expected r >= 1 and 2 r < d, so that a middle block is left; got r = " +
                       std::to_string(r) + ", d = " + std::to_string(d));
    }
  }
  index_t d, r;
  int depth;
  double eps, eta, momentum, momentum_eta, adaptive_rate;
  index_t iterations;
};

class OptimizerSpectra : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"optimizer-spectra",
            "spectra of deep linear factors under four optimisers",
            "optimiser spectra of the predecessor paper, arXiv 2306.01154 (spec 1.2, 2.14)",
            {{"smoke", 0.02}, {"quick", 0.05}, {"paper", 0.1}}};
  }

  std::vector<ClaimStatement> claims() const override {
    const std::string criterion =
        "over all layers and iterates: largest distance of a middle singular value from rho_l(t); "
        "largest block deviation";
    return {{"OS1", "Gradient descent keeps the middle singular values together at rho_l(t)",
             "arXiv 2306.01154; spec 1.2", criterion, "<= 1e-9; <= 1e-12"},
            {"OS2", "So does heavy-ball momentum, with its own recursion",
             "arXiv 2306.01154; spec 1.2", criterion, "<= 1e-9; <= 1e-12 (seen: 8e-16)"},
            {"OS3", "Adam breaks the block form and spreads the middle singular values",
             "arXiv 2306.01154; spec 1.2",
             "block deviation from the best fitting rho, and spread (largest - smallest) of the "
             "middle singular values, after the last step",
             "both > 0.01 (deviation seen: 0.24)"},
            {"OS4", "So does RMSProp", "arXiv 2306.01154; spec 1.2", "as OS3", "both > 0.01"}};
  }

  void declare(Config& c) const override {
    c.declare("d", index_t{30}, "side of the target and of the factors");
    c.declare("r", index_t{3}, "rank of the target");
    c.declare("depth", index_t{3}, "factors L");
    c.declare("eps", 1.0, "scale of the initialisation");
    c.declare("eta_sum", 1.0 / 900, "step of gradient descent for 0.5 ||f - phi||_F^2");
    c.declare("momentum", 0.9, "heavy-ball momentum");
    c.declare("momentum_eta_sum", 1.0 / 900, "its step");
    c.declare("adaptive_rate", 1e-2, "learning rate of Adam and RMSProp");
    c.declare("iterations", index_t{50}, "of each optimiser");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") c.preset("iterations", index_t{20});
  }

  void run(Run& run) const override;
};

std::unique_ptr<Optimizer<double>> make_optimizer(std::size_t kind, const Settings& s,
                                                  const NamedParameters<double>& parameters) {
  auto groups = one_group(parameters);
  switch (kind) {
    case 0:
      return std::make_unique<GradientDescent<double>>(groups, s.eta);
    case 1:
      return std::make_unique<GradientDescent<double>>(groups, s.momentum_eta, s.momentum);
    case 2:
      return std::make_unique<Adam<double>>(groups, s.adaptive_rate);
    default:
      return std::make_unique<RmsProp<double>>(groups, s.adaptive_rate);
  }
}

/// Trains with one optimiser. Columns: train_loss, deviation (blocks), middle (singular values from
/// ρ; NaN where no recursion applies), spread (of the middle singular values).
const Record& run_kind(Run& run, const Settings& s, std::size_t kind, const Tensor<double>& phi,
                       const std::vector<Tensor<double>>& initial,
                       const InvariantSubspace<double>& bases) {
  return run.stage(kinds[kind].stage, [&](Stage& stage) {
    const DeepLinear<double> net(initial);
    const auto opt = make_optimizer(kind, s, net.named_parameters());
    const bool invariant = kind < 2;
    const Tensor<double> rho = rho_recursion(std::vector<double>(initial.size(), s.eps),
                                             kind == 0 ? s.eta : s.momentum_eta, 0,
                                             kind == 0 ? 0 : s.momentum, s.iterations);
    SvdEvolution svds(s.depth, s.d, s.r, s.iterations);
    stage.track(net.named_parameters());
    for (const auto& [name, tensor] : opt->state()) stage.track(name, tensor);
    stage.track("steps", opt->counter());
    svds.track(stage);
    stage.loop(s.iterations, [&](index_t step) {
      const Var<double> loss = half_squared_error(net.product(), phi);
      stage.finite("train_loss", loss.item());
      stage.off_clock([&] {
        svds.measure(step, net);
        const double nan = std::numeric_limits<double>::quiet_NaN();
        double deviation = 0;
        double middle = 0;
        double spread = 0;
        for (int l = 1; l <= s.depth; ++l) {
          const double level = invariant ? rho.at({step, l - 1}) : nan;
          const BlockDeviation now =
              block_deviation(in_bases(bases, net.factor(l).value(), l), 2 * s.r, level);
          deviation = std::max({deviation, now.middle, now.off_diagonal});
          const Tensor<double> values = singular_values(net.factor(l).value());
          spread = std::max(spread, values.at({s.r}) - values.at({s.d - s.r - 1}));
          for (index_t i = s.r; invariant && i < s.d - s.r; ++i) {
            middle = std::max(middle, std::abs(values.at({i}) - level));
          }
        }
        stage.log(step, {{"train_loss", loss.item()},
                         {"deviation", deviation},
                         {"middle", invariant ? middle : nan},
                         {"spread", spread}});
      });
      if (step == s.iterations) return Stage::stop;
      backward(loss);
      opt->step();
      return Stage::go_on;
    });
    svds.keep(stage);
    for (const auto& [name, var] : net.named_parameters()) stage.keep(name, var.value());
  });
}

double largest(const Record& record, const char* column) {
  const std::vector<double> values = record.series(column);
  return *std::max_element(values.begin(), values.end());
}

void figures(Run& run, const Settings& s, const std::vector<const Record*>& records) {
  const std::string size = "d = " + std::to_string(s.d) + ", r = " + std::to_string(s.r) +
                           ", L = " + std::to_string(s.depth) + ", ε = " + number(s.eps);
  Figure surfaces;
  surfaces.name = "optimizer-spectra";
  surfaces.title = "Singular values of W1 under four optimisers";
  surfaces.caption = "Singular values of W1 over the iterations (" + size +
                     "). Gradient descent and momentum move r values at each end and keep the "
                     "middle together; Adam and RMSProp spread it.";
  surfaces.order = 1;
  for (std::size_t i = 0; i < records.size(); ++i) {
    evolution_panel(surfaces, kinds[i].label, "σ", records[i]->tensor("svd.values1"));
  }
  run.figure(surfaces);

  Figure angles;
  angles.name = "optimizer-angles";
  angles.title = "Right singular subspaces of W1 under four optimisers";
  angles.caption =
      "Angle in radians between the right singular vectors of W1 and those of iterate 1; for the "
      "middle d - 2r indices the largest principal angle of their subspace.";
  angles.order = 2;
  for (std::size_t i = 0; i < records.size(); ++i) {
    evolution_panel(angles, kinds[i].label, "angle", records[i]->tensor("svd.right1"));
  }
  run.figure(angles);

  Figure lines;
  lines.name = "optimizer-deviation";
  lines.title = "Deviation from the block form";
  lines.caption =
      "Left: largest deviation of any factor from blockdiag(·, ρI) in the theorem's bases. Middle: "
      "largest minus smallest of the middle d - 2r singular values. Right: training loss.";
  lines.order = 3;
  Panel& deviation = lines.panel("blocks");
  deviation.y_label = "largest deviation";
  deviation.log_y = true;
  Panel& spread = lines.panel("middle singular values");
  spread.y_label = "spread";
  spread.log_y = true;
  Panel& loss = lines.panel("training loss");
  loss.y_label = "½‖f - Φ‖²";
  loss.log_y = true;
  const char* const columns[] = {"deviation", "spread", "train_loss"};
  for (std::size_t p = 0; p < 3; ++p) {
    Panel& panel = lines.panels[p];
    panel.x_label = "iteration";
    for (std::size_t i = 0; i < records.size(); ++i) {
      panel.line(kinds[i].label, records[i]->steps(columns[p]), records[i]->series(columns[p]));
    }
  }
  run.figure(lines);
}

void OptimizerSpectra::run(Run& run) const {
  const Settings s(run.config());
  const Tensor<double> phi = low_rank_target(s.d, s.d, s.r, run.rng().split("target"));
  const auto initial = initial_factors(s.d, s.depth, s.eps, run.rng());
  const InvariantSubspace<double> bases = invariant_subspace(initial, phi, s.r);
  std::vector<const Record*> records;
  for (std::size_t kind = 0; kind < 4; ++kind) {
    records.push_back(&run_kind(run, s, kind, phi, initial, bases));
  }

  run.array("phi", phi);
  run.array_note("eta_sum", exact_number(s.eta));
  run.array_note("eps", exact_number(s.eps));
  for (int l = 1; l <= s.depth; ++l) {
    const auto i = static_cast<std::size_t>(l - 1);
    run.array("w" + std::to_string(l) + ".t0", initial[i]);
    run.array("U" + std::to_string(l), bases.u[i]);
    run.array("V" + std::to_string(l), bases.v[i]);
  }
  for (std::size_t kind = 0; kind < 4; ++kind) {
    for (const auto& [name, tensor] : records[kind]->tensors()) {
      run.array(std::string(kinds[kind].stage) + "." + name, tensor);
    }
  }

  for (std::size_t kind = 0; kind < 4; ++kind) {
    const std::string id = "OS" + std::to_string(kind + 1);
    const Record& record = *records[kind];
    if (kind < 2) {
      const double middle = largest(record, "middle");
      const double blocks = largest(record, "deviation");
      run.claim(id, middle <= 1e-9 && blocks <= 1e-12,
                "singular values " + number(middle) + ", blocks " + number(blocks));
    } else {
      const double blocks = record.last("deviation");
      const double spread = record.last("spread");
      run.claim(id, blocks > 0.01 && spread > 0.01,
                "deviation " + number(blocks) + ", spread " + number(spread));
    }
  }
  figures(run, s, records);
}

}  // namespace
PARSIMONY_EXPERIMENT(90, OptimizerSpectra)
}  // namespace parsimony::lab
