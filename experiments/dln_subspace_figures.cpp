// The figures of dln-subspace: the SVD evolution of the factors as surfaces, the deviations from
// the theorem, and what other optimisers and float do.
#include "dln_subspace.hpp"

namespace parsimony::lab {

namespace {

void evolution_figure(Run& run, const SubspaceSettings& s, const Record& record, int layer) {
  const std::string l = std::to_string(layer);
  Figure f;
  f.name = "svd-evolution-w" + l;
  f.title = "SVD of W" + l + " over gradient descent";
  f.caption = "Singular values of W" + l +
              " and the angles between its singular vectors and those "
              "of iterate 1 (at the start all singular values tie), d = " +
              std::to_string(s.d) + ", r = " + std::to_string(s.r) + ". The middle " +
              std::to_string(s.d - 2 * s.r) +
              " indices show the largest principal angle of their subspace: it does not turn.";
  f.alt =
      "Three surfaces over index and iteration: a few singular values at both ends move, the "
      "middle ones stay together and their subspace keeps its direction.";
  f.order = layer;
  evolution_panel(f, "singular values", "σ", record.tensor("svd.values" + l));
  evolution_panel(f, "right singular vectors", "angle", record.tensor("svd.right" + l));
  evolution_panel(f, "left singular vectors", "angle", record.tensor("svd.left" + l));
  run.figure(f);
}

std::vector<double> column(const Tensor<double>& a, index_t j, index_t rows) {
  std::vector<double> out;
  for (index_t i = 0; i < rows; ++i) out.push_back(a.at({i, j}));
  return out;
}

std::vector<double> counted(index_t n) {
  std::vector<double> out;
  for (index_t i = 0; i < n; ++i) out.push_back(static_cast<double>(i));
  return out;
}

/// The range of deviations: down past round-off (which leaves room for a legend), up past the
/// theorem's limit and what was measured.
std::pair<double, double> deviation_range(double largest) {
  return {1e-20, std::max(1e-11, 10 * largest)};
}

double largest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

void blocks_figure(Run& run, const Trajectory& t, double bound) {
  const Record& r = *t.record;
  const std::vector<double> steps = r.steps("middle");
  Figure f;
  f.name = "blocks";
  f.title = "The blocks of the theorem, in numbers";
  f.caption =
      "Left: largest deviation over all layers of the middle block from ρI, of the off-diagonal "
      "blocks from 0 and of the active block from the compressed iterate. Middle: ρ measured in "
      "the factors (points) and from its recursion (lines). "
      "Right: squared distance of the end-to-end matrices, as measured, as the exact form "
      "(d-2r̂)∏ρ², and the bound (d-2r̂)∏ε².";
  f.order = 10;
  Panel& blocks = f.panel("deviation from the theorem");
  blocks.x_label = "iteration";
  blocks.y_label = "largest entry";
  blocks.log_y = true;
  blocks.y_range = deviation_range(std::max(
      {largest(r.series("middle")), largest(r.series("off_diagonal")), largest(r.series("core"))}));
  blocks.line("middle block - ρI", steps, r.series("middle"));
  blocks.line("off-diagonal blocks", steps, r.series("off_diagonal"));
  blocks.line("active block - compressed", steps, r.series("core"));
  blocks.horizontal(1e-12, "limit of T1");

  Panel& level = f.panel("ρ of the middle block");
  level.x_label = "iteration";
  level.y_label = "ρ";
  const index_t rows = t.last() + 1;
  bool equal = true;
  for (const double eps : t.eps) equal = equal && eps == t.eps[0];
  // Equal scales make equal recursions: one curve says it all.
  const int shown = equal ? 1 : t.depth();
  std::vector<double> thin_steps;
  const std::size_t stride = std::max<std::size_t>(1, steps.size() / 25);
  for (std::size_t i = 0; i < steps.size(); i += stride) thin_steps.push_back(steps[i]);
  for (int l = 1; l <= shown; ++l) {
    const std::string name = shown == 1 ? "" : " of W" + std::to_string(l);
    const std::vector<double> measured = r.series("rho" + std::to_string(l));
    std::vector<double> thin;
    for (std::size_t i = 0; i < measured.size(); i += stride) thin.push_back(measured[i]);
    Series& line = level.line("recursion" + name, counted(rows), column(t.rho, l - 1, rows));
    line.color = l - 1;
    level.points("measured" + name, thin_steps, thin).color = l - 1;
  }

  Panel& gap = f.panel("compression gap");
  gap.x_label = "iteration";
  gap.y_label = "‖f - f_C‖²";
  gap.line("measured", steps, r.series("gap"));
  gap.dashed("(d-2r̂)∏ρ²", steps, r.series("gap_exact"));
  gap.horizontal(bound, "bound");
  run.figure(f);
}

void optimizers_figure(Run& run, const std::vector<Trajectory>& trajectories, const Record& adam,
                       const Record& rms_prop, const Record& single) {
  const auto& first = trajectories.front();
  Figure f;
  f.name = "optimizers";
  f.title = "Which optimisers keep the block form";
  f.caption =
      "Left: largest deviation from the block form under each optimiser. Gradient descent and "
      "heavy-ball momentum keep it to round-off, Adam and RMSProp (judged against the ρ that fits "
      "best) leave it at once. Middle: the same trajectory in float, relative to ε. Right: the "
      "worst "
      "deviation of every trajectory of this run.";
  f.order = 20;
  Panel& kinds = f.panel("deviation by optimiser");
  kinds.x_label = "iteration";
  kinds.y_label = "largest deviation";
  kinds.log_y = kinds.log_x = true;
  const auto line = [&](const std::string& label, const Record& record, const char* name) {
    kinds.line(label, record.steps(name), record.series(name));
  };
  line("gradient descent", *first.record, "middle");
  for (const Trajectory& t : trajectories) {
    if (t.name == "momentum") line("momentum", *t.record, "middle");
  }
  line("Adam", adam, "deviation");
  line("RMSProp", rms_prop, "deviation");

  Panel& precision = f.panel("float against double");
  precision.x_label = "iteration";
  precision.y_label = "largest deviation / ε";
  precision.log_y = true;
  precision.y_range = {1e-17, 1e-1};
  precision.line("float, middle block", single.steps("middle"), single.series("middle"));
  precision.line("float, off-diagonal", single.steps("middle"), single.series("off_diagonal"));
  precision.line("double, middle block", first.record->steps("middle"),
                 first.record->series("middle"));
  precision.horizontal(1e-3, "limit of T7");

  Panel& all = f.panel("every trajectory");
  all.y_label = "largest deviation";
  all.x_label = "trajectory, in the run's order";
  all.log_y = true;
  std::vector<double> middle;
  std::vector<double> off;
  std::vector<double> core;
  for (const Trajectory& t : trajectories) {
    const auto worst = [&](const char* name) { return largest(t.record->series(name)); };
    middle.push_back(worst("middle"));
    off.push_back(worst("off_diagonal"));
    core.push_back(worst("core"));
  }
  const std::vector<double> index = counted(static_cast<index_t>(trajectories.size()));
  all.points("middle block", index, middle);
  all.points("off-diagonal blocks", index, off);
  all.points("active block", index, core);
  all.y_range = deviation_range(std::max({largest(middle), largest(off), largest(core)}));
  all.horizontal(1e-12, "limit of T1");
  run.figure(f);
}

}  // namespace

void subspace_figures(Run& run, const SubspaceSettings& s,
                      const std::vector<Trajectory>& trajectories, const Record& adam,
                      const Record& rms_prop, const Record& single) {
  const Trajectory& main = trajectories.front();
  const int layers = run.preset() == "smoke" ? 1 : s.depth;
  for (int l = 1; l <= layers; ++l) evolution_figure(run, s, *main.record, l);
  double bound = static_cast<double>(s.d - main.width());
  for (const double eps : main.eps) bound *= eps * eps;
  blocks_figure(run, main, bound);
  optimizers_figure(run, trajectories, adam, rms_prop, single);
}

}  // namespace parsimony::lab
