// The parts of the experiment dln-subspace: its settings, its stages, and what they recorded.
#pragma once

#include <parsimony/experiment.hpp>

#include "spectra.hpp"

namespace parsimony::lab {

struct SubspaceSettings {
  /// @throws ValueError on sizes that the theorem does not cover.
  explicit SubspaceSettings(const Config& config);

  index_t d, r, rhat;
  int depth;
  std::vector<double> eps;  // one a layer
  double eta, weight_decay, momentum;
  index_t iterations, measurements, figure_iterations;
  bool sweep;
  index_t sweep_iterations;
  double momentum_check;
  index_t momentum_iterations;
  double adaptive_rate;
  index_t adaptive_iterations;
  index_t float_iterations;

  /// The setting of the paper's figure, at which the middle value is known.
  bool is_the_figures() const;
};

/// Full and compressed factorisation side by side, and what the theorem says about them.
struct Trajectory {
  std::string name;
  index_t rhat;
  std::vector<double> eps;
  double eta, weight_decay, momentum;
  index_t iterations;

  std::vector<Tensor<double>> initial;
  InvariantSubspace<double> bases;
  Tensor<double> rho;  // (iterations + 1, L)
  const Record* record = nullptr;

  int depth() const { return static_cast<int>(eps.size()); }
  index_t width() const { return 2 * rhat; }
  index_t last() const { return record->last_step(); }
};

/// Trains one trajectory and records its deviations from the theorem. The columns are train_loss,
/// middle, off_diagonal, core, gap, gap_exact, and rho{l}; scalars worst_gap_error,
/// worst_gap_excess and tolerance_scale; tensors w{l}.t{k}, core{l}.t{k}; with `evolution` the
/// SVDs.
void run_trajectory(Run& run, const SubspaceSettings& settings, const Tensor<double>& phi,
                    Trajectory& trajectory, bool evolution);

/// Adam or RMSProp from the start of `trajectory`: column `deviation`, from the block form with
/// whatever ρ fits best.
const Record& run_adaptive(Run& run, const SubspaceSettings& settings, const Tensor<double>& phi,
                           const Trajectory& trajectory, bool adam);

/// The trajectory in float: columns middle and off_diagonal, relative to eps_l.
const Record& run_float(Run& run, const SubspaceSettings& settings, const Tensor<double>& phi,
                        const Trajectory& trajectory);

/// The outer factors that the first gradient gives (claim T4).
struct GradientSubspace {
  bool separated = false;   // sigma_r > 2 prod eps_l: the gradient's top triplets are the target's
  double missed_right = 0;  // max |phi V_2|
  double missed_left = 0;   // max |phiᵀ U_2|
  double full = 0;          // difference of the projectors of both constructions
  double masked = 0;        // the same on a half-masked gradient
  double rectangular = 0;   // left rightᵀ, from the product's gradient and from a factor's
};
GradientSubspace gradient_subspace(const SubspaceSettings& settings, const Tensor<double>& phi,
                                   const Trajectory& trajectory, const Rng& rng);

/// All figures of the run.
void subspace_figures(Run& run, const SubspaceSettings& settings,
                      const std::vector<Trajectory>& trajectories, const Record& adam,
                      const Record& rms_prop, const Record& single);

}  // namespace parsimony::lab
