// What the language-model experiments share: their common settings, the base model and its tasks,
// fine-tunings that run side by side, and paired statistics.
//
// The reference is a bert-base-cased on GLUE. A model 512 or more wide gets the paper's learning
// rates; a smaller one, such as the shipped 2 x 128, the rates of LanguageRates, which were chosen
// on a part of STS-B's and SST-2's training sets (split=tuning), never on the reported split.
#pragma once

#include <parsimony/experiment.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/metrics.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support.hpp"

namespace parsimony::lab {

/// Learning rates: of vanilla LoRA; of narrow and of full-width Deep LoRA; of the inner factors of
/// compressed Deep LoRA, whose outer ones take `narrow` unless gamma is set.
struct LanguageRates {
  double vanilla = 1e-4;
  double narrow = 1e-4;
  double full = 1e-4;
  double inner = 1e-2;
};

/// Settings that differ between experiments, at preset quick.
struct LanguageDefaults {
  std::string task = "stsb";  // "": the experiment has a list of its own
  index_t seeds = 5;
  index_t steps = 100;
  std::string targets = "all-dense";
};
/// Declares model, task, seeds, steps, targets, rank, batch, lr, inner_lr, gamma, eps, max_length,
/// dev_examples and split.
void declare_language(Config& c, const LanguageDefaults& defaults);
/// Preset "smoke" (a few steps) or "paper" (the paper's lengths and the whole dev set, with the
/// given seeds and steps).
void preset_language(const std::string& name, Config& c, index_t paper_seeds, index_t paper_steps);

/// One fine-tuning, a stage of its run.
struct LanguageJob {
  std::string name;
  const EncodedTask* task = nullptr;
  FinetuneOptions options;
  FinetuneObserver observe;
  /// What is measured on the trained model; keeps its results with the stage.
  std::function<void(Stage&, Model<float>&)> after;
};

/// Tasks that were asked for: those whose data is there, or the generated pairs if none is.
struct TaskChoice {
  std::vector<std::string> found;
  std::string missing;  // "rte, sick"; empty if all are there
};

class LanguageLab {
 public:
  /// Reads the settings and the model's vocabulary. @throws as BaseModel.
  explicit LanguageLab(Run& run);

  const BaseModel& base() const { return base_; }
  const LanguageRates& rates() const { return rates_; }
  std::vector<std::uint64_t> seeds() const;

  /// A task by name, encoded once; dev is what is reported. @throws MissingData.
  const EncodedTask& task(const std::string& name);
  /// The task of the settings. Without its data, the generated sentence pairs stand in.
  const EncodedTask& task();
  /// Of a list of tasks those that can run.
  TaskChoice available(const std::vector<std::string>& names);
  /// "STS-B", or what the run is really on: for titles and captions.
  std::string task_title() const;

  /// The settings as options of one run; `method` is an adapter method or a form of Deep LoRA:
  /// "lora", "narrow", "full" or "compressed".
  FinetuneOptions options(const std::string& method, index_t samples, std::uint64_t seed) const;

  /// Runs the jobs side by side; records in their order.
  std::vector<const Record*> run(const std::string& label, const std::vector<LanguageJob>& jobs);

  /// Records a claim: "not run" at preset smoke, and where generated pairs stand in for real text,
  /// with what was measured.
  void judge(const std::string& id, bool holds, const std::string& measured);
  /// The same for a claim that generated text bears out as well.
  void judge_anywhere(const std::string& id, bool holds, const std::string& measured);

 private:
  Run& run_;
  BaseModel base_;
  LanguageRates rates_;
  std::map<std::string, EncodedTask> tasks_;
  std::string wanted_, found_, missing_;
};

/// A comma-separated list. @throws ValueError naming the key if it is empty.
std::vector<std::string> listed_names(const Config& config, const std::string& key);

/// "+0.0687 (variance 0.0047, t 4.0, wins 18/20)" of a over b;
/// of one pair "+0.0687 (one pair: no statistic)".
std::string paired_text(const std::vector<double>& a, const std::vector<double>& b);
/// "0.5975 (std 0.1030)", the population's; "0.5975 (one run)" of one.
std::string spread_text(const std::vector<double>& values);

/// s_0 = x_0, s_t = w s_{t-1} + (1 - w) x_t.
std::vector<double> smoothed(const std::vector<double>& x, double weight);

/// Singular values above the largest times max(m, n) times float's epsilon, NumPy's default; for
/// Deep LoRA 0 where the largest is at most 1e-3 (the spec's section 4.2).
index_t numerical_rank(const Tensor<float>& spectrum, const Shape& shape, bool deep);

/// Every adapted layer with its adapter, in the model's order.
std::vector<std::pair<std::string, const Adapter<float>*>> adapters_of(Model<float>& model);

/// The loss of the best constant answer: the variance of the labels, or their entropy.
double constant_loss(const EncodedTask& task);

/// A metric's name for an axis: "Pearson's r".
std::string metric_label(const EncodedTask& task);

/// Numbers as names of categories.
std::vector<std::string> as_names(const std::vector<index_t>& values);

/// Mean and half a population standard deviation each way, as in the paper's figures; x = 0, 1, ...
void half_band(Panel& panel, const std::string& label,
               const std::vector<std::vector<double>>& values);

/// Values as an array for arrays.safetensors, (rows, columns).
Tensor<float> as_matrix(const std::vector<std::vector<double>>& rows);

}  // namespace parsimony::lab
