// The invariant-subspace theorem on running networks: gradient descent moves a 2 r̂-wide block of
// each factor and leaves the rest at ρ_l I; the compressed factorisation follows that block; the
// end-to-end matrices stay (d - 2 r̂) Π ρ_l² apart (spec 1.2 to 1.5, 2.3).
#include <limits>

#include "dln_subspace.hpp"

namespace parsimony::lab {

SubspaceSettings::SubspaceSettings(const Config& c)
    : d(c.integer("d", 3, 4000)),
      r(c.integer("r")),
      rhat(c.integer("rhat")),
      depth(static_cast<int>(c.integer("depth", 2, 20))),
      eps(c.reals("eps")),
      eta(c.real("eta_sum", 0, 1e6)),
      weight_decay(c.real("weight_decay", 0, 1e6)),
      momentum(c.real("momentum", 0, 0.9999)),
      iterations(c.integer("iterations", 1, 10000000)),
      measurements(c.integer("measurements", 1, 1000000)),
      figure_iterations(std::min(iterations, c.integer("figure_iterations", 1, 100000))),
      sweep(c.flag("sweep")),
      sweep_iterations(c.integer("sweep_iterations", 1, 10000000)),
      momentum_check(c.real("momentum_check", 0, 0.9999)),
      momentum_iterations(c.integer("momentum_iterations", 1, 10000000)),
      adaptive_rate(c.real("adaptive_rate", 0, 1e6)),
      adaptive_iterations(c.integer("adaptive_iterations", 1, 1000000)),
      float_iterations(std::min(iterations, c.integer("float_iterations", 1, 10000000))) {
  const auto got = "; got r = " + std::to_string(r) + ", rhat = " + std::to_string(rhat) +
                   ", d = " + std::to_string(d);
  if (r < 1 || r > d) throw ValueError("r: expected a rank in 1..d" + got);
  if (rhat < r) throw ValueError("rhat: expected rhat >= r, the rank of the target" + got);
  if (2 * rhat >= d) {
    throw ValueError("rhat: expected 2 rhat < d, so that an inactive block is left" + got);
  }
  if (eps.size() == 1) eps.assign(static_cast<std::size_t>(depth), eps[0]);
  if (eps.size() != static_cast<std::size_t>(depth)) {
    throw ValueError("eps: expected 1 value or one for each of the " + std::to_string(depth) +
                     " factors; got " + std::to_string(eps.size()));
  }
  for (const double value : eps) {
    if (!(value >= 1e-12 && value <= 1e3)) {
      throw ValueError("eps: expected values in 1e-12..1000; got " + number(value));
    }
  }
}

bool SubspaceSettings::is_the_figures() const {
  bool unit = true;
  for (const double value : eps) unit = unit && value == 1.0;
  return unit && depth == 3 && weight_decay == 0 && momentum == 0 &&
         std::abs(eta - 1.0 / 900) < 1e-12 && figure_iterations == 50;
}

namespace {

class DlnSubspace : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"dln-subspace",
            "gradient descent on deep linear networks moves only a small invariant subspace",
            "invariant-subspace theorem, compression bound, SVD evolution (spec 1.2-1.5, 2.3)",
            {{"smoke", 0.02}, {"quick", 0.05}, {"paper", 0.5}}};
  }
  std::vector<ClaimStatement> claims() const override;
  void declare(Config& c) const override;
  void preset(const std::string& name, Config& c) const override;
  void run(Run& run) const override;
};

std::vector<ClaimStatement> DlnSubspace::claims() const {
  return {
      {"T1", "Outside a 2 rhat-wide block every factor stays rho_l(t) I in fixed orthogonal bases",
       "invariant-subspace theorem, spec 1.2, checklist T1",
       "max |U_2' W_l V_2 - rho_l I| and the off-diagonal blocks over all layers, measured "
       "iterates and trajectories of the run (this setting; L = 2, 3, 4 with and without decay, "
       "unequal eps)",
       "<= 1e-12 (times the largest weight if that is above 1)"},
      {"T2", "The active block is the iterate of the compressed factorisation",
       "spec 1.5, checklist T2", "max |U_1' W_l V_1 - W~_l| over the same",
       "<= 1e-11 (times the largest weight if that is above 1)"},
      {"T3",
       "Full and compressed product differ by exactly (d - 2 rhat) prod rho_l^2 and at most "
       "(d - 2 rhat) prod eps_l^2",
       "compression bound, spec 1.5, checklist T3",
       "relative error of ||f - f_C||_F^2 at every iteration where the exact value is >= 1e-20, "
       "beyond the rounding of f (1e-14 ||phi||_F in the norm); the gap against the bound where "
       "0 <= rho_l <= eps_l",
       "<= 1e-8; never above the bound"},
      {"T4",
       "The first gradient gives outer factors with phi V_2 = 0 and phi' U_2 = 0, and the cheap "
       "construction equals the authors' intersection",
       "spec 1.3, 1.4, checklist T4",
       "max |phi V_2|, |phi' U_2|; largest difference of the projectors, full and half-masked "
       "gradient; of left right' for a wide and a tall target",
       "<= 1e-12 (phi's entries in units of max(1, sigma_1 / 100))"},
      {"T5",
       "The middle singular values of W_1 all equal rho_1(t), and their subspace does not turn",
       "SVD evolution, spec 2.3, checklist T5",
       "max |sigma_i - rho_1| over the middle d - 2r at the figure's last iterate; largest "
       "principal angle to iterate 1",
       "1e-9 and 1e-6 rad; rho_1(50) = 0.950961122 at the figure's setting"},
      {"T6", "Heavy-ball momentum keeps the block form, Adam and RMSProp do not",
       "spec 1.2, checklist T6",
       "largest block deviation: momentum from the modified recursion, Adam and RMSProp from the "
       "best fitting rho",
       "momentum <= 1e-12 (times the largest weight if that is above 1); Adam, RMSProp > 0.01"},
      {"T7", "In float the theorem holds to float's precision", "spec 1.2, checklist T7",
       "largest block deviation relative to eps_l", "<= 1e-3"}};
}

void DlnSubspace::declare(Config& c) const {
  c.declare("d", index_t{30}, "side of the target and of the factors");
  c.declare("r", index_t{3}, "rank of the target");
  c.declare("rhat", index_t{3}, "assumed rank; the active block is 2 rhat wide");
  c.declare("depth", index_t{3}, "factors L");
  c.declare("eps", std::vector<double>{1.0}, "scale of the initialisation: one, or one a factor");
  c.declare("eta_sum", 1.0 / 900, "step size for the loss 0.5 ||f - phi||_F^2");
  c.declare("weight_decay", 0.0, "lambda");
  c.declare("momentum", 0.0, "heavy-ball momentum of the main trajectory");
  c.declare("iterations", index_t{2000}, "of the main trajectory");
  c.declare("measurements", index_t{200}, "iterates at which the blocks are measured, about");
  c.declare("figure_iterations", index_t{50}, "iterations of the SVD-evolution figure");
  c.declare("sweep", true, "also L = 2, 3, 4, lambda = 0 and 0.01, rhat and rhat + 2, unequal eps");
  c.declare("sweep_iterations", index_t{2000}, "of each trajectory of the sweep");
  c.declare("momentum_check", 0.9, "momentum of the trajectory that T6 is judged on");
  c.declare("momentum_iterations", index_t{1000},
            "of that trajectory; its step is (1 - mu) eta_sum");
  c.declare("adaptive_rate", 1e-2, "learning rate of Adam and RMSProp");
  c.declare("adaptive_iterations", index_t{50}, "of Adam and RMSProp");
  c.declare("float_iterations", index_t{1000}, "of the trajectory in float");
}

void DlnSubspace::preset(const std::string& name, Config& c) const {
  if (name == "smoke") {
    c.preset("iterations", index_t{200});
    c.preset("sweep", false);
    c.preset("momentum_iterations", index_t{200});
    c.preset("float_iterations", index_t{200});
  } else if (name == "paper") {
    c.preset("iterations", index_t{5000});
    c.preset("sweep_iterations", index_t{5000});
    c.preset("momentum_iterations", index_t{5000});
    c.preset("float_iterations", index_t{5000});
  }
}

/// The trajectories of a run: the configured one first, then the sweep, then momentum.
std::vector<Trajectory> planned(const SubspaceSettings& s, double sigma1) {
  Trajectory main;
  main.name = "main";
  main.rhat = s.rhat;
  main.eps = s.eps;
  main.eta = s.eta;
  main.weight_decay = s.weight_decay;
  main.momentum = s.momentum;
  main.iterations = s.iterations;
  std::vector<Trajectory> out{main};
  const std::vector<double> unequal = {1.0, 0.7, 0.85, 0.55};
  for (const int depth : {2, 3, 4}) {
    if (!s.sweep) break;
    for (const bool decay : {false, true}) {
      for (const index_t rhat : {s.rhat, s.rhat + 2}) {
        if (2 * rhat >= s.d) continue;
        Trajectory t = main;
        t.rhat = rhat;
        t.momentum = 0;
        t.weight_decay = decay ? 0.01 : 0.0;
        t.iterations = s.sweep_iterations;
        t.eps.clear();
        for (int l = 0; l < depth; ++l) {
          t.eps.push_back(s.eps[0] * unequal[static_cast<std::size_t>(l)]);
        }
        // The configured step, unless that depth would not be stable with it.
        const double curvature = depth * std::pow(std::max(sigma1, std::pow(s.eps[0], depth)),
                                                  2.0 * (depth - 1) / depth);
        t.eta = std::min(s.eta, 0.5 / curvature);
        t.name = "sweep-L" + std::to_string(depth) + (decay ? "-decay" : "") + "-rhat" +
                 std::to_string(rhat);
        out.push_back(t);
      }
    }
  }
  Trajectory heavy = main;
  heavy.name = "momentum";
  heavy.momentum = s.momentum_check;
  heavy.eta = s.eta * (1 - s.momentum_check);
  heavy.iterations = s.momentum_iterations;
  out.push_back(heavy);
  return out;
}

double largest(const Record& record, const char* column) {
  const std::vector<double> values = record.series(column);
  return *std::max_element(values.begin(), values.end());
}

void arrays(Run& run, const SubspaceSettings& s, const Tensor<double>& phi,
            const std::vector<Trajectory>& trajectories) {
  run.array("phi", phi);
  std::string eps;
  for (const double value : s.eps) eps += (eps.empty() ? "" : ",") + exact_number(value);
  run.array_note("eps", eps);
  run.array_note("eta_sum", exact_number(s.eta));
  run.array_note("weight_decay", exact_number(s.weight_decay));
  run.array_note("momentum", exact_number(s.momentum));
  run.array_note("r", std::to_string(s.r));
  run.array_note("rhat", std::to_string(s.rhat));
  for (const Trajectory& t : trajectories) {
    const std::string prefix = &t == &trajectories.front() ? "" : t.name + ".";
    for (int l = 1; l <= t.depth(); ++l) {
      const auto i = static_cast<std::size_t>(l - 1);
      run.array(prefix + "U" + std::to_string(l), t.bases.u[i]);
      run.array(prefix + "V" + std::to_string(l), t.bases.v[i]);
    }
    run.array(prefix + "rho", t.rho);
    for (const auto& [name, tensor] : t.record->tensors()) run.array(prefix + name, tensor);
    if (prefix.empty()) continue;
    std::string scales;
    for (const double value : t.eps) scales += (scales.empty() ? "" : ",") + exact_number(value);
    run.array_note(prefix + "eps", scales);
    run.array_note(prefix + "eta_sum", exact_number(t.eta));
    run.array_note(prefix + "weight_decay", exact_number(t.weight_decay));
    run.array_note(prefix + "momentum", exact_number(t.momentum));
    run.array_note(prefix + "rhat", std::to_string(t.rhat));
  }
}

/// Where one quantity is worst over several trajectories.
struct Worst {
  double value = -1;
  std::string where;
  bool holds = true;
  void take(double x, double limit, const std::string& name) {
    if (!(x <= value)) {
      value = x;
      where = name;
    }
    holds = holds && x <= limit;
  }
  std::string str() const { return number(value) + " (" + where + ")"; }
};

void claim_blocks(Run& run, const std::vector<Trajectory>& trajectories, const Record& adam,
                  const Record& rms_prop) {
  Worst middle, off, core, heavy;
  for (const Trajectory& t : trajectories) {
    const double size = std::max(1.0, t.record->scalar("largest_entry"));
    const std::string name = t.name + ", " + std::to_string(t.last()) + " iterations";
    if (t.name == "momentum") {
      heavy.take(std::max(largest(*t.record, "middle"), largest(*t.record, "off_diagonal")),
                 1e-12 * size, name);
    } else {
      middle.take(largest(*t.record, "middle"), 1e-12 * size, name);
      off.take(largest(*t.record, "off_diagonal"), 1e-12 * size, name);
    }
    core.take(largest(*t.record, "core"), 1e-11 * size, name);
  }
  run.claim("T1", middle.holds && off.holds,
            "middle block " + middle.str() + ", off-diagonal " + off.str());
  run.claim("T2", core.holds, core.str());
  const double adam_off = adam.last("deviation");
  const double rms_off = rms_prop.last("deviation");
  run.claim("T6", heavy.holds && adam_off > 0.01 && rms_off > 0.01,
            "momentum " + heavy.str() + "; after " + std::to_string(adam.last_step()) +
                " steps Adam " + number(adam_off) + ", RMSProp " + number(rms_off));
}

void claim_gap(Run& run, const std::vector<Trajectory>& trajectories) {
  Worst error, excess;
  double with_rounding = 0;
  int outside = 0;
  for (const Trajectory& t : trajectories) {
    error.take(t.record->scalar("worst_gap_error"), 1e-8, t.name);
    with_rounding = std::max(with_rounding, t.record->scalar("worst_gap_relative"));
    bool premise = true;
    for (index_t step = 0; step <= t.last(); ++step) {
      for (int l = 0; l < t.depth(); ++l) {
        const double rho = t.rho.at({step, l});
        premise = premise && rho >= 0 && rho <= t.eps[static_cast<std::size_t>(l)] * (1 + 1e-12);
      }
    }
    if (premise) {
      excess.take(t.record->scalar("worst_gap_excess"), 1 + 1e-8, t.name);
    } else {
      ++outside;
    }
  }
  std::string measured =
      "relative error " + number(with_rounding) + ", beyond rounding " + error.str();
  if (!excess.where.empty()) {
    measured += "; gap / bound (in the norm) at most " + exact_number(excess.value);
  }
  if (outside > 0) {
    measured += "; bound not judged for " + std::to_string(outside) +
                " trajectories whose rho leaves [0, eps]";
  }
  run.claim("T3", error.holds && excess.holds, measured);
}

void claim_middle(Run& run, const SubspaceSettings& s, const Trajectory& main) {
  const Tensor<double>& values = main.record->tensor("svd.values1");
  const Tensor<double>& right = main.record->tensor("svd.right1");
  const Tensor<double>& left = main.record->tensor("svd.left1");
  const index_t t = s.figure_iterations;
  const double rho = main.rho.at({t, 0});
  // The middle subspace is defined where its singular values are apart from the others.
  const auto apart = [&](index_t step) {
    const double level = main.rho.at({step, 0});
    return std::min(values.at({step, s.r - 1}) - level, level - values.at({step, s.d - s.r})) /
           main.eps[0];
  };
  if (std::min(apart(1), apart(t)) < 1e-7) {
    run.claim_not_run("T5",
                      "the singular values of the active block do not stand clear of the "
                      "middle ones at iterates 1 and " +
                          std::to_string(t) + " (relative gap " +
                          number(std::min(apart(1), apart(t))) +
                          "), so that the middle subspace is not determined by the SVD");
    return;
  }
  double off = 0;
  for (index_t i = s.r; i < s.d - s.r; ++i) off = std::max(off, std::abs(values.at({t, i}) - rho));
  const double angle = std::max(right.at({t, s.r}), left.at({t, s.r}));
  bool holds = off <= 1e-9 && angle < 1e-6;
  std::string measured = std::to_string(s.d - 2 * s.r) + " values within " + number(off) +
                         " of rho_1(" + std::to_string(t) + ") = " + exact_number(rho) +
                         ", angle " + number(angle);
  if (s.is_the_figures()) {
    holds = holds && std::abs(rho - 0.950961122) <= 1e-9;
  } else {
    measured +=
        " (0.950961122 belongs to L = 3, eps = 1, eta_sum = 1/900, 50 iterations without "
        "decay and momentum)";
  }
  run.claim("T5", holds, measured);
}

void claim_gradient(Run& run, const Tensor<double>& phi, const Record& record) {
  if (record.scalar("separated") == 0) {
    run.claim_not_run("T4",
                      "sigma_r(phi) <= 2 prod eps_l: the first gradient's top singular "
                      "triplets are then not the target's (spec 1.4)");
    return;
  }
  const double limit = 1e-12;
  const double unit = std::max(1.0, singular_values(phi).at({0}) / 100);
  const double missed = std::max(record.scalar("missed_right"), record.scalar("missed_left"));
  const double full = record.scalar("full");
  const double masked = record.scalar("masked");
  const double rectangular = record.scalar("rectangular");
  run.claim("T4",
            missed <= limit * unit && full <= limit && masked <= limit && rectangular <= limit,
            "missed target " + number(missed) + "; projectors " + number(full) + " full, " +
                number(masked) + " masked; rectangular " + number(rectangular));
}

void DlnSubspace::run(Run& run) const {
  const SubspaceSettings s(run.config());
  const Tensor<double> phi = low_rank_target(s.d, s.d, s.r, run.rng().split("target"));
  std::vector<Trajectory> trajectories = planned(s, singular_values(phi).at({0}));
  for (Trajectory& t : trajectories) {
    run_trajectory(run, s, phi, t, &t == &trajectories.front());
  }
  const Trajectory& main = trajectories.front();
  const Record& adam = run_adaptive(run, s, phi, main, true);
  const Record& rms_prop = run_adaptive(run, s, phi, main, false);
  const Record& single = run_float(run, s, phi, main);
  const Record& gradient = run.stage("first-gradient", [&](Stage& stage) {
    const GradientSubspace g = gradient_subspace(s, phi, main, run.rng());
    stage.keep("separated", g.separated ? 1.0 : 0.0);
    stage.keep("missed_right", g.missed_right);
    stage.keep("missed_left", g.missed_left);
    stage.keep("full", g.full);
    stage.keep("masked", g.masked);
    stage.keep("rectangular", g.rectangular);
  });

  arrays(run, s, phi, trajectories);
  claim_blocks(run, trajectories, adam, rms_prop);
  claim_gap(run, trajectories);
  claim_gradient(run, phi, gradient);
  claim_middle(run, s, main);
  const double worst = std::max(largest(single, "middle"), largest(single, "off_diagonal"));
  run.claim("T7", worst <= 1e-3,
            number(worst) + " over " + std::to_string(single.last_step()) + " iterations");
  subspace_figures(run, s, trajectories, adam, rms_prop, single);
}

}  // namespace
PARSIMONY_EXPERIMENT(10, DlnSubspace)
}  // namespace parsimony::lab
