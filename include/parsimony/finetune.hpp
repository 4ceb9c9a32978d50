// Fine-tuning of a model on a task: full, the head alone, or through adapters; evaluation and
// prediction. One training run is one stage of a Run, so that it resumes to the bit.
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/batching.hpp>
#include <parsimony/images.hpp>
#include <parsimony/model.hpp>
#include <parsimony/run.hpp>
#include <parsimony/text_tasks.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// What all families' configs say.
struct BaseConfig {
  std::string type;  // "bert", "gpt2", "llama" or "vit"
  index_t hidden_size = 0;
  index_t num_hidden_layers = 0, num_attention_heads = 0, intermediate_size = 0;
  index_t vocab_size = 0;               // 0 for a ViT
  index_t max_position_embeddings = 0;  // most tokens
  double initializer_range = 0.02;
  index_t num_labels = 0;
  std::vector<std::string> labels;
  index_t image_size = 0, num_channels = 0;  // of a ViT
  index_t type_vocab_size = 0;               // of a BERT
};

/// A pretrained model at hand: its folder, or fresh weights of a size.
class BaseModel {
 public:
  /// A model folder (or a pretraining run's, whose model/ is taken); "scratch:tiny",
  /// "scratch:llama-mini" and so on for fresh weights (a BERT's without a family) with the shipped
  /// vocabulary, "scratch:vit-tiny-28x1" for images of 28 x 28 with one channel; or "" (or
  /// "tiny-en") for the model that is shipped. @throws InputError if there is no such folder or no
  /// such family.
  explicit BaseModel(const std::string& model);

  /// @throws ValueError for a model of images.
  const Tokenizer& tokenizer() const;
  const BaseConfig& config() const { return config_; }
  /// As it was given; "tiny-en" for the shipped one.
  const std::string& name() const { return name_; }
  /// The folder that weights are read from; "" for fresh ones.
  const std::string& folder() const { return folder_; }

  /// A model with a head for the task. What is not in the folder (the head, often the pooler)
  /// comes from a stream of `head_seed`, the same for every seed of a run: the classifier with
  /// standard deviation 1/√hidden, the pooler with 0.02 √(768/hidden) (for an initializer_range of
  /// 0.02), which at width 768 are the paper's.
  std::unique_ptr<Model<float>> classifier(const TextTask& task, std::uint64_t head_seed = 0,
                                           LoadReport* report = nullptr) const;

 private:
  std::string name_, folder_;
  BaseConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

/// The name that the shipped model can be asked for by, where no folder has it.
constexpr const char* shipped_name = "tiny-en";
/// The folder of the model that is shipped. @throws InputError if it is not installed.
std::string shipped_model();

/// @throws InputError for `pairs` of texts where the model's type_vocab_size has no second text.
void check_pairs(const BaseModel& base, bool pairs);

/// Tokens that an example may have: `max_length`, all of the model's positions for 0; where it is
/// not given 128, or the positions if they are fewer. @throws ValueError if there are fewer
/// positions than `max_length`, InputError for a model of images.
index_t length_limit(const BaseModel& base, std::optional<index_t> max_length);

/// A task as token ids, examples longer than length_limit() left out, as in the paper.
struct EncodedTask {
  TextTask task;
  EncodedExamples train, dev;
  std::int32_t pad_id = 0;
};
/// A task's classes in the order of a model's, whose trained head has its outputs in that order,
/// where both name the same classes; else nothing changes. Labels are renumbered.
void use_classes_of(const std::vector<std::string>& model, EncodedTask& task);
/// With the classes in the order of the model's.
EncodedTask encode_task(const BaseModel& base, const TextSplits& splits,
                        std::optional<index_t> max_length);
/// A task on images, the classes in the order of the model's. @throws ValueError if the model is
/// for other images or for texts.
EncodedTask image_task(const BaseModel& base, const ImageSplits& splits);

struct FinetuneOptions {
  /// An adapter method, "full" (every weight) or "head" (classifier and pooler).
  std::string method = "deep-lora";
  /// Options of the adapter method; its name is `method`'s.
  AdapterOptions adapter;
  std::string targets = "all-dense";
  /// Train classifier and pooler beside the adapters; the paper freezes them at random.
  bool train_head = false;
  /// Examples drawn from train; 0: all of them, each once.
  index_t samples = 0;
  bool replacement = true;
  index_t steps = 500;
  index_t batch = 16;
  double learning_rate = 1e-4;
  /// The rate rises for so many steps, then falls linearly to decay_ratio times itself.
  index_t warmup = 0;
  double decay_ratio = 1.0;
  double weight_decay = 0.0;
  double adam_eps = 1e-6;
  /// Steps between evaluations on dev; 0: at the end only.
  index_t eval_every = 0;
  /// Samples, batches, dropout and adapters; not the head.
  std::uint64_t seed = 0;
  std::uint64_t head_seed = 0;
};

/// Whether the adapters fit the model, before a run writes anything: layers that `targets` names, a
/// rank that the smallest of them can have. Makes the adapter of that one layer only.
/// @throws ValueError naming what does not fit.
void check_adapters(Model<float>& model, const FinetuneOptions& options);

/// A trained model with its adapters on, and what of it is not in the base.
struct Finetuned {
  std::unique_ptr<Model<float>> model;
  std::vector<std::string> extras;
};

/// Called at step t before its update, and once more after the last.
using FinetuneObserver = std::function<void(index_t step, Model<float>& model)>;

/// Trains inside a stage. Logs "train_loss" at every step, and the task's metrics by name at
/// evaluations and at the end; keeps "parameters", the count of trained numbers.
/// @throws ValueError on bad options, NumericalError with the step on a loss that is not finite,
/// Interrupted after saving.
Finetuned finetune(Stage& stage, const BaseModel& base, const EncodedTask& task,
                   const FinetuneOptions& options, const FinetuneObserver& observe = {});

/// Outputs (n, outputs) of a model on examples, in their order.
Tensor<float> model_outputs(const Model<float>& model, const EncodedExamples& examples,
                            std::int32_t pad_id, index_t batch = 32);

/// The task's metrics by name, the main one first.
std::vector<std::pair<std::string, double>> task_metrics(const TextTask& task,
                                                         const Tensor<float>& outputs,
                                                         const std::vector<double>& labels);

/// @throws ValueError on options outside their ranges, an unknown method, or an option that the
/// method does not have.
void check(const FinetuneOptions& options);
/// True unless the method is "full" or "head".
bool has_adapters(const FinetuneOptions& options);
/// The adapters' method and options in full: frozen random bases are drawn from the run's seed
/// unless they have one.
AdapterOptions adapter_options(const FinetuneOptions& options);

}  // namespace parsimony
