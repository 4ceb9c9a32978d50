// BERT (Devlin et al. 2019): an encoder with a pooler, a classification or regression head, and a
// masked-language-model head. Names of parameters are Hugging Face's.
#pragma once

#include <parsimony/factored.hpp>
#include <parsimony/model.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace parsimony {

/// Which heads a Bert has.
enum class BertHead { none, classifier, masked_lm };

/// config.json of a BERT.
struct BertConfig {
  index_t vocab_size = 30522;
  index_t hidden_size = 768;
  index_t num_hidden_layers = 12;
  index_t num_attention_heads = 12;
  index_t intermediate_size = 3072;
  index_t max_position_embeddings = 512;
  index_t type_vocab_size = 2;
  index_t pad_token_id = 0;
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  /// Before the classification head; unset: hidden_dropout_prob.
  std::optional<double> classifier_dropout;
  /// "gelu" or "gelu_python" (with the error function), "gelu_new" or "gelu_pytorch_tanh", "relu",
  /// "silu".
  std::string hidden_act = "gelu";
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  /// Outputs of the classification head; 1 is a regression.
  index_t num_labels = 2;
  /// Names of the classes, as many as num_labels, or none.
  std::vector<std::string> labels;
  /// Layers that are stored as pairs.
  FactoredRanks factored_ranks;

  /// "tiny" 2 x 128, "mini" 4 x 256, "small" 4 x 512, "base" 12 x 768; heads of width 64.
  /// @throws ValueError on another name.
  static BertConfig sized(const std::string& size, index_t vocab_size);
  /// @throws ValueError on sizes < 1, heads that do not divide the hidden size, probabilities
  /// outside [0, 1), an unknown activation.
  void check() const;
};

/// From a model folder's config.json. @throws InputError naming the file and the key: missing,
/// of another type, contradictory, or a model that is not a BERT encoder.
BertConfig load_bert_config(const std::string& path);
/// `head` decides the class of transformers' that `architectures` names. @throws IoError.
void save_bert_config(const BertConfig& config, const std::string& path, BertHead head);

template <class T>
struct BertLayer : Module<T> {
  BertLayer(const BertConfig& config, const Initializer& init);
  /// x (batch, length, hidden) to the same, or with `first_only` to its first token's row (batch,
  /// 1, hidden), for which nothing of the others is computed but their keys and values, and not
  /// these where class_attention does. Where `rows` are defined x has these of the (batch · length)
  /// rows alone, (rows, hidden), each sequence's first token among them; so has the result, without
  /// `first_only`.
  Var<T> operator()(const Var<T>& x, const Tensor<std::uint8_t>& mask,
                    const Tensor<std::int64_t>& rows, Pass& pass, bool first_only = false) const;

 private:
  struct SelfAttention : Module<T> {
    SelfAttention(const BertConfig& config, const Initializer& init);
    Linear<T> query, key, value;
  };
  struct Output : Module<T> {
    Output(index_t in, const BertConfig& config, const Initializer& init);
    Linear<T> dense;
    LayerNorm<T> norm;
  };
  struct Attention : Module<T> {
    Attention(const BertConfig& config, const Initializer& init);
    SelfAttention self;
    Output output;
  };
  struct Intermediate : Module<T> {
    Intermediate(const BertConfig& config, const Initializer& init);
    Linear<T> dense;
  };
  const BertConfig& config_;
  Attention attention_;
  Intermediate intermediate_;
  Output output_;
};

/// The model: "bert.…" and, by `head`, "bert.pooler.…" and "classifier.…", or "cls.predictions.…"
/// (whose decoder is the word embedding). With `none` the pooler is there and no head.
template <class T>
class Bert : public Model<T> {
 public:
  /// Fresh weights: N(0, initializer_range²), each from its own stream of `init` by name.
  /// @throws ValueError as BertConfig::check.
  Bert(const BertConfig& config, BertHead head, const Initializer& init);
  ~Bert() override;

  const BertConfig& config() const { return config_; }
  BertHead head() const { return head_; }
  std::string type() const override { return "bert"; }
  /// The classifier and the pooler.
  bool is_head(const std::string& parameter) const override;
  void save(const std::string& folder, FloatFormat format = FloatFormat::f32) override;

  /// Last hidden states (batch, length, hidden), 0 at positions past a sequence's last unmasked
  /// token: nothing is computed there, in logits() and masked_logits() neither.
  /// @throws ShapeError on ids, types and mask of different shapes or longer than the position
  /// table; ValueError on ids or types out of range where there is no padding.
  Var<T> hidden(const TokenBatch& batch, Pass& pass) const;
  /// tanh of the pooler's layer on the first token, (batch, hidden).
  Var<T> pooled(const Var<T>& hidden, Pass& pass) const;
  /// Outputs of the classification head (batch, num_labels). It reads the first token only, so
  /// the last layer computes no other row (BertLayer): the same numbers as from hidden() and
  /// pooled(), with less work.
  Var<T> logits(const TokenBatch& batch, Pass& pass) const override;
  /// Scores over the vocabulary (positions, vocab_size) at the given places of the flattened
  /// (batch · length) tokens.
  Var<T> masked_logits(const TokenBatch& batch, const Tensor<std::int64_t>& places,
                       Pass& pass) const;

 private:
  struct Parts;
  Var<T> embed(const TokenBatch& batch, const Tensor<std::int64_t>& rows) const;
  Var<T> encode(const TokenBatch& batch, Pass& pass, bool first_only) const;
  BertConfig config_;
  BertHead head_;
  std::unique_ptr<Parts> parts_;
};

/// Reads config.json and model.safetensors of a folder, with or without the "bert." prefix. A
/// missing pooler or head is left fresh (from `rng`), heads of other kinds are ignored, and the
/// report says so. `num_labels` > 0 replaces the config's; a head of another size is then fresh.
/// @throws InputError listing what is missing, unexpected, mis-shaped or there twice, with the
/// nearest names; a pickle (.bin) is refused with a hint, and a decoder that is not the word
/// embedding.
template <class T>
std::unique_ptr<Bert<T>> load_bert(const std::string& folder, BertHead head, const Rng& rng,
                                   index_t num_labels = 0, LoadReport* report = nullptr,
                                   const std::vector<std::string>& labels = {});

extern template class Bert<float>;
extern template class Bert<double>;

}  // namespace parsimony
