// Where the updates of a deep overparameterised adapter live: their spectra, when their leading
// subspaces are found, and the training loss meanwhile.
//
// Alignment of a matrix at step t: the largest cosine between the leading k left singular subspaces
// of ΔW(t) and of ΔW at the end, and the mean squared cosine beside it. Two random k-dimensional
// subspaces of m dimensions have a largest cosine of about 2 √(k/m) - .2 at 768, .5 at 128 - so
// claims are made on the way from there to 1.
#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class LmSubspace : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"lm-subspace",
            "fine-tuning moves few directions, found early: spectra, alignment, loss",
            "BERT fine-tuning has an invariant low-dimensional subspace (spec 2.2, 4.3)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 2}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"LS1", "The updates are approximately low-rank", "spec 2.2, spectra",
         "median over layers of the share of ||ΔW||_F² in the leading 3 singular values >= 90 %",
         "only the first 1 to 3 singular values are visible"},
        {"LS2", "Their leading subspaces are found early", "spec 2.2, alignment of all layers",
         "after 1/20 of the steps the alignment of most layers is more than halfway from that of "
         "random subspaces to 1; after half of the steps the mean is 3/4 of the way",
         "mostly > .6 at step 100 of 2000, about .9 at 1000; random .2"},
        {"LS3", "Meanwhile the loss keeps falling", "spec 2.2, training loss",
         "training loss (EMA .9) at the end at most half of that after 1/20 of the steps, and of "
         "that of the best constant answer",
         ".83 at step 100, .20 at 2000; a constant 2.2"}};
  }

  void declare(Config& c) const override {
    // What the shipped base can learn; on STS-B it learns the mean of the labels.
    declare_language(c, {"sst2", 1, 400, "attention-mlp"});
    c.declare("samples", index_t{128}, "training examples, with replacement; 0: all of train");
    c.declare("decay_ratio", 0.1, "the learning rate falls linearly to this much of itself");
    c.declare("directions", index_t{8}, "dimension of the leading subspaces");
    c.declare("snapshots", std::vector<index_t>{0, 1, 5, 10, 20, 40, 80, 200, 300},
              "steps at which updates are looked at, besides the last");
    c.declare("filter_step", index_t{10}, "the paper's figure drops layers whose alignment ...");
    c.declare("filter", 0.5, "... at this step is at most this");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 1, 2000);
    if (name == "smoke") {
      c.preset("seeds", index_t{1});
      c.preset("steps", index_t{4});
      c.preset("snapshots", std::vector<index_t>{0, 1, 2});
      c.preset("filter_step", index_t{1});
    } else if (name == "paper") {
      c.preset("task", std::string("stsb"));
      c.preset("samples", index_t{0});
      c.preset("snapshots", std::vector<index_t>{0, 1, 10, 20, 30, 100, 500, 1000, 1500});
      c.preset("filter_step", index_t{30});
    }
  }

  void run(Run& run) const override;
};

std::string at_step(const std::string& what, const std::string& layer, index_t step) {
  return what + ".t" + std::to_string(step) + "." + layer;
}

/// Keeps the leading singular values and left singular vectors of every update.
void keep_updates(Stage& stage, Model<float>& model, index_t step, index_t directions) {
  double order = 0;
  for (const auto& [name, adapter] : adapters_of(model)) {
    stage.keep("order." + name, order++);
    const Tensor<float> delta = adapter->delta();
    const Svd<float> s = svd(delta);
    const index_t k = std::min<index_t>(directions, s.s.size());
    stage.keep(at_step("U", name, step), cast<double>(slice(s.u, 1, 0, k)));
    stage.keep(at_step("S", name, step), cast<double>(s.s.clone()));
  }
}

/// What was found, layers by snapshots.
struct Alignment {
  std::vector<std::string> layers;
  std::vector<index_t> steps;
  std::vector<std::vector<double>> largest, mean_square;
  std::vector<double> chance;                 // of each layer, for the largest cosine
  std::vector<std::vector<double>> spectrum;  // leading values at the end
  std::vector<double> top3;                   // share of the squared norm in 3 values

  /// The way from chance to 1, in layer i at snapshot j.
  double way(std::size_t i, std::size_t j) const {
    return (largest[i][j] - chance[i]) / (1 - chance[i]);
  }
  std::size_t snapshot(double step) const {
    std::size_t j = 0;
    while (j + 1 < steps.size() && static_cast<double>(steps[j]) < step) ++j;
    return j;
  }
};

Alignment measure(const Record& record, const std::vector<index_t>& steps, index_t k) {
  Alignment a;
  a.steps = steps;
  const std::string last = "U.t" + std::to_string(steps.back()) + ".";
  for (const auto& [key, value] : record.tensors()) {
    if (key.compare(0, last.size(), last) == 0) a.layers.push_back(key.substr(last.size()));
  }
  const auto order = [&](const std::string& layer) { return record.scalar("order." + layer); };
  std::sort(a.layers.begin(), a.layers.end(),
            [&](const auto& x, const auto& y) { return order(x) < order(y); });
  for (const std::string& layer : a.layers) {
    const Tensor<double>& final_u = record.tensor(at_step("U", layer, steps.back()));
    a.chance.push_back(std::min(
        0.95, 2 * std::sqrt(static_cast<double>(k) / static_cast<double>(final_u.dim(0)))));
    a.largest.emplace_back();
    a.mean_square.emplace_back();
    for (const index_t step : steps) {
      const Tensor<double> s =
          singular_values(matmul(record.tensor(at_step("U", layer, step)), final_u, true, false));
      a.largest.back().push_back(std::min(1.0, s.data()[0]));
      a.mean_square.back().push_back(dot(s, s) / static_cast<double>(s.size()));
    }
    const Tensor<double>& values = record.tensor(at_step("S", layer, steps.back()));
    const std::vector<double> all = values.to_vector();
    a.spectrum.emplace_back(all.begin(), all.begin() + std::min<long>(10, values.size()));
    double total = 0, leading = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      total += all[i] * all[i];
      if (i < 3) leading += all[i] * all[i];
    }
    a.top3.push_back(total > 0 ? leading / total : 1.0);
  }
  return a;
}

/// A waterfall of rows over the layers, one slice a layer.
void waterfall(Figure& f, const std::string& title, const std::string& x_label,
               const std::string& z_label, const std::vector<double>& x,
               const std::vector<std::vector<double>>& rows) {
  Panel& p = f.panel(title);
  double top = 0;
  for (const auto& row : rows) top = std::max(top, *std::max_element(row.begin(), row.end()));
  p.z_range = {0, top > 0 ? top : 1};
  p.x_label = x_label;
  p.y_label = "layer";
  p.z_label = z_label;
  std::vector<double> y, z;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    y.push_back(static_cast<double>(i + 1));
    z.insert(z.end(), rows[i].begin(), rows[i].end());
  }
  p.surface(x, y, z).style = Surface::waterfall;
}

void draw(Run& run, const LanguageLab& lab, const Alignment& a, const std::vector<double>& loss,
          const std::vector<double>& loss_steps, const std::vector<std::size_t>& kept) {
  std::vector<double> index, log_step;
  for (std::size_t i = 0; i < a.spectrum.front().size(); ++i) {
    index.push_back(static_cast<double>(i + 1));
  }
  for (const index_t step : a.steps)
    log_step.push_back(std::log10(1.0 + static_cast<double>(step)));

  Figure f;
  f.name = "subspace";
  f.title = "Updates in fine-tuning: " + lab.task_title();
  f.caption =
      "Leading singular values of every ΔW at the end, alignment of its leading left "
      "singular subspace with the final one, and the training loss (EMA .9). All " +
      std::to_string(a.layers.size()) + " adapted layers, in the model's order.";
  waterfall(f, "singular values", "index", "σ", index, a.spectrum);
  waterfall(f, "alignment, all layers", "log₁₀(1 + step)", "largest cosine", log_step, a.largest);
  Panel& p = f.panel("training loss");
  p.x_label = "step";
  p.y_label = "loss, EMA .9";
  p.line("", loss_steps, loss);
  run.figure(f);

  Figure g;
  g.name = "alignment";
  g.title = "Alignment with the final subspace: " + lab.task_title();
  g.caption =
      "Left: means over the layers, their range, and what random subspaces give. Right: only the "
      "layers that the paper's filter keeps (" +
      std::to_string(kept.size()) + " of " + std::to_string(a.layers.size()) + ").";
  Panel& mean = g.panel("all layers");
  mean.x_label = "1 + step";
  mean.y_label = "alignment";
  mean.log_x = true;
  mean.y_range = {0, 1.02};
  mean.legend = Panel::bottom_right;
  std::vector<double> x, average, low, high, square;
  for (std::size_t j = 0; j < a.steps.size(); ++j) {
    x.push_back(1.0 + static_cast<double>(a.steps[j]));
    std::vector<double> column, squares;
    for (std::size_t i = 0; i < a.layers.size(); ++i) {
      column.push_back(a.largest[i][j]);
      squares.push_back(a.mean_square[i][j]);
    }
    average.push_back(mean_of(column));
    low.push_back(*std::min_element(column.begin(), column.end()));
    high.push_back(*std::max_element(column.begin(), column.end()));
    square.push_back(mean_of(squares));
  }
  mean.band("largest cosine", x, average, low, high);
  mean.dashed("mean squared cosine", x, square);
  mean.horizontal(mean_of(a.chance), "random");
  std::vector<std::vector<double>> rows;
  for (const std::size_t i : kept) rows.push_back(a.largest[i]);
  if (rows.size() > 1) {
    waterfall(g, "layers kept by the filter", "log₁₀(1 + step)", "largest cosine", log_step, rows);
  }
  run.figure(g);
}

void LmSubspace::run(Run& run) const {
  const Config& c = run.config();
  const index_t steps = c.integer("steps", 1, 1 << 30);
  const index_t k = c.integer("directions", 1, 1 << 20);
  std::vector<index_t> snapshots = ascending_integers(c, "snapshots", 0, steps, "steps");
  if (snapshots.back() != steps) snapshots.push_back(steps);
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();

  LanguageJob job{"full width",
                  &task,
                  lab.options("full", c.integer("samples", 0, 1 << 30), run.seed()),
                  {},
                  {}};
  job.options.decay_ratio = c.real("decay_ratio", 0, 1);
  job.options.eval_every = std::max<index_t>(1, steps / 8);
  const Record& record = run.stage(job.name, [&](Stage& stage) {
    finetune(stage, lab.base(), task, job.options, [&](index_t step, Model<float>& model) {
      if (std::binary_search(snapshots.begin(), snapshots.end(), step)) {
        keep_updates(stage, model, step, k);
      }
    });
  });

  const Alignment a = measure(record, snapshots, k);
  const std::vector<double> loss = smoothed(record.series("train_loss"), 0.9);
  const auto early = static_cast<std::size_t>(static_cast<double>(steps) / 20);
  const std::size_t first = a.snapshot(static_cast<double>(steps) / 20);
  const std::size_t half = a.snapshot(static_cast<double>(steps) / 2);
  std::vector<double> ways_first, ways_half, at_first, at_half;
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    ways_first.push_back(a.way(i, first));
    ways_half.push_back(a.way(i, half));
    at_first.push_back(a.largest[i][first]);
    at_half.push_back(a.largest[i][half]);
  }
  const auto beyond = static_cast<double>(
      std::count_if(ways_first.begin(), ways_first.end(), [](double w) { return w > 0.5; }));
  const double share = beyond / static_cast<double>(a.layers.size());
  lab.judge("LS1", median_of(a.top3) >= 0.9,
            "median " + number(100 * median_of(a.top3)) + " %, least " +
                number(100 * *std::min_element(a.top3.begin(), a.top3.end())) + " %");
  lab.judge("LS2", share > 0.5 && mean_of(ways_half) >= 0.75,
            number(100 * share) + " % of the layers halfway at step " +
                std::to_string(a.steps[first]) + " (mean alignment " + number(mean_of(at_first)) +
                "), mean alignment " + number(mean_of(at_half)) + " at step " +
                std::to_string(a.steps[half]) + "; random about " + number(mean_of(a.chance)));
  const double constant = constant_loss(task);
  lab.judge("LS3", loss.back() <= 0.5 * std::min(loss[early], constant),
            number(loss[early]) + " at step " + std::to_string(early) + ", " + number(loss.back()) +
                " at the end; a constant answer " + number(constant));

  const std::size_t filter_at = a.snapshot(static_cast<double>(c.integer("filter_step")));
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    if (a.largest[i][filter_at] > c.real("filter", 0, 1)) kept.push_back(i);
  }
  for (const auto& [name, tensor] : record.tensors()) run.array(name, cast<float>(tensor));
  run.array("alignment", as_matrix(a.largest));
  run.array("alignment.mean_square", as_matrix(a.mean_square));
  std::string names;
  for (const std::string& layer : a.layers) names += (names.empty() ? "" : ",") + layer;
  run.array_note("layers", names);
  draw(run, lab, a, loss, record.steps("train_loss"), kept);
}

}  // namespace
PARSIMONY_EXPERIMENT(100, LmSubspace)
}  // namespace parsimony::lab
