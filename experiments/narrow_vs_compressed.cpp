// The three forms of Deep LoRA on a few examples: full width, compressed from the first gradient,
// and narrow with random factors.
#include "lm_support.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class NarrowVsCompressed : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"narrow-vs-compressed",
            "compressed Deep LoRA follows the full-width one; random narrow factors lag",
            "narrow, wide and compressed adapters on few-shot STS-B (spec 2.10)",
            {{"smoke", 0.02}, {"quick", 0.2}, {"paper", 2}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"A4",
         "The training loss of compressed Deep LoRA follows the full-width one's; that of random "
         "narrow factors falls later",
         "spec 2.10, checklist A4",
         "means over seeds, smoothed (EMA .99) at 1/4, 1/2, 3/4 and all of the steps: compressed "
         "within 15 % of full, narrow above both",
         "full 2.93, 1.80, 1.10, .68; compressed 2.87, 1.76, 1.08, .67; narrow 4.03, 3.34, "
         "2.34, 1.49"},
        {"A4b", "Without smoothing, compressed and full-width Deep LoRA leave the start together",
         "a scale-free form of A4",
         "steps until the training loss is halfway between its first value and its smallest "
         "(mean over seeds): compressed at most 1.5 x full, narrow more than both",
         "within the first 20 of 200 steps; narrow about 70"}};
  }

  void declare(Config& c) const override {
    declare_language(c, {"stsb", 5, 60, "all-dense"});
    c.declare("samples", index_t{16}, "training examples, with replacement");
    c.declare("eval_every", index_t{20}, "steps between evaluations");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 200);
    if (name == "smoke") {
      c.preset("samples", index_t{8});
      c.preset("targets", std::string("attention-mlp"));
      c.preset("steps", index_t{4});
      c.preset("eval_every", index_t{2});
    }
  }

  void run(Run& run) const override;
};

const std::vector<std::pair<const char*, const char*>> forms = {
    {"full", "full width"}, {"compressed", "compressed"}, {"narrow", "random, narrow"}};

/// Curves of a form over seeds, (seeds, points), and their mean.
struct Curves {
  std::vector<double> steps;
  std::vector<std::vector<double>> loss, smooth, score, smooth_score;
  std::vector<double> score_steps;
};

Curves curves_of(const std::vector<const Record*>& records, const std::string& metric) {
  Curves c;
  c.steps = records.front()->steps("train_loss");
  c.score_steps = records.front()->steps(metric);
  for (const Record* record : records) {
    c.loss.push_back(record->series("train_loss"));
    c.smooth.push_back(smoothed(c.loss.back(), 0.99));
    c.score.push_back(record->series(metric));
    c.smooth_score.push_back(smoothed(c.score.back(), 0.95));
  }
  return c;
}

/// Steps until the mean loss is halfway down.
double halfway(const Curves& c) {
  const std::vector<double> loss = mean_over_trials(c.loss);
  const double level = 0.5 * (loss.front() + *std::min_element(loss.begin(), loss.end()));
  std::size_t i = 0;
  while (loss[i] > level) ++i;
  return c.steps[i];
}

void draw(Run& run, const LanguageLab& lab, const EncodedTask& task,
          const std::vector<Curves>& all) {
  Figure f;
  f.name = "forms";
  f.title = "Forms of Deep LoRA: " + lab.task_title();
  f.caption =
      "Means over seeds. Training loss as it is and smoothed as in the paper (EMA .99, from the "
      "first value); the metric on dev as it is.";
  for (const int which : {0, 1, 2}) {
    Panel& p = f.panel();
    p.x_label = "step";
    p.y_label = which == 0   ? "training loss"
                : which == 1 ? "training loss, EMA .99"
                             : metric_label(task);
    for (std::size_t i = 0; i < forms.size(); ++i) {
      const Curves& c = all[i];
      const std::string label = which == 2 || which == 0 ? forms[i].second : "";
      if (which == 0) p.line(label, c.steps, mean_over_trials(c.loss));
      if (which == 1) p.line(label, c.steps, mean_over_trials(c.smooth));
      if (which == 2) p.line(label, c.score_steps, mean_over_trials(c.score));
    }
    if (which == 2) p.legend = Panel::none;
  }
  run.figure(f);
}

void NarrowVsCompressed::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  const auto seeds = lab.seeds();
  std::vector<LanguageJob> jobs;
  for (const auto& [form, label] : forms) {
    for (const std::uint64_t seed : seeds) {
      FinetuneOptions o = lab.options(form, c.integer("samples", 1, 1 << 30), seed);
      if (form == std::string("full")) o.learning_rate = lab.rates().narrow;
      o.eval_every = c.integer("eval_every", 1, 1 << 30);
      jobs.push_back({std::string(form) + " seed" + std::to_string(seed), &task, o, {}, {}});
    }
  }
  const auto records = lab.run("runs", jobs);

  std::vector<Curves> all;
  for (std::size_t i = 0; i < forms.size(); ++i) {
    const auto first = records.begin() + static_cast<long>(i * seeds.size());
    all.push_back(curves_of({first, first + static_cast<long>(seeds.size())}, task.task.metric));
  }
  const std::vector<double> full = mean_over_trials(all[0].smooth);
  const std::vector<double> compressed = mean_over_trials(all[1].smooth);
  const std::vector<double> narrow = mean_over_trials(all[2].smooth);
  bool holds = true;
  std::string at, measured[3];
  for (const std::size_t quarter : {1U, 2U, 3U, 4U}) {
    const std::size_t i = full.size() * quarter / 4 - 1;
    holds = holds && std::abs(compressed[i] / full[i] - 1) <= 0.15 && narrow[i] > full[i] &&
            narrow[i] > compressed[i];
    const std::string comma = quarter == 1 ? "" : ", ";
    at += comma + number(all[0].steps[i] + 1);
    measured[0] += comma + number(full[i]);
    measured[1] += comma + number(compressed[i]);
    measured[2] += comma + number(narrow[i]);
  }
  lab.judge("A4", holds,
            "after " + at + " steps: full " + measured[0] + "; compressed " + measured[1] +
                "; narrow " + measured[2]);
  const double half[3] = {halfway(all[0]), halfway(all[1]), halfway(all[2])};
  lab.judge_anywhere("A4b", half[1] <= 1.5 * half[0] && half[2] > half[0] && half[2] > half[1],
                     lab.task_title() + ": full " + number(half[0]) + ", compressed " +
                         number(half[1]) + ", narrow " + number(half[2]) + " steps");
  for (std::size_t i = 0; i < forms.size(); ++i) {
    run.array(std::string("train_loss.") + forms[i].first, as_matrix(all[i].loss));
    run.array(std::string("score.") + forms[i].first, as_matrix(all[i].score));
  }
  draw(run, lab, task, all);
}

}  // namespace
PARSIMONY_EXPERIMENT(104, NarrowVsCompressed)
}  // namespace parsimony::lab
