// Progressive feature collapse in deep linear classifiers (Yaras et al. 2023, arXiv 2306.01154;
// spec 2.14): after training from a small orthogonal start the features W_l ··· W_1 X of a class
// crowd together, layer by layer at a constant rate. The measure is
//
//   D_l = trace(Σ_W) / trace(Σ_B),
//
// within-class over between-class scatter of the features of layer l, D_0 that of the data.
//
// The sources give K = 5 classes of 10 samples, an orthogonal input of 50 dimensions, the depths 4,
// 6, 8, 10, the scales 0.5, 0.25, 0.125 and the tolerance 1e-6. Taken here, since they are not
// given: square hidden factors, one-hot targets, the loss 0.5 ||W_L ··· W_1 X - Y||_F², depths
// compared at scale 0.5 and scales at depth 4 (deeper chains from smaller scales need millions of
// iterations to leave the plateau), step 0.02.
#include <parsimony/experiment.hpp>

#include "spectra.hpp"

namespace parsimony::lab {
namespace {

struct Settings {
  explicit Settings(const Config& c)
      : classes(c.integer("classes", 2, 1000)),
        samples(c.integer("samples", 2, 10000)),
        depths(c.integers("depths")),
        scales(c.reals("scales")),
        eta(c.real("eta_sum", 0, 1e6)),
        weight_decay(c.real("weight_decay", 0, 1e6)),
        tolerance(c.real("tolerance", 0, 1e300)),
        max_iterations(c.integer("max_iterations", 1, index_t{1} << 40)),
        check_every(c.integer("check_every", 1, index_t{1} << 30)) {
    if (classes * samples > 4000) {
      throw ValueError("samples: expected classes * samples <= 4000; got " +
                       std::to_string(classes * samples));
    }
    if (depths.empty() || scales.empty()) {
      throw ValueError("depths, scales: expected at least one of each; got none");
    }
    for (const index_t depth : depths) {
      if (depth < 2 || depth > 50) {
        throw ValueError("depths: expected values in 2..50; got " + std::to_string(depth));
      }
    }
    for (const double scale_of : scales) {
      if (!(scale_of >= 1e-6 && scale_of <= 10)) {
        throw ValueError("scales: expected values in 1e-6..10; got " + number(scale_of));
      }
    }
  }
  index_t classes, samples;
  std::vector<index_t> depths;
  std::vector<double> scales;
  double eta, weight_decay, tolerance;
  index_t max_iterations, check_every;

  index_t d() const { return classes * samples; }
};

/// One classifier of the comparison.
struct Case {
  Case(index_t depth_, double eps_) : depth(depth_), eps(eps_) {}
  index_t depth;
  double eps;
  const Record* record = nullptr;
  std::vector<double> before, after;  // D_0 ... D_{L-1}
  double slope = 0;                   // of log10 D_l per layer
  double r_squared = 0;

  std::string name() const { return "L" + std::to_string(depth) + "-eps" + number(eps); }
  bool converged(double tolerance) const { return record->last("train_loss") < tolerance; }
};

/// trace(Σ_W) / trace(Σ_B) of features (dim, N), the samples of a class side by side.
double collapse(const Tensor<double>& features, index_t classes, index_t samples) {
  const index_t dim = features.dim(0);
  const index_t n = features.dim(1);
  double within = 0;
  double between = 0;
  for (index_t i = 0; i < dim; ++i) {
    const double* row = features.data() + i * n;
    double mean = 0;
    for (index_t j = 0; j < n; ++j) mean += row[j] / static_cast<double>(n);
    for (index_t k = 0; k < classes; ++k) {
      double center = 0;
      for (index_t j = 0; j < samples; ++j) {
        center += row[k * samples + j] / static_cast<double>(samples);
      }
      between += (center - mean) * (center - mean) / static_cast<double>(classes);
      for (index_t j = 0; j < samples; ++j) {
        const double off = row[k * samples + j] - center;
        within += off * off / static_cast<double>(n);
      }
    }
  }
  return within / between;
}

/// D_0 ... D_{L-1} of a network on the data.
std::vector<double> collapse_by_layer(const std::vector<Tensor<double>>& factors,
                                      const Tensor<double>& x, const Settings& s) {
  std::vector<double> out;
  Tensor<double> features = x;
  out.push_back(collapse(features, s.classes, s.samples));
  for (std::size_t l = 0; l + 1 < factors.size(); ++l) {
    features = matmul(factors[l], features);
    out.push_back(collapse(features, s.classes, s.samples));
  }
  return out;
}

/// Least-squares line through (l, log10 D_l).
void fit(Case& c) {
  const auto n = static_cast<double>(c.after.size());
  double mean_x = 0;
  double mean_y = 0;
  for (std::size_t l = 0; l < c.after.size(); ++l) {
    mean_x += static_cast<double>(l) / n;
    mean_y += std::log10(c.after[l]) / n;
  }
  double xx = 0;
  double xy = 0;
  double yy = 0;
  for (std::size_t l = 0; l < c.after.size(); ++l) {
    const double x = static_cast<double>(l) - mean_x;
    const double y = std::log10(c.after[l]) - mean_y;
    xx += x * x;
    xy += x * y;
    yy += y * y;
  }
  c.slope = xy / xx;
  c.r_squared = yy > 0 ? xy * xy / (xx * yy) : 1.0;
}

class FeatureCollapse : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"feature-collapse",
            "features of deep linear classifiers collapse geometrically over the layers",
            "progressive feature collapse of the predecessor paper, arXiv 2306.01154 (spec 2.14)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 0.3}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"FC1", "After training every layer's features are more collapsed than the layer's before",
         "arXiv 2306.01154; spec 2.14", "D_{l+1} < D_l for every l < L - 1 of every classifier",
         "all layers"},
        {"FC2", "The collapse is geometric over the layers", "arXiv 2306.01154; spec 2.14",
         "R^2 of the line through (l, log D_l), for every classifier", "> 0.95"},
        {"FC3", "A smaller initialisation collapses more in each layer",
         "arXiv 2306.01154; spec 2.14", "slope of log10 D_l at the same depth, over falling scales",
         "falling"}};
  }

  void declare(Config& c) const override {
    c.declare("classes", index_t{5}, "K");
    c.declare("samples", index_t{10}, "of each class; the input has K * samples dimensions");
    c.declare("depths", std::vector<index_t>{4, 6, 8, 10}, "factors L, each with the first scale");
    c.declare("scales", std::vector<double>{0.5, 0.25, 0.125},
              "eps of the orthogonal initialisation, each with the first depth");
    c.declare("eta_sum", 0.02, "step size for the loss 0.5 ||f - Y||_F^2");
    c.declare("weight_decay", 0.0, "lambda");
    c.declare("tolerance", 1e-6, "stop when the loss is below");
    c.declare("max_iterations", index_t{50000}, "limit for each classifier");
    c.declare("check_every", index_t{10}, "iterations between checks of the loss");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("depths", std::vector<index_t>{4, 6});
      c.preset("scales", std::vector<double>{0.5, 0.25});
    }
  }

  void run(Run& run) const override;
};

void train(Run& run, const Settings& s, const Tensor<double>& x, const Tensor<double>& y, Case& c) {
  std::vector<index_t> dims(static_cast<std::size_t>(c.depth) + 1, s.d());
  dims.back() = s.classes;
  const DeepLinear<double> start(dims, {c.eps}, run.rng().split("init"));
  c.before = collapse_by_layer(start.values(), x, s);
  c.record = &run.stage(c.name(), [&](Stage& stage) {
    const DeepLinear<double> net(start.values());
    GradientDescent<double> opt(one_group(net.named_parameters(), s.weight_decay), s.eta);
    stage.track(net.named_parameters());
    stage.loop(s.max_iterations, [&](index_t step) {
      const Var<double> loss = half_squared_error(matmul(net.product(), Var<double>(x)), y);
      if (step % s.check_every == 0 || step == s.max_iterations) {
        stage.finite("train_loss", loss.item());
        stage.off_clock([&] {
          const auto layers = collapse_by_layer(net.values(), x, s);
          stage.log(step, {{"train_loss", loss.item()}, {"last_layer", layers.back()}});
        });
        if (loss.item() < s.tolerance || step == s.max_iterations) return Stage::stop;
      }
      backward(loss);
      opt.step();
      return Stage::go_on;
    });
    for (const auto& [name, var] : net.named_parameters()) stage.keep(name, var.value());
  });
  std::vector<Tensor<double>> trained;
  for (index_t l = 1; l <= c.depth; ++l) {
    trained.push_back(c.record->tensor("w" + std::to_string(l)));
  }
  c.after = collapse_by_layer(trained, x, s);
  fit(c);
}

/// Layers 0 ... n-1 as numbers.
std::vector<double> layers(std::size_t n) {
  std::vector<double> out;
  for (std::size_t l = 0; l < n; ++l) out.push_back(static_cast<double>(l));
  return out;
}

void figures(Run& run, const Settings& s, const std::vector<Case>& cases) {
  Figure f;
  f.name = "feature-collapse";
  f.title = "Progressive feature collapse";
  f.caption =
      "Within-class over between-class scatter D of the features after each layer (layer 0: "
      "the data), " +
      std::to_string(s.classes) + " classes of " + std::to_string(s.samples) +
      " samples, orthogonal input. Left: depths at ε = " + number(s.scales[0]) +
      "; dashed is the start of the deepest. Middle: scales of the initialisation at L = " +
      std::to_string(s.depths[0]) + ". Right: training losses.";
  f.order = 1;
  Panel& depth = f.panel("depth");
  Panel& eps = f.panel("scale of the initialisation");
  Panel& loss = f.panel("training loss");
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    f.panels[i].x_label = "layer";
    f.panels[i].y_label = "D";
    f.panels[i].log_y = true;
    f.panels[i].legend = Panel::bottom_left;
  }
  loss.x_label = "iteration";
  loss.y_label = "½‖f - Y‖²";
  loss.log_y = true;
  loss.log_x = true;
  const Case* deepest = &cases.front();
  for (const Case& c : cases) {
    if (c.eps == s.scales[0]) {
      depth.line("L = " + std::to_string(c.depth), layers(c.after.size()), c.after);
      if (c.depth > deepest->depth) deepest = &c;
    }
    if (c.depth == s.depths[0]) {
      eps.line("ε = " + number(c.eps), layers(c.after.size()), c.after);
    }
    loss.line("L = " + std::to_string(c.depth) + ", ε = " + number(c.eps),
              c.record->steps("train_loss"), c.record->series("train_loss"));
  }
  depth.dashed("before training", layers(deepest->before.size()), deepest->before);
  run.figure(f);
}

void FeatureCollapse::run(Run& run) const {
  const Settings s(run.config());
  Rng stream = run.rng().split("data");
  const Tensor<double> x = haar_orthogonal<double>(stream, s.d(), s.d());
  Tensor<double> y = Tensor<double>::zeros({s.classes, s.d()});
  for (index_t j = 0; j < s.d(); ++j) y.mutable_data()[j / s.samples * s.d() + j] = 1;

  std::vector<Case> cases;
  for (const index_t depth : s.depths) cases.emplace_back(depth, s.scales[0]);
  for (const double eps : s.scales) {
    if (eps != s.scales[0]) cases.emplace_back(s.depths[0], eps);
  }
  for (Case& c : cases) train(run, s, x, y, c);

  run.array("x", x);
  run.array("y", y);
  for (const Case& c : cases) {
    for (const auto& [name, tensor] : c.record->tensors()) run.array(c.name() + "." + name, tensor);
    const auto n = static_cast<index_t>(c.after.size());
    run.array(c.name() + ".collapse", Tensor<double>({n}, c.after));
  }
  run.array_note("eta_sum", exact_number(s.eta));

  std::string stuck;
  std::string rising;
  std::string curved;
  double worst_fit = 1;
  int fitted = 0;
  std::string slopes;
  for (const Case& c : cases) {
    if (!c.converged(s.tolerance)) stuck += (stuck.empty() ? "" : ", ") + c.name();
    for (std::size_t l = 0; l + 1 < c.after.size(); ++l) {
      if (!(c.after[l + 1] < c.after[l])) {
        rising += (rising.empty() ? "" : ", ") + c.name() + " layer " + std::to_string(l + 1);
      }
    }
    if (c.depth > 2) {  // a line through two points fits
      if (!(c.r_squared > 0.95)) curved += (curved.empty() ? "" : ", ") + c.name();
      worst_fit = std::min(worst_fit, c.r_squared);
      ++fitted;
    }
    slopes += (slopes.empty() ? "" : ", ") + c.name() + " " + number(std::pow(10, c.slope));
  }
  if (!stuck.empty()) {
    const std::string why = "not trained to the tolerance within max_iterations: " + stuck;
    for (const char* id : {"FC1", "FC2", "FC3"}) run.claim_not_run(id, why);
  } else {
    run.claim("FC1", rising.empty(),
              rising.empty()
                  ? "falls in every layer of " + std::to_string(cases.size()) + " classifiers"
                  : "does not fall: " + rising);
    if (fitted == 0) {
      run.claim_not_run("FC2", "needs a depth of 3 or more");
    } else {
      run.claim("FC2", curved.empty(),
                "1 - R^2 at most " + number(1 - worst_fit) + "; factor per layer: " + slopes);
    }
    std::vector<const Case*> by_scale;
    for (const Case& c : cases) {
      if (c.depth == s.depths[0]) by_scale.push_back(&c);
    }
    std::sort(by_scale.begin(), by_scale.end(),
              [](const Case* a, const Case* b) { return a->eps > b->eps; });
    if (by_scale.size() < 2) {
      run.claim_not_run("FC3", "needs two scales or more");
    } else {
      bool falling = true;
      std::string measured;
      for (std::size_t i = 0; i < by_scale.size(); ++i) {
        falling = falling && (i == 0 || by_scale[i]->slope < by_scale[i - 1]->slope);
        measured += (i == 0 ? "" : ", ") + number(by_scale[i]->slope) + " at eps " +
                    number(by_scale[i]->eps);
      }
      run.claim("FC3", falling, "L = " + std::to_string(s.depths[0]) + ": " + measured);
    }
  }
  figures(run, s, cases);
}

}  // namespace
PARSIMONY_EXPERIMENT(80, FeatureCollapse)
}  // namespace parsimony::lab
