// Compression of a trained model: its linear layers become low-rank pairs, and the result is a
// model folder that loads like any other.
//
// Methods: "bolaco" (principal components of the layers' outputs), "svd" (of the weights) and
// "asvd" (with activation-aware scales) need no gradients; "pc-lora" trains the pairs while the
// weights decay. What is kept is stated as a ratio: weights of the compressible layers after over
// before.
#pragma once

#include <parsimony/factored.hpp>
#include <parsimony/gaussian_process.hpp>
#include <parsimony/images.hpp>
#include <parsimony/run.hpp>
#include <parsimony/text_tasks.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// Examples, how a model answers them and what is right: classes (rows), or values (rows, 1) for a
/// regression.
struct CompressionBatch {
  std::function<Var<float>(const Module<float>&, Pass&)> outputs;  // (rows, outputs)
  Tensor<std::int64_t> classes;
  Tensor<float> values;
  /// Where sequences are padded: rows, among the `places` = batch · length of a block's output, of
  /// the tokens that count. Undefined: all do.
  Tensor<std::int64_t> tokens;
  index_t places = 0;
};

/// What a compressor asks of a model folder and of the data that it is to stay good on. Sequences
/// are texts of tokens; the three parts share none.
class CompressionData {
 public:
  enum class Part { calibration, allocation, test };

  virtual ~CompressionData() = default;
  /// The model of the folder, anew at every call.
  virtual std::unique_ptr<Module<float>> load() const = 0;
  virtual index_t size(Part part) const = 0;
  /// `rng` decides what is masked, if anything is.
  virtual CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                                 const Rng& rng) const = 0;
  /// Writes the folder, with all that the original has beside the compressed layers.
  virtual void save(Module<float>& model, const std::string& folder) const = 0;
  /// Parameters that train beside the pairs of PC-LoRA: the head's.
  virtual bool trains(const std::string& parameter) const = 0;
  /// What exp(loss) is called: "perplexity", "masked perplexity"; "" where it has no name.
  virtual std::string measure() const = 0;
  /// Whether there are other scores on the test part than loss and divergence.
  virtual bool has_scores() const { return false; }
  /// They, of a model's outputs (rows, outputs) on all of the test part; of classes the
  /// log-probabilities.
  virtual std::vector<std::pair<std::string, double>> scores(const Tensor<float>& outputs) const {
    static_cast<void>(outputs);
    return {};
  }
  /// Remarks for the user: what was made shorter, how much there is.
  std::vector<std::string> remarks;
};

/// Where the data come from: text files, or a task (of texts or of images) for a model with a
/// classification head.
struct CompressionSource {
  std::string model;                     // a folder, or a llama2.c .bin; "": the shipped model
  std::string adapter;                   // an adapter folder to merge first, or ""
  std::vector<std::string> labels;       // of the adapter's task, whose head it may hold
  std::string tokenizer;                 // a decoder's, where it has none beside it, or ""
  std::vector<std::string> calibration;  // text files
  index_t sequences = 256;               // most for the moments, or for training
  index_t windows = 64;                  // most for allocation, and for the test
  index_t length = 128;                  // tokens a sequence
};

struct CompressOptions {
  std::string method = "bolaco";
  double ratio = 0.5;
  /// "bayes", "uniform", or "random" (as many random trials, the control of bayes); "": bayes for
  /// bolaco, uniform for the others.
  std::string allocation;
  /// Groups that stay dense (factored.hpp), "v" by default; PC-LoRA compresses all.
  std::vector<std::string> dense = {"v"};
  index_t multiple = 1;  // ranks are multiples of it, where one exists
  index_t group = 32;    // sequences a group of the pooled covariance
  index_t evaluations = 50;
  double kl_weight = 1e-3;
  /// Updates of adapters on the pairs afterwards, merged into them; 0: none.
  index_t recover_steps = 0;
  /// "lora" on both factors, or "subspace" (fixed_subspace.hpp).
  std::string recover_method = "lora";
  double recover_rate = 0;   // 0: 1e-3 for lora, 1e-2 for subspace
  index_t recover_rank = 0;  // or dimensions of the subspace; 0: 8 for lora, 64 for subspace
  std::uint64_t seed = 0;
};

/// Loss of a model on a part, mean -log p over the rows (the tokens that are foretold, or the
/// examples of a task) or half the mean squared error; and KL(model || original) in nats.
struct CompressionScore {
  double loss = 0;
  double divergence = 0;           // mean over rows
  double sequence_divergence = 0;  // sum over a sequence's rows, mean over sequences
};

struct CompressedLayer {
  std::string name, group;
  index_t in = 0, out = 0;
  index_t rank = 0;  // 0: dense
  index_t kept() const { return rank == 0 ? in * out : pair_size(rank, in, out); }
};

struct CompressionReport {
  std::string method, allocation;
  double ratio = 0;
  std::vector<CompressedLayer> layers;
  index_t parameters_before = 0, parameters_after = 0;  // of the model
  CompressionScore before, after;                       // on the test part
  std::optional<CompressionScore> unrecovered;          // what recovery began with
  std::vector<std::pair<std::string, double>> scores_before, scores_after;
  /// A search: groups, and what was evaluated; value is perplexity + kl_weight times
  /// sequence_divergence.
  std::vector<std::string> groups;
  std::vector<Evaluation> history;
  index_t calibration_sequences = 0, calibration_tokens = 0;
  double seconds = 0;
  std::vector<std::string> remarks;

  index_t weights_before() const;
  index_t weights_after() const;
  double kept() const;
};

struct Compressed {
  std::unique_ptr<Module<float>> model;
  CompressionReport report;
};

/// What is said while it runs: a line, and whether it replaces the last one.
using CompressionProgress = std::function<void(const std::string& line)>;

/// Compresses by bolaco, svd or asvd.
/// @throws ValueError on options outside their ranges, or a ratio that cannot be reached with the
/// dense groups; InputError on a model without compressible layers or compressed already;
/// NumericalError; Interrupted.
Compressed compress(const CompressionData& data, const CompressOptions& options,
                    const CompressionProgress& say = {});
/// @throws ValueError on options outside their ranges.
void check(const CompressOptions& options);

/// Loss and divergence (0 without `original`) of a model on a part.
CompressionScore compression_score(const CompressionData& data, CompressionData::Part part,
                                   const Module<float>& model, const Module<float>* original);

/// The share of each group that keeps the whole at `ratio` when `dense` groups stay as they are.
/// @throws ValueError if that is less than one direction a layer, or 1 or more.
double uniform_share(const std::vector<CompressibleLayer<float>>& layers,
                     const std::vector<std::string>& dense, double ratio);

struct PcLoraOptions {
  double ratio = 0.5;
  index_t rank = 0;  // of every layer; 0: by the ratio
  std::string decay = "sine";
  double decay_end = 0.8;     // share of the steps after which the weights are gone; 0: never there
  double task_weight = 0.2;   // of the task's loss; the rest is distillation
  double feature_weight = 1;  // within it: of the blocks' squared error
  double logit_weight = 1;    // and of the divergence of the outputs
  index_t steps = 1000;
  index_t batch = 16;
  double learning_rate = 3e-3;
  double warmup = 0.05;  // share of the steps
  double weight_decay = 0;
  double clip = 1;
  index_t eval_every = 0;  // steps; 0: when the weights are gone, and at the end
  std::uint64_t seed = 0;
};

/// Trains the pairs inside a stage. Logs "train_loss", its parts "task", "blocks" and "logits" and
/// "share" at every step, and "test_loss" and the scores at evaluations: always of the final form,
/// without the weights. @throws as compress; NumericalError with the step.
Compressed compress_pc_lora(Stage& stage, const CompressionData& data,
                            const PcLoraOptions& options);
void check(const PcLoraOptions& options);

/// A language model on text files: a BERT on masked tokens, a GPT-2 or LLaMA on each next one.
/// @throws InputError naming the file; if there is too little text, the model has no such head or
/// is of another family; ValueError on a length that the model does not have.
std::unique_ptr<CompressionData> text_compression(const CompressionSource& source);

/// A model of texts with a trained classification head, on a task, read as encode_task() does.
/// @throws InputError if it has none.
std::unique_ptr<CompressionData> task_compression(const CompressionSource& source,
                                                  const TextSplits& splits,
                                                  std::optional<index_t> max_length);

/// A ViT with a trained classification head, on images: a sequence is an image. @throws ValueError
/// if the model is for texts or for other images; InputError if it has no head.
std::unique_ptr<CompressionData> image_compression(const CompressionSource& source,
                                                   const ImageSplits& splits);

/// compression.json: everything in the report. @throws IoError.
void save_report(const CompressionReport& report, const std::string& path);
/// The same text.
std::string report_json(const CompressionReport& report);

}  // namespace parsimony
