#include "lm_support.hpp"

#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace parsimony::lab {

namespace {

/// From this width on a model gets the paper's rates.
constexpr index_t paper_width = 512;
constexpr LanguageRates small_rates{1e-3, 2e-3, 1e-3, 2e-2};

LanguageRates rates_for(const Config& c, const BaseConfig& model) {
  LanguageRates rates = model.hidden_size >= paper_width ? LanguageRates() : small_rates;
  const double all = c.real("lr", 0, 1e3);
  const double inner = c.real("inner_lr", 0, 1e3);
  if (all > 0) rates.vanilla = rates.narrow = rates.full = all;
  if (inner > 0) rates.inner = inner;
  return rates;
}

/// `count` of the examples, the same at every run (0: all).
EncodedExamples some_of(const EncodedExamples& examples, index_t count, const std::string& stream) {
  if (count <= 0 || count >= examples.size()) return examples;
  std::vector<index_t> rows = Rng(0).split(stream).choose(examples.size(), count);
  std::sort(rows.begin(), rows.end());
  return select_rows(examples, rows);
}

/// A tenth of train, at most 1000 examples, becomes dev: what is tuned on.
void hold_out_tuning(EncodedTask& task) {
  const index_t n = task.train.size();
  std::vector<index_t> order = Rng(0).split("tuning split").permutation(n);
  const index_t held = std::clamp<index_t>(n / 10, 1, 1000);
  std::vector<index_t> tuning(order.begin(), order.begin() + held);
  std::vector<index_t> rest(order.begin() + held, order.end());
  std::sort(tuning.begin(), tuning.end());
  std::sort(rest.begin(), rest.end());
  task.dev = select_rows(task.train, tuning);
  task.train = select_rows(task.train, rest);
}

std::string text(const char* format, double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

}  // namespace

void declare_language(Config& c, const LanguageDefaults& d) {
  c.declare("model", std::string(),
            "a BERT's folder, or scratch:SIZE for fresh weights; empty: the shipped tiny-en");
  if (!d.task.empty()) {
    c.declare("task", d.task, "the task, see docs/text_data.md; without its data generated pairs");
  }
  c.declare("seeds", d.seeds, "samples, batches, dropout and adapters to average over");
  c.declare("steps", d.steps, "updates of each run");
  c.declare("targets", d.targets, "layers with adapters");
  c.declare("rank", index_t{8}, "rank of the adapters");
  c.declare("batch", index_t{8}, "examples an update");
  c.declare("lr", 0.0,
            "learning rate; 0: 1e-4, the paper's, for models 512 or more wide, else " +
                number(small_rates.vanilla) + " for LoRA, " + number(small_rates.narrow) +
                " for Deep LoRA, " + number(small_rates.full) + " at full width");
  c.declare("inner_lr", 0.0,
            "learning rate of the compressed form's inner factors; 0: 1e-2, the paper's, for "
            "models 512 or more wide, else " +
                number(small_rates.inner));
  c.declare("gamma", 0.0,
            "learning rate of the compressed form's outer factors over inner_lr; 0: lr / inner_lr, "
            "1e-2 in the paper");
  c.declare("eps", 1e-3, "scale of Deep LoRA's initial factors");
  c.declare("max_length", index_t{48}, "examples with more tokens are left out");
  c.declare("dev_examples", index_t{300}, "examples evaluated on, the same for all runs; 0: all");
  c.declare("split", std::string("dev"),
            "what is evaluated on: dev, or tuning, a tenth of train that is then not trained on");
}

void preset_language(const std::string& name, Config& c, index_t paper_seeds, index_t paper_steps) {
  if (name == "smoke") {
    c.preset("seeds", index_t{2});
    c.preset("steps", index_t{3});
    c.preset("max_length", index_t{32});
    c.preset("dev_examples", index_t{32});
  } else if (name == "paper") {
    c.preset("seeds", paper_seeds);
    c.preset("steps", paper_steps);
    c.preset("batch", index_t{16});
    c.preset("max_length", index_t{128});
    c.preset("dev_examples", index_t{0});
  }
}

LanguageLab::LanguageLab(Run& run)
    : run_(run),
      base_(run.config().text("model")),
      rates_(rates_for(run.config(), base_.config())) {
  run.array_note("model", base_.name());
  run.array_note("lr.vanilla", number(rates_.vanilla));
  run.array_note("lr.narrow", number(rates_.narrow));
  run.array_note("lr.full", number(rates_.full));
  run.array_note("lr.inner", number(rates_.inner));
}

std::vector<std::uint64_t> LanguageLab::seeds() const {
  const index_t count = run_.config().integer("seeds", 1, 10000);
  std::vector<std::uint64_t> seeds;
  for (index_t i = 0; i < count; ++i) {
    seeds.push_back(run_.seed() + static_cast<std::uint64_t>(i));
  }
  return seeds;
}

const EncodedTask& LanguageLab::task(const std::string& name) {
  const auto found = tasks_.find(name);
  if (found != tasks_.end()) return found->second;
  const Config& c = run_.config();
  const std::string& split = c.text("split");
  if (split != "dev" && split != "tuning") {
    throw ValueError("split: expected dev or tuning; got '" + split + "'");
  }
  TextTaskOptions options;
  options.data_dir = run_.data_folder();
  EncodedTask task =
      encode_task(base_, load_text_task(name, options),
                  c.integer("max_length", 8, base_.config().max_position_embeddings));
  if (split == "tuning") hold_out_tuning(task);
  task.dev = some_of(task.dev, c.integer("dev_examples", 0, 1 << 30), "dev " + name);
  return tasks_.emplace(name, std::move(task)).first->second;
}

const EncodedTask& LanguageLab::task() {
  wanted_ = run_.config().text("task");
  if (found_.empty()) {
    try {
      task(wanted_);
      found_ = wanted_;
    } catch (const MissingData& missing) {
      missing_ = missing.what();
      found_ = "synthetic";
      run_.say(missing_ + "; the generated sentence pairs stand in for it");
    }
    run_.array_note("task", found_);
  }
  return task(found_);
}

TaskChoice LanguageLab::available(const std::vector<std::string>& names) {
  TaskChoice tasks;
  for (const std::string& name : names) {
    try {
      task(name);
      tasks.found.push_back(name);
    } catch (const MissingData& error) {
      run_.say(error.what());
      tasks.missing += (tasks.missing.empty() ? "" : ", ") + name;
    }
  }
  if (tasks.found.empty()) {
    run_.say("without any data the generated sentence pairs stand in");
    tasks.found.push_back("synthetic");
    task("synthetic");
  }
  return tasks;
}

std::string LanguageLab::task_title() const {
  if (found_ == "stsb") return "STS-B";
  if (found_ == "synthetic") return "generated sentence pairs";
  return found_;
}

FinetuneOptions LanguageLab::options(const std::string& method, index_t samples,
                                     std::uint64_t seed) const {
  const Config& c = run_.config();
  FinetuneOptions o;
  o.method = method == "lora" ? "lora" : "deep-lora";
  o.adapter.set("rank", c.integer("rank", 1, 1 << 20));
  if (method != "lora") {
    const double gamma = c.real("gamma", 0, 1e6);
    o.adapter.set("form", method)
        .set("eps", c.real("eps", 1e-12, 1e3))
        .set("gamma", gamma > 0 ? gamma : rates_.narrow / rates_.inner);
  }
  o.targets = c.text("targets");
  o.samples = samples;
  o.steps = c.integer("steps", 1, 1 << 30);
  o.batch = c.integer("batch", 1, 1 << 20);
  o.learning_rate = method == "compressed" ? rates_.inner
                    : method == "full"     ? rates_.full
                    : method == "narrow"   ? rates_.narrow
                                           : rates_.vanilla;
  o.seed = seed;
  return o;
}

std::vector<const Record*> LanguageLab::run(const std::string& label,
                                            const std::vector<LanguageJob>& jobs) {
  std::vector<Run::Member> members;
  for (const LanguageJob& job : jobs) {
    check(job.options);
    members.push_back({job.name, [&job, this](Stage& stage) {
                         const Finetuned trained =
                             finetune(stage, base_, *job.task, job.options, job.observe);
                         if (job.after) job.after(stage, *trained.model);
                       }});
  }
  return run_.stages(label, members);
}

void LanguageLab::judge(const std::string& id, bool holds, const std::string& measured) {
  const std::string where = found_ == "stsb" ? measured : task_title() + ": " + measured;
  if (found_ != "synthetic") {
    judge_anywhere(id, holds, where);
  } else {
    run_.claim_not_run(id, (missing_.empty() ? "needs real text" : missing_) + "; " + where);
  }
}

void LanguageLab::judge_anywhere(const std::string& id, bool holds, const std::string& measured) {
  if (run_.preset() == "smoke") {
    run_.claim_not_run(id, "preset smoke trains too few steps to judge; " + measured);
  } else {
    run_.claim(id, holds, measured);
  }
}

std::vector<std::string> listed_names(const Config& config, const std::string& key) {
  const std::string& list = config.text(key);
  std::vector<std::string> names;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    if (comma > at) names.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  if (names.empty()) throw ValueError(key + ": expected names separated by commas; got none");
  return names;
}

std::string paired_text(const std::vector<double>& a, const std::vector<double>& b) {
  const PairedStatistics s = paired_statistics(a, b);
  if (s.difference.count == 1) {
    return text("%+.4f", s.difference.mean) + " (one pair: no statistic)";
  }
  const double std = s.difference.population_std;
  return text("%+.4f", s.difference.mean) + " (variance " + text("%.2g", std * std) + ", t " +
         text("%.1f", s.t) + ", wins " + std::to_string(s.wins) + "/" +
         std::to_string(s.difference.count) + ")";
}

std::string spread_text(const std::vector<double>& values) {
  const Spread s = spread(values);
  if (s.count == 1) return text("%.4f", s.mean) + " (one run)";
  return text("%.4f", s.mean) + " (std " + text("%.4f", s.population_std) + ")";
}

std::vector<double> smoothed(const std::vector<double>& x, double weight) {
  std::vector<double> out;
  for (const double value : x) {
    out.push_back(out.empty() ? value : weight * out.back() + (1 - weight) * value);
  }
  return out;
}

index_t numerical_rank(const Tensor<float>& spectrum, const Shape& shape, bool deep) {
  const float largest = spectrum.size() > 0 ? spectrum.data()[0] : 0.0F;
  if (deep && largest <= 1e-3F) return 0;
  const float limit = largest * static_cast<float>(std::max(shape[0], shape[1])) *
                      std::numeric_limits<float>::epsilon();
  return static_cast<index_t>(
      std::count_if(spectrum.begin(), spectrum.end(), [&](float s) { return s > limit; }));
}

std::vector<std::pair<std::string, const Adapter<float>*>> adapters_of(Model<float>& model) {
  std::vector<std::pair<std::string, const Adapter<float>*>> found;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(module);
    if (layer != nullptr && layer->adapter() != nullptr) found.emplace_back(name, layer->adapter());
  }
  return found;
}

double constant_loss(const EncodedTask& task) {
  const std::vector<double>& labels = task.train.labels;
  if (task.task.regression()) {
    const double std = spread(labels).population_std;
    return std * std;
  }
  std::map<double, double> counts;
  for (const double label : labels) counts[label] += 1;
  double entropy = 0;
  for (const auto& [label, count] : counts) {
    const double share = count / static_cast<double>(labels.size());
    entropy -= share * std::log(share);
  }
  return entropy;
}

std::string metric_label(const EncodedTask& task) {
  if (task.task.metric == "pearson") return "Pearson's r on dev";
  if (task.task.metric == "matthews") return "Matthews' correlation on dev";
  return task.task.metric + " on dev";
}

std::vector<std::string> as_names(const std::vector<index_t>& values) {
  std::vector<std::string> names;
  for (const index_t value : values) names.push_back(std::to_string(value));
  return names;
}

void half_band(Panel& panel, const std::string& label,
               const std::vector<std::vector<double>>& values) {
  std::vector<double> x, mean, low, high;
  for (const auto& row : values) {
    const Spread s = spread(row);
    x.push_back(static_cast<double>(x.size()));
    mean.push_back(s.mean);
    low.push_back(s.mean - s.population_std / 2);
    high.push_back(s.mean + s.population_std / 2);
  }
  panel.band(label, x, mean, low, high);
}

Tensor<float> as_matrix(const std::vector<std::vector<double>>& rows) {
  const auto columns = static_cast<index_t>(rows.empty() ? 0 : rows.front().size());
  Tensor<float> out({static_cast<index_t>(rows.size()), columns});
  float* to = out.mutable_data();
  for (const auto& row : rows) {
    for (const double value : row) *to++ = static_cast<float>(value);
  }
  return out;
}

}  // namespace parsimony::lab
