// Is it the method or the setting? Vanilla LoRA with the scaling that PEFT gives it, over learning
// rates, at a larger rank, and on queries and values only, beside Deep LoRA at the paper's setting.
#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class LoraControls : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"lora-controls",
            "honesty controls: vanilla LoRA with α/r, other learning rates, query and value only",
            "controls beside the few-shot comparison (spec 2.11 note, 6)",
            {{"smoke", 0.02}, {"quick", 0.25}, {"paper", 4}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"LC1", "Deep LoRA's gain is not one of a better learning rate for it", "honesty control",
         "paired t >= 2 of Deep LoRA at its rate over vanilla at its best of all rates, which is "
         "chosen on what is reported, in vanilla's favour",
         "not in the paper, which has one rate"},
        {"LC2", "Deep LoRA's gain is not one over a baseline without scaling", "honesty control",
         "paired t >= 2 of Deep LoRA over vanilla LoRA as in PEFT (Kaiming, α/r) at its best rate",
         "not in the paper, whose baseline has std 1 and no α/r"},
        {"LC3", "With α/r vanilla LoRA survives a large rank",
         "honesty control for the sweep over ranks",
         "PEFT's vanilla LoRA: mean training loss of the last fifth of the steps at the largest "
         "rank at most 1.25 x that at the smallest",
         "not in the paper"},
        {"LC4", "On queries and values only, with a larger rate for vanilla, nothing is gained",
         "spec 2.11, unpublished control of the authors",
         "|mean paired difference| <= .02, Deep LoRA at its rate against vanilla at 5 times its "
         "own",
         ".516 against .522 over 8 tasks"}};
  }

  void declare(Config& c) const override {
    declare_language(c, {"stsb", 5, 60, "all-dense"});
    c.declare("samples", index_t{64}, "training examples, with replacement");
    c.declare("form", std::string("narrow"), "of Deep LoRA: narrow, full or compressed");
    c.declare("factors", std::vector<double>{0.2, 1, 5},
              "learning rates of vanilla LoRA over its lr");
    c.declare("large_rank", index_t{64}, "rank of the control with α/r at a large rank");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 200);
    if (name == "smoke") {
      c.preset("samples", index_t{8});
      c.preset("factors", std::vector<double>{1});
      c.preset("large_rank", index_t{16});
      c.preset("seeds", index_t{2});
    } else if (name == "paper") {
      c.preset("form", std::string("full"));
      c.preset("factors", std::vector<double>{0.1, 0.3, 1, 3, 10});
    }
  }

  void run(Run& run) const override;
};

/// A setting to compare, with its runs over the seeds.
struct Variant {
  std::string name;
  FinetuneOptions options;
  std::vector<double> score, loss;
};

std::vector<Variant> variants(const Config& c, const LanguageLab& lab) {
  const index_t samples = c.integer("samples", 1, 1 << 30);
  const FinetuneOptions vanilla = lab.options("lora", samples, 0);
  const FinetuneOptions deep = lab.options(c.text("form"), samples, 0);
  std::vector<Variant> all{{"deep", deep, {}, {}}};
  const auto at_rate = [&](FinetuneOptions o, double factor) {
    o.learning_rate = lab.rates().vanilla * factor;
    return o;
  };
  FinetuneOptions peft = vanilla;
  const index_t rank = c.integer("rank");
  peft.adapter.set("init", std::string("peft")).set("alpha", static_cast<double>(rank));
  for (const double factor : c.reals("factors")) {
    if (!(factor > 0)) throw ValueError("factors: expected numbers above 0; got " + number(factor));
    all.push_back({"vanilla x" + number(factor), at_rate(vanilla, factor), {}, {}});
    all.push_back({"peft x" + number(factor), at_rate(peft, factor), {}, {}});
  }
  FinetuneOptions large = peft;
  const index_t large_rank = c.integer("large_rank", 1, 1 << 20);
  large.adapter.set("rank", large_rank);
  all.push_back({"peft r" + std::to_string(large_rank), large, {}, {}});
  FinetuneOptions narrow_set = at_rate(vanilla, 5);
  narrow_set.targets = "query-value";
  all.push_back({"vanilla qv x5", narrow_set, {}, {}});
  narrow_set = deep;
  narrow_set.targets = "query-value";
  all.push_back({"deep qv", narrow_set, {}, {}});
  return all;
}

const Variant& named(const std::vector<Variant>& all, const std::string& name) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Variant& v) { return v.name == name; });
  if (found == all.end()) throw ValueError("factors: expected 1 among them");
  return *found;
}

/// The variant of a family ("vanilla x", "peft x") with the best mean.
const Variant& best(const std::vector<Variant>& all, const std::string& family) {
  const Variant* found = nullptr;
  for (const Variant& v : all) {
    if (v.name.compare(0, family.size(), family) != 0) continue;
    if (found == nullptr || mean_of(v.score) > mean_of(found->score)) found = &v;
  }
  return *found;
}

void draw(Run& run, const LanguageLab& lab, const EncodedTask& task,
          const std::vector<double>& factors, const std::vector<Variant>& all) {
  Figure f;
  f.name = "controls";
  f.title = "Controls: " + lab.task_title();
  f.caption =
      "Vanilla LoRA as the paper's baseline and as in PEFT over learning rates, in units of "
      "vanilla's, with Deep LoRA at its own as a line; means over seeds, bands half a "
      "standard deviation each way. Right: adapters on queries and values (qv), vanilla at 5 times "
      "the rate, and PEFT's at the large rank; bars of one standard deviation.";
  const Variant& deep = all.front();
  std::vector<std::string> names;
  for (const double factor : factors) names.push_back(number(factor));
  for (const bool right : {false, true}) {
    Panel& p = f.panel();
    p.x_label = "learning rate";
    p.y_label = right ? "training loss" : metric_label(task);
    p.categories = names;
    for (const std::string family : {"vanilla", "peft"}) {
      std::vector<std::vector<double>> values;
      for (const std::string& name : names) {
        const Variant& v = named(all, family + " x" + name);
        values.push_back(right ? v.loss : v.score);
      }
      half_band(p, family == "peft" ? "α/r, as in PEFT" : "vanilla LoRA", values);
    }
    p.horizontal(mean_of(right ? deep.loss : deep.score), "Deep LoRA");
  }
  Panel& others = f.panel();
  others.y_label = metric_label(task);
  others.legend = Panel::none;
  std::vector<double> x, mean, low, high;
  for (const Variant& v : all) {
    if (v.name.find(" x") != std::string::npos && v.name != "vanilla qv x5") continue;
    others.categories.push_back(v.name == "vanilla qv x5" ? "vanilla qv" : v.name);
    const Spread s = spread(v.score);
    x.push_back(static_cast<double>(x.size()));
    mean.push_back(s.mean);
    low.push_back(s.mean - s.population_std);
    high.push_back(s.mean + s.population_std);
  }
  Series& bars = others.bars("", x, mean);
  bars.low = low;
  bars.high = high;
  run.figure(f);
}

void LoraControls::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  const auto seeds = lab.seeds();
  std::vector<Variant> all = variants(c, lab);
  named(all, "vanilla x1");  // refuse before training
  std::vector<LanguageJob> jobs;
  for (const Variant& v : all) {
    for (const std::uint64_t seed : seeds) {
      FinetuneOptions o = v.options;
      o.seed = seed;
      jobs.push_back({v.name + " seed" + std::to_string(seed), &task, o, {}, {}});
    }
  }
  const auto records = lab.run("runs", jobs);
  std::size_t at = 0;
  for (Variant& v : all) {
    for (std::size_t s = 0; s < seeds.size(); ++s, ++at) {
      v.score.push_back(records[at]->last(task.task.metric));
      const std::vector<double> loss = records[at]->series("train_loss");
      const auto last = static_cast<long>(std::max<std::size_t>(1, loss.size() / 5));
      v.loss.push_back(mean_of({loss.end() - last, loss.end()}));
    }
  }

  const Variant& deep = all.front();
  const auto against = [&](const std::string& id, const Variant& other) {
    lab.judge(id, paired_statistics(deep.score, other.score).t >= 2,
              "deep " + spread_text(deep.score) + ", " + other.name + " " +
                  spread_text(other.score) + ": " + paired_text(deep.score, other.score));
  };
  against("LC1", best(all, "vanilla x"));
  against("LC2", best(all, "peft x"));
  const Variant& small = named(all, "peft x1");
  const Variant& large = named(all, "peft r" + std::to_string(c.integer("large_rank")));
  lab.judge_anywhere("LC3", mean_of(large.loss) <= 1.25 * mean_of(small.loss),
                     lab.task_title() + ": rank " + std::to_string(c.integer("rank")) + " " +
                         number(mean_of(small.loss)) + ", rank " +
                         std::to_string(c.integer("large_rank")) + " " +
                         number(mean_of(large.loss)));
  const Variant& vanilla_qv = named(all, "vanilla qv x5");
  const Variant& deep_qv = named(all, "deep qv");
  const double gap = mean_of(deep_qv.score) - mean_of(vanilla_qv.score);
  lab.judge("LC4", std::abs(gap) <= 0.02,
            "deep " + spread_text(deep_qv.score) + ", vanilla " + spread_text(vanilla_qv.score) +
                ": " + paired_text(deep_qv.score, vanilla_qv.score));
  for (const Variant& v : all) {
    run.array("score." + v.name, as_matrix({v.score}));
    run.array("train_loss." + v.name, as_matrix({v.loss}));
  }
  draw(run, lab, task, c.reals("factors"), all);
}

}  // namespace
PARSIMONY_EXPERIMENT(107, LoraControls)
}  // namespace parsimony::lab
