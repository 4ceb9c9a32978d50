// Few-shot fine-tuning on STS-B: vanilla LoRA and Deep LoRA on 16, 64 and 256 examples, paired by
// seed.
#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class StsbFewshot : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"stsb-fewshot",
            "few examples: Deep LoRA against vanilla LoRA, paired by seed",
            "few-shot STS-B, the figure of 16, 64 and 256 samples (spec 2.7)",
            {{"smoke", 0.02}, {"quick", 0.2}, {"paper", 25}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"A5",
         "Deep LoRA is at least as good as vanilla LoRA in paired means, most so with the fewest "
         "examples",
         "spec 2.7, checklist A5",
         "mean paired difference of Pearson's r >= 0 at every n and largest at the smallest; "
         "Deep LoRA wins >= 75 % of all pairs",
         "+.069, +.016, +.014 at n = 16, 64, 256; wins 52/60"}};
  }

  void declare(Config& c) const override {
    declare_language(c, {"stsb", 5, 80, "all-dense"});
    c.declare("samples", std::vector<index_t>{16, 64, 256}, "training examples, with replacement");
    c.declare("form", std::string("narrow"), "of Deep LoRA: narrow, full or compressed");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 20, 500);
    if (name == "smoke") c.preset("samples", std::vector<index_t>{8, 16});
    if (name == "paper") c.preset("form", std::string("full"));
  }

  void run(Run& run) const override;
};

/// Scores by size and seed.
using Scores = std::vector<std::vector<double>>;

void draw(Run& run, const LanguageLab& lab, const EncodedTask& task,
          const std::vector<index_t>& sizes, const Scores& vanilla, const Scores& deep) {
  Figure f;
  f.name = "fewshot";
  f.title = "Few examples: " + lab.task_title();
  f.caption = task.task.metric + " on " + std::to_string(task.dev.size()) + " examples of " +
              lab.task_title() + "'s dev set after training on n examples; means over " +
              std::to_string(vanilla.front().size()) +
              " seeds, bands half a standard deviation each way, as in the paper.";
  Panel& p = f.panel();
  p.x_label = "training examples n";
  p.y_label = metric_label(task);
  p.categories = as_names(sizes);
  half_band(p, "vanilla LoRA", vanilla);
  half_band(p, "Deep LoRA", deep);
  Panel& d = f.panel();
  d.x_label = "training examples n";
  d.y_label = "difference, paired by seed";
  d.categories = as_names(sizes);
  d.legend = Panel::none;
  d.horizontal(0);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    std::vector<double> difference;
    for (std::size_t s = 0; s < deep[i].size(); ++s) {
      difference.push_back(deep[i][s] - vanilla[i][s]);
    }
    d.points("", std::vector<double>(difference.size(), static_cast<double>(i)), difference).color =
        1;
  }
  run.figure(f);
}

void StsbFewshot::run(Run& run) const {
  const Config& c = run.config();
  const std::vector<index_t> sizes = ascending_integers(c, "samples", 1, 1 << 30, "examples");
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  const auto seeds = lab.seeds();

  std::vector<LanguageJob> jobs;
  for (const index_t n : sizes) {
    for (const std::uint64_t seed : seeds) {
      for (const std::string& method : {std::string("lora"), c.text("form")}) {
        jobs.push_back({(method == "lora" ? "vanilla n" : "deep n") + std::to_string(n) + " seed" +
                            std::to_string(seed),
                        &task,
                        lab.options(method, n, seed),
                        {},
                        {}});
      }
    }
  }
  const auto records = lab.run("runs", jobs);

  Scores vanilla, deep;
  std::string measured;
  bool holds = true;
  index_t wins = 0;
  std::vector<double> gaps;
  std::size_t at = 0;
  for (const index_t n : sizes) {
    vanilla.emplace_back();
    deep.emplace_back();
    for (std::size_t s = 0; s < seeds.size(); ++s) {
      vanilla.back().push_back(records[at++]->last(task.task.metric));
      deep.back().push_back(records[at++]->last(task.task.metric));
    }
    const PairedStatistics paired = paired_statistics(deep.back(), vanilla.back());
    gaps.push_back(paired.difference.mean);
    wins += paired.wins;
    measured += (measured.empty() ? "n " : "; n ") + std::to_string(n) + ": " +
                paired_text(deep.back(), vanilla.back()) + ", vanilla " +
                spread_text(vanilla.back()) + ", deep " + spread_text(deep.back());
    holds = holds && paired.difference.mean >= 0;
  }
  holds = holds && gaps.front() == *std::max_element(gaps.begin(), gaps.end()) &&
          static_cast<double>(wins) >= 0.75 * static_cast<double>(sizes.size() * seeds.size());
  lab.judge("A5", holds, measured);
  run.array("vanilla", as_matrix(vanilla));
  run.array("deep", as_matrix(deep));
  draw(run, lab, task, sizes, vanilla, deep);
}

}  // namespace
PARSIMONY_EXPERIMENT(101, StsbFewshot)
}  // namespace parsimony::lab
