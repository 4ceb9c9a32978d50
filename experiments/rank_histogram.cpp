// How many ranks of an update are in use: numerical ranks of every adapted matrix after few-shot
// fine-tuning, vanilla LoRA against full-width Deep LoRA.
#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class RankHistogram : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"rank-histogram",
            "numerical ranks of the updates: Deep LoRA's are small, vanilla LoRA's are full",
            "histogram of numerical ranks after few-shot STS-B (spec 2.8, 4.2)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 0.5}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {{"A7",
             "Every update of vanilla LoRA has the full rank r; of Deep LoRA most have a rank far "
             "below the width",
             "spec 2.8, checklist A7",
             "vanilla: all matrices at rank r; Deep LoRA: median 0 and >= 80 % at rank <= 4",
             "74/74 at rank 8; median 0, 68/74 at rank <= 4 (40 at 0)"},
            {"A7b",
             "Deep LoRA's updates have lower numerical ranks than vanilla LoRA's, though nothing "
             "limits them to r",
             "a weaker form of A7",
             "mean of min(rank, r) over matrices and seeds: Deep LoRA's below vanilla's",
             "1.4 against 8"}};
  }

  void declare(Config& c) const override {
    declare_language(c, {"stsb", 1, 200, "all-dense"});
    c.declare("samples", index_t{256}, "training examples, with replacement");
    c.declare("form", std::string("full"), "of Deep LoRA: narrow, full or compressed");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 1, 500);
    if (name == "smoke") {
      c.preset("seeds", index_t{1});
      c.preset("samples", index_t{16});
      c.preset("targets", std::string("attention-mlp"));
    }
  }

  void run(Run& run) const override;
};

/// Keeps, for every adapted matrix, its leading singular values and its numerical rank.
void keep_spectra(Stage& stage, Model<float>& model, bool deep) {
  for (const auto& [name, adapter] : adapters_of(model)) {
    const Tensor<float> spectrum = update_spectrum(*adapter);
    const index_t kept = std::min<index_t>(spectrum.size(), 16);
    stage.keep("spectrum." + name, cast<double>(spectrum.rows(0, kept).clone()));
    stage.keep("rank." + name,
               static_cast<double>(numerical_rank(spectrum, adapter->shape(), deep)));
  }
}

struct Ranks {
  std::vector<std::string> names;
  std::vector<double> ranks;  // of every matrix of every seed, at most r
};

Ranks ranks_of(const std::vector<const Record*>& records, double r) {
  Ranks out;
  for (const Record* record : records) {
    for (const auto& [key, spectrum] : record->tensors()) {
      const std::string name = key.substr(std::string("spectrum.").size());
      out.names.push_back(name);
      out.ranks.push_back(std::min(r, record->scalar("rank." + name)));
    }
  }
  return out;
}

double share_at_most(const std::vector<double>& values, double limit) {
  const auto n = std::count_if(values.begin(), values.end(), [&](double v) { return v <= limit; });
  return static_cast<double>(n) / static_cast<double>(values.size());
}

void draw(Run& run, const LanguageLab& lab, index_t r, const Ranks& vanilla, const Ranks& deep) {
  Figure f;
  f.name = "ranks";
  f.title = "Numerical ranks: " + lab.task_title();
  f.caption = "How many of the " + std::to_string(vanilla.ranks.size()) +
              " adapted matrices end with which numerical rank (" + std::to_string(r) +
              ": that or more).";
  Panel& p = f.panel();
  p.x_label = "numerical rank of ΔW";
  p.y_label = "matrices";
  for (const auto* ranks : {&vanilla, &deep}) {
    std::vector<double> at, count;
    for (index_t k = 0; k <= r; ++k) {
      const auto value = static_cast<double>(k);
      at.push_back(value);
      count.push_back(
          static_cast<double>(std::count(ranks->ranks.begin(), ranks->ranks.end(), value)));
    }
    p.bars(ranks == &vanilla ? "vanilla LoRA" : "Deep LoRA", at, count);
  }
  run.figure(f);
}

void RankHistogram::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  const index_t r = c.integer("rank", 1, 1 << 20);
  std::vector<LanguageJob> jobs;
  for (const std::string& method : {std::string("lora"), c.text("form")}) {
    for (const std::uint64_t seed : lab.seeds()) {
      const bool deep = method != "lora";
      jobs.push_back(
          {(deep ? "deep seed" : "vanilla seed") + std::to_string(seed),
           &task,
           lab.options(method, c.integer("samples", 1, 1 << 30), seed),
           {},
           [deep](Stage& stage, Model<float>& model) { keep_spectra(stage, model, deep); }});
    }
  }
  const auto records = lab.run("runs", jobs);
  const auto middle = records.begin() + static_cast<long>(records.size() / 2);
  const Ranks vanilla = ranks_of({records.begin(), middle}, static_cast<double>(r));
  const Ranks deep = ranks_of({middle, records.end()}, static_cast<double>(r));

  const double full = 1 - share_at_most(vanilla.ranks, static_cast<double>(r) - 0.5);
  const double low = share_at_most(deep.ranks, 4);
  const std::string measured = "of " + std::to_string(deep.ranks.size()) + " matrices: vanilla " +
                               number(100 * full) + " % at rank " + std::to_string(r) +
                               "; Deep LoRA median " + number(median_of(deep.ranks)) + ", " +
                               number(100 * share_at_most(deep.ranks, 0)) + " % at 0, " +
                               number(100 * low) + " % at <= 4";
  lab.judge("A7", full == 1 && median_of(deep.ranks) == 0 && low >= 0.8, measured);
  lab.judge_anywhere("A7b", mean_of(deep.ranks) < mean_of(vanilla.ranks),
                     "mean " + number(mean_of(deep.ranks)) + " against " +
                         number(mean_of(vanilla.ranks)) + " on " + lab.task_title());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    for (const auto& [key, spectrum] : records[i]->tensors()) {
      run.array(jobs[i].name + "." + key, cast<float>(spectrum));
    }
  }
  draw(run, lab, r, vanilla, deep);
}

}  // namespace
PARSIMONY_EXPERIMENT(102, RankHistogram)
}  // namespace parsimony::lab
