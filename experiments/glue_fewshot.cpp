// Vanilla LoRA and Deep LoRA on many tasks with few examples each: paired differences by seed,
// their variance, t and wins.
#include <parsimony/error.hpp>

#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class GlueFewshot : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"glue-fewshot",
            "a table of tasks: paired differences of Deep LoRA over vanilla LoRA",
            "GLUE with 1024 samples, the paper's table (spec 2.11)",
            {{"smoke", 0.02}, {"quick", 0.35}, {"paper", 45}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"A8", "Deep LoRA is better than vanilla LoRA on average over the tasks",
         "spec 2.11, checklist A8", "mean of the paired differences over all tasks and seeds > 0",
         "+.028 over eight tasks; MRPC, QQP and MNLI not significant"},
        {"A8b", "Deep LoRA wins on more tasks than it loses", "spec 2.11",
         "tasks with a positive mean difference > those with a negative one", "8 to 0"}};
  }

  void declare(Config& c) const override {
    declare_language(c, {"", 5, 70, "all-dense"});
    c.declare("tasks", std::string("stsb,sst2,cola,rte,mrpc,qnli,sick"),
              "tasks; without any of their data the generated pairs stand in");
    c.declare("samples", index_t{256}, "training examples, with replacement");
    c.declare("form", std::string("narrow"), "of Deep LoRA: narrow, full or compressed");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 1000);
    if (name == "smoke") {
      c.preset("seeds", index_t{2});
      c.preset("steps", index_t{2});
      c.preset("tasks", std::string("stsb,cola,rte"));
    }
    if (name == "paper") {
      c.preset("samples", index_t{1024});
      c.preset("form", std::string("full"));
    }
  }

  void run(Run& run) const override;
};

struct TaskScores {
  std::string name;
  index_t dev = 0;  // examples
  std::vector<double> vanilla, deep;
  std::vector<double> differences() const {
    std::vector<double> d;
    for (std::size_t i = 0; i < deep.size(); ++i) d.push_back(deep[i] - vanilla[i]);
    return d;
  }
};

void draw(Run& run, const std::vector<TaskScores>& scores) {
  Figure f;
  f.name = "table";
  f.title = "Deep LoRA over vanilla LoRA by task";
  f.caption =
      "Left: mean of the task's metric. Right: mean paired difference with its standard error. Dev "
      "examples:";
  for (const TaskScores& task : scores) {
    f.caption +=
        (&task == &scores.front() ? " " : ", ") + task.name + " " + std::to_string(task.dev);
  }
  f.caption += ".";
  Panel& p = f.panel();
  p.y_label = "metric on dev";
  Panel& d = f.panel();
  d.y_label = "difference";
  std::vector<double> x, vanilla, deep, mean, low, high;
  for (const TaskScores& task : scores) {
    p.categories.push_back(task.name);
    d.categories.push_back(task.name);
    x.push_back(static_cast<double>(x.size()));
    vanilla.push_back(mean_of(task.vanilla));
    deep.push_back(mean_of(task.deep));
    const Spread s = spread(task.differences());
    const double error = s.count > 1 ? s.sample_std / std::sqrt(static_cast<double>(s.count)) : 0.0;
    mean.push_back(s.mean);
    low.push_back(s.mean - error);
    high.push_back(s.mean + error);
  }
  p.bars("vanilla LoRA", x, vanilla);
  p.bars("Deep LoRA", x, deep);
  d.legend = Panel::none;
  Series& bars = d.bars("", x, mean);
  bars.low = low;
  bars.high = high;
  bars.color = 1;
  d.horizontal(0);
  run.figure(f);
}

void GlueFewshot::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const auto seeds = lab.seeds();
  const TaskChoice choice = lab.available(listed_names(c, "tasks"));
  const std::vector<std::string>& tasks = choice.found;

  std::vector<LanguageJob> jobs;
  for (const std::string& name : tasks) {
    for (const std::uint64_t seed : seeds) {
      for (const std::string& method : {std::string("lora"), c.text("form")}) {
        jobs.push_back(
            {name + (method == "lora" ? " vanilla seed" : " deep seed") + std::to_string(seed),
             &lab.task(name),
             lab.options(method, c.integer("samples", 1, 1 << 30), seed),
             {},
             {}});
      }
    }
  }
  const auto records = lab.run("runs", jobs);

  std::vector<TaskScores> scores;
  std::vector<double> all_vanilla, all_deep;
  std::string measured;
  index_t better = 0, worse = 0;
  std::size_t at = 0;
  for (const std::string& name : tasks) {
    TaskScores task{name, lab.task(name).dev.size(), {}, {}};
    const std::string& metric = lab.task(name).task.metric;
    for (std::size_t s = 0; s < seeds.size(); ++s) {
      task.vanilla.push_back(records[at++]->last(metric));
      task.deep.push_back(records[at++]->last(metric));
    }
    const std::vector<double> d = task.differences();
    all_vanilla.insert(all_vanilla.end(), task.vanilla.begin(), task.vanilla.end());
    all_deep.insert(all_deep.end(), task.deep.begin(), task.deep.end());
    better += mean_of(d) > 0 ? 1 : 0;
    worse += mean_of(d) < 0 ? 1 : 0;
    measured += (measured.empty() ? "" : "; ") + name + " " + number(mean_of(task.vanilla)) +
                " -> " + number(mean_of(task.deep)) + ", " + paired_text(task.deep, task.vanilla);
    run.array("vanilla." + name, as_matrix({task.vanilla}));
    run.array("deep." + name, as_matrix({task.deep}));
    scores.push_back(std::move(task));
  }
  const std::string overall = "overall " + paired_text(all_deep, all_vanilla) + ": " + measured;
  const std::string count = std::to_string(better) + " to " + std::to_string(worse);
  if (!choice.missing.empty()) {
    run.claim_not_run("A8", "no data for " + choice.missing + "; " + overall);
    run.claim_not_run("A8b", "no data for " + choice.missing + "; " + count);
  } else {
    lab.judge_anywhere("A8", mean_of(all_deep) > mean_of(all_vanilla), overall);
    lab.judge_anywhere("A8b", better > worse, count);
  }
  draw(run, scores);
}

}  // namespace
PARSIMONY_EXPERIMENT(105, GlueFewshot)
}  // namespace parsimony::lab
