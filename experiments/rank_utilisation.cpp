// How much of their rank the methods use: spectra of ΔW by method after the same training.
#include <algorithm>
#include <cmath>

#include "rivals.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class RankUtilisation : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"rank-utilisation",
            "spectra of the updates by method: Deep LoRA's are the steepest",
            "numerical ranks after few-shot training (spec 2.8, 4.2), for every adapter method",
            {{"smoke", 0.02}, {"quick", 0.25}, {"paper", 15}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"RU1", "At the same rank Deep LoRA uses fewer directions than vanilla LoRA", "spec 2.8",
         "narrow, same rank, each at its tuned rate: mean effective rank exp(entropy of σ/Σσ) of "
         "ΔW "
         "over matrices and seeds below vanilla's, paired t over seeds <= -2",
         "numerical ranks 0-4 of most matrices against 8 of all (STS-B, full width)"},
        {"RU2", "Deep LoRA of full width, which nothing limits, is the most parsimonious of all",
         "spec 2.8",
         "its mean effective rank over matrices and seeds below that of each other method (the "
         "other forms of Deep LoRA apart)",
         "no number for the other methods"},
        {"RU2b", "The same, where an update that did not move has no directions",
         "spec 4.2; added after RU2 was seen to fail",
         "RU2 with Deep LoRA's matrices whose largest singular value is at most 1e-3 counted as 0, "
         "the paper's rule for its numerical ranks",
         "no number for the other methods"},
        {"RU3", "Without parsimony a method fills the rank that its form allows", "methods 1",
         "numerical rank equal to r (LoRA and its kin, VeRA, LoRA-XS, NOLA), 2r (OLoRA, PiSSA), "
         "the "
         "smaller side (DoRA, MoRA type 6) in >= 90 % of the matrices, each",
         "r, 2r, min(m, n)"},
        {"RU4", "Parsimony costs no quality", "spec 2.7",
         "mean paired difference of the metric, Deep LoRA of full width against vanilla LoRA, "
         ">= -.02",
         "+.014 at n = 256"}};
  }

  void declare(Config& c) const override {
    declare_rivals(c, {"sst2", 5, 40, "all-linear"});
    c.declare("samples", index_t{256}, "training examples, with replacement");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 500);
    if (name == "smoke") {
      c.preset("samples", index_t{8});
      c.preset("seeds", index_t{1});
      c.preset("steps", index_t{2});
      c.preset("rank", index_t{4});
      c.preset("targets", std::string("query-value"));
      c.preset("dev_examples", index_t{16});
    }
  }

  void run(Run& run) const override;
};

constexpr index_t shown = 32;  // singular values

/// exp of the entropy of σ/Σσ: 1 if one direction holds all, the rank if all are alike.
double effective_rank(const Tensor<float>& spectrum) {
  double total = 0, entropy = 0;
  for (const float s : spectrum) total += s;
  for (const float s : spectrum) {
    const double share = total > 0 ? s / total : 0.0;
    if (share > 0) entropy -= share * std::log(share);
  }
  return std::exp(entropy);
}

/// ‖ΔW‖_F² / σ₁².
double stable_rank(const Tensor<float>& spectrum) {
  double squares = 0;
  for (const float s : spectrum) squares += static_cast<double>(s) * s;
  const double largest = spectrum.size() > 0 ? spectrum.data()[0] : 0.0;
  return largest > 0 ? squares / (largest * largest) : 0.0;
}

/// Keeps, a row an adapted matrix, σ/σ₁ and the ranks: numerical, effective, stable, largest
/// possible (the smaller side), and effective where the update moved.
void keep_ranks(Stage& stage, Model<float>& model, bool deep) {
  std::vector<std::vector<double>> spectra, ranks;
  for (const auto& [name, adapter] : adapters_of(model)) {
    const Tensor<float> s = update_spectrum(*adapter);
    const Shape& shape = adapter->shape();
    std::vector<double> scaled(shown, 0.0);
    const double largest = s.size() > 0 && s.data()[0] > 0 ? s.data()[0] : 1.0;
    for (index_t i = 0; i < std::min(shown, s.size()); ++i) {
      scaled[static_cast<std::size_t>(i)] = s.data()[i] / largest;
    }
    spectra.push_back(scaled);
    ranks.push_back({static_cast<double>(numerical_rank(s, shape, deep)), effective_rank(s),
                     stable_rank(s), static_cast<double>(std::min(shape[0], shape[1])),
                     deep && s.data()[0] <= 1e-3F ? 0.0 : effective_rank(s)});
  }
  stage.keep("spectra", cast<double>(as_matrix(spectra)));
  stage.keep("ranks", cast<double>(as_matrix(ranks)));
}

/// A method's runs over the seeds.
struct Usage {
  Rival rival;
  std::vector<double> score;
  std::vector<double> numerical, effective, stable, side, moved;  // of every matrix and seed
  std::vector<double> effective_by_seed;
  std::vector<double> spectrum;  // median over matrices and seeds
};

Usage usage_of(const Rival& rival, const std::vector<const Record*>& records,
               const std::string& metric) {
  Usage u;
  u.rival = rival;
  std::vector<std::vector<double>> columns(shown);
  for (const Record* record : records) {
    u.score.push_back(record->last(metric));
    const Tensor<double>& ranks = record->tensor("ranks");
    const Tensor<double>& spectra = record->tensor("spectra");
    std::vector<double> own;
    for (index_t i = 0; i < ranks.dim(0); ++i) {
      u.numerical.push_back(ranks.at({i, 0}));
      own.push_back(ranks.at({i, 1}));
      u.stable.push_back(ranks.at({i, 2}));
      u.side.push_back(ranks.at({i, 3}));
      u.moved.push_back(ranks.at({i, 4}));
      for (index_t k = 0; k < shown; ++k) {
        columns[static_cast<std::size_t>(k)].push_back(spectra.at({i, k}));
      }
    }
    u.effective_by_seed.push_back(mean_of(own));
    u.effective.insert(u.effective.end(), own.begin(), own.end());
  }
  for (const auto& column : columns) u.spectrum.push_back(median_of(column));
  return u;
}

const Usage& named(const std::vector<Usage>& all, const std::string& name) {
  return *std::find_if(all.begin(), all.end(),
                       [&](const Usage& u) { return u.rival.name == name; });
}

bool is_deep(const Rival& rival) { return rival.options.method == "deep-lora"; }

void draw_spectra(Run& run, const LanguageLab& lab, const std::vector<Usage>& all) {
  Figure f;
  f.name = "spectra";
  f.title = "Singular values of ΔW by method: " + lab.task_title();
  f.caption =
      "σᵢ / σ₁ of ΔW after the same training, median over all adapted matrices and seeds, on a "
      "log axis; a curve ends where its form has no more. Vanilla LoRA is dashed in each panel.";
  const std::vector<std::pair<std::string, std::vector<std::string>>> families = {
      {"LoRA and its kin", {"lora", "rslora", "lora-plus", "dora"}},
      {"from W, or one square matrix", {"pissa", "olora", "mora"}},
      {"fewer numbers", {"vera", "lora-xs", "nola"}},
      {"Deep LoRA", {"deep", "deep-compressed", "deep-full"}}};
  for (const auto& [title, names] : families) {
    Panel& p = f.panel(title);
    p.x_label = "index i";
    p.y_label = "σᵢ / σ₁";
    p.log_y = true;
    p.y_range = {1e-8, 2};
    p.x_range = {0, static_cast<double>(shown) + 1};
    p.legend = Panel::below;
    const auto curve = [&](const std::string& name) -> Series& {
      const Usage& u = named(all, name);
      std::vector<double> x, y;
      for (std::size_t i = 0; i < u.spectrum.size(); ++i) {
        if (u.spectrum[i] <= 0) break;
        x.push_back(static_cast<double>(i + 1));
        y.push_back(u.spectrum[i]);
      }
      return p.line(u.rival.label, x, y);
    };
    for (std::size_t i = 0; i < names.size(); ++i) {
      Series& s = curve(names[i]);
      s.style = Series::solid_markers;
      s.color = static_cast<int>(i);
    }
    Series& s = curve("vanilla");
    s.style = Series::dash;
    s.color = 6;
  }
  run.figure(f);
}

void draw_ranks(Run& run, const LanguageLab& lab, const EncodedTask& task,
                const std::vector<Usage>& all) {
  Figure f;
  f.name = "ranks";
  f.title = "Ranks of ΔW by method: " + lab.task_title();
  f.caption =
      "Means over all adapted matrices and seeds; bars of one standard deviation. Effective rank: "
      "exp of the entropy of σ/Σσ. Stable rank: ‖ΔW‖² / σ₁². Numerical rank: singular values "
      "above single precision's noise (Deep LoRA: 0 where σ₁ <= 1e-3). Last: the metric, over "
      "seeds.";
  const std::vector<std::pair<std::string, std::vector<double> Usage::*>> panels = {
      {"effective rank", &Usage::effective},
      {"stable rank", &Usage::stable},
      {"numerical rank", &Usage::numerical},
      {metric_label(task), &Usage::score}};
  for (const auto& [label, what] : panels) {
    Panel& p = f.panel();
    p.y_label = label;
    p.legend = Panel::none;
    std::vector<double> x, mean, low, high;
    for (const Usage& u : all) {
      const Spread s = spread(u.*what);
      p.categories.push_back(u.rival.label);
      x.push_back(static_cast<double>(x.size()));
      mean.push_back(s.mean);
      low.push_back(std::max(0.0, s.mean - s.population_std));
      high.push_back(s.mean + s.population_std);
    }
    Series& bars = p.bars("", x, mean);
    bars.low = low;
    bars.high = high;
    bars.color = static_cast<int>(f.panels.size()) - 1;
  }
  run.figure(f);
}

void RankUtilisation::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  const index_t r = c.integer("rank", 1, 1 << 20);
  const std::vector<Rival> rivals = Rivals(c, lab).at_rank(r);
  const auto seeds = lab.seeds();
  std::vector<LanguageJob> jobs;
  for (const Rival& rival : rivals) {
    const bool deep = is_deep(rival);
    for (const std::uint64_t seed : seeds) {
      jobs.push_back(
          {rival.name + " seed" + std::to_string(seed),
           &task,
           with_run(rival, c.integer("samples", 1, 1 << 30), seed),
           {},
           [deep](Stage& stage, Model<float>& model) { keep_ranks(stage, model, deep); }});
    }
  }
  const auto records = lab.run("runs", jobs);
  std::vector<Usage> all;
  for (std::size_t i = 0; i < rivals.size(); ++i) {
    const auto first = records.begin() + static_cast<long>(i * seeds.size());
    all.push_back(
        usage_of(rivals[i], {first, first + static_cast<long>(seeds.size())}, task.task.metric));
  }

  const Usage& vanilla = named(all, "vanilla");
  const Usage& narrow = named(all, "deep");
  const Usage& full = named(all, "deep-full");
  std::string measured;
  bool lowest = true, lowest_moved = true, filled = true;
  std::string shares;
  for (const Usage& u : all) {
    measured += (measured.empty() ? "" : ", ") + u.rival.name + " " + number(mean_of(u.effective));
    if (is_deep(u.rival)) continue;
    lowest = lowest && mean_of(full.effective) < mean_of(u.effective);
    lowest_moved = lowest_moved && mean_of(full.moved) < mean_of(u.effective);
    const std::string& name = u.rival.name;
    std::size_t as_form = 0;
    for (std::size_t i = 0; i < u.numerical.size(); ++i) {
      const double form = name == "dora" || name == "mora"     ? u.side[i]
                          : name == "olora" || name == "pissa" ? 2.0 * static_cast<double>(r)
                                                               : static_cast<double>(r);
      as_form += u.numerical[i] == std::min(form, u.side[i]) ? 1 : 0;
    }
    const double share = static_cast<double>(as_form) / static_cast<double>(u.numerical.size());
    filled = filled && share >= 0.9;
    shares += (shares.empty() ? "" : ", ") + name + " " + number(100 * share) + " %";
  }
  const auto& a = narrow.effective_by_seed;
  const auto& b = vanilla.effective_by_seed;
  lab.judge_anywhere("RU1", paired_statistics(a, b).t <= -2,
                     lab.task_title() + ": Deep LoRA " + spread_text(a) + ", vanilla " +
                         spread_text(b) + ": " + paired_text(a, b));
  lab.judge_anywhere("RU2", lowest, lab.task_title() + ", effective ranks: " + measured);
  const auto idle = std::count(full.moved.begin(), full.moved.end(), 0.0);
  lab.judge_anywhere("RU2b", lowest_moved,
                     "Deep LoRA of full width " + number(mean_of(full.moved)) + ", " +
                         std::to_string(idle) + " of " + std::to_string(full.moved.size()) +
                         " matrices did not move");
  lab.judge_anywhere("RU3", filled,
                     "of " + std::to_string(vanilla.numerical.size()) + " matrices: " + shares);
  lab.judge("RU4", mean_of(full.score) - mean_of(vanilla.score) >= -0.02,
            paired_text(full.score, vanilla.score));
  for (const Usage& u : all) {
    run.array("spectrum." + u.rival.name, as_matrix({u.spectrum}));
    run.array("ranks." + u.rival.name, as_matrix({u.numerical, u.effective, u.stable, u.moved}));
    run.array("score." + u.rival.name, as_matrix({u.score}));
  }
  draw_spectra(run, lab, all);
  draw_ranks(run, lab, task, all);
}

}  // namespace
PARSIMONY_EXPERIMENT(112, RankUtilisation)
}  // namespace parsimony::lab
