// Decoders: language models that read from left to right, GPT-2 (Radford et al. 2019) and LLaMA
// (Touvron et al. 2023), with a head over the vocabulary or a classification head on the last
// token. Names of parameters are Hugging Face's. A cache keeps the keys and values of the tokens
// that were read, so that each new one costs one step.
#pragma once

#include <parsimony/bert.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// What config.json says of every decoder.
struct DecoderConfig {
  index_t vocab_size = 0;
  index_t hidden_size = 0;
  index_t layers = 0;
  index_t heads = 0;
  /// The context window: most tokens of a sequence.
  index_t positions = 0;
  index_t intermediate_size = 0;
  double norm_eps = 1e-5;
  double initializer_range = 0.02;
  /// The head over the vocabulary is the word embedding.
  bool tied = true;
  index_t bos_id = -1, eos_id = -1, pad_id = -1;  // -1: none
  /// Outputs of the classification head; 1 is a regression. Names as in BertConfig.
  index_t num_labels = 2;
  std::vector<std::string> labels;
  /// Layers that are stored as pairs.
  FactoredRanks factored_ranks;

  /// @throws ValueError on sizes < 1, heads that do not divide the hidden size, ids out of range.
  void check() const;
};

/// config.json of a GPT-2.
struct Gpt2Config : DecoderConfig {
  Gpt2Config();
  double embd_dropout = 0.1, resid_dropout = 0.1, attn_dropout = 0.1;
  /// "tiny" 2 x 128, "mini" 4 x 256, "small" 4 x 512, "base" 12 x 768; heads of width 64.
  /// @throws ValueError on another name.
  static Gpt2Config sized(const std::string& size, index_t vocab_size);
  void check() const;
};

/// config.json of a LLaMA.
struct LlamaConfig : DecoderConfig {
  LlamaConfig();
  /// Heads of keys and values, a divisor of heads.
  index_t kv_heads = 0;
  /// Width of a head; heads * head_width need not be the hidden size.
  index_t head_width = 0;
  double rope_theta = 10000;
  bool attention_bias = false, mlp_bias = false;
  /// "tiny" 2 x 128, "mini" 4 x 256, "small" 4 x 512; heads of width 64, two queries a key from
  /// four heads on, inner width 8/3 of the outer. @throws ValueError on another name.
  static LlamaConfig sized(const std::string& size, index_t vocab_size);
  void check() const;
};

/// From a model folder's config.json. @throws InputError naming the file and the key: missing, of
/// another type, contradictory, or asking for what is not built (scaled rotary positions, ...).
Gpt2Config load_gpt2_config(const std::string& path);
LlamaConfig load_llama_config(const std::string& path);

/// Keys and values of one sequence, by layer. Used without gradients.
template <class T>
class KeyValueCache {
 public:
  /// Room for `capacity` tokens.
  KeyValueCache(index_t layers, index_t capacity)
      : capacity_(capacity), keys_(static_cast<std::size_t>(layers)), values_(keys_) {}
  /// Tokens read.
  index_t length() const { return length_; }
  index_t capacity() const { return capacity_; }
  /// Appends k and v (1, new tokens, heads.keys * width) of a layer and lets q (1, new tokens,
  /// heads.queries * width) attend to all tokens read and to those new ones that are not after it:
  /// the numbers of attention() with causal heads. @throws ValueError past the capacity or where
  /// gradients are recorded.
  Var<T> attend(index_t layer, const Var<T>& q, const Var<T>& k, const Var<T>& v,
                const AttentionHeads& heads);
  /// After the last layer: so many more tokens are read.
  void advance(index_t count) { length_ += count; }
  /// A copy with buffers of its own.
  KeyValueCache clone() const;

 private:
  index_t capacity_, length_ = 0;
  std::vector<Tensor<T>> keys_;  // (heads.keys, width, capacity): as scores are computed from them
  std::vector<Tensor<T>> values_;  // (capacity, heads.keys * width)
};

/// Each token's successor, flattened: (batch, length) to (batch · length), -100 at the last ones,
/// which cross_entropy ignores.
Tensor<std::int64_t> next_tokens(const Tensor<std::int64_t>& ids);

/// Which head a Decoder has.
enum class DecoderHead { none, language, classifier };

template <class T>
class Decoder : public Model<T> {
 public:
  virtual const DecoderConfig& config() const = 0;
  DecoderHead head() const { return head_; }

  /// Last hidden states after the final norm (batch, length, hidden). With a cache (batch of 1, no
  /// gradients) the ids are those that follow what was read.
  /// @throws ShapeError on ids and mask of different shapes or more tokens than positions;
  /// ValueError on ids out of range.
  virtual Var<T> hidden(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask,
                        Pass& pass, KeyValueCache<T>* cache = nullptr) const = 0;
  /// Scores over the vocabulary (rows, vocab_size) of hidden states (rows, hidden).
  /// @throws ValueError without that head.
  Var<T> token_logits(const Var<T>& rows, Pass& pass) const;
  /// Mean cross-entropy of each token's successor, (batch, length) ids without padding.
  Var<T> language_loss(const Tensor<std::int64_t>& ids, Pass& pass) const;
  /// Outputs of the classification head (batch, num_labels), from each sequence's last token.
  Var<T> logits(const TokenBatch& batch, Pass& pass) const override;
  bool is_head(const std::string& parameter) const override;

  /// Keeps every weight matrix transposed as well (Adaptable::keep_transposed): twice the memory,
  /// and tokens come faster one by one.
  void prepare_generation();
  /// A cache of the model's size, or for `capacity` tokens.
  KeyValueCache<T> cache(index_t capacity = 0) const;

 protected:
  explicit Decoder(DecoderHead head) : head_(head) {}
  /// Registers the head; called by the constructors after the body is.
  void add_head(const DecoderConfig& config, const Initializer& init);
  /// The word embedding.
  virtual Embedding<T>& words() const = 0;
  void check_input(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask,
                   const KeyValueCache<T>* cache) const;

 private:
  DecoderHead head_;
  std::unique_ptr<Linear<T>> language_, score_;
};

template <class T>
class Gpt2 : public Decoder<T> {
 public:
  /// Fresh weights: N(0, initializer_range²), those that write to the residual stream divided by
  /// √(2 layers). @throws ValueError as Gpt2Config::check.
  Gpt2(const Gpt2Config& config, DecoderHead head, const Initializer& init);
  ~Gpt2() override;
  std::string type() const override { return "gpt2"; }
  const Gpt2Config& config() const override { return config_; }
  Var<T> hidden(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask, Pass& pass,
                KeyValueCache<T>* cache = nullptr) const override;
  void save(const std::string& folder, FloatFormat format = FloatFormat::f32) override;

 protected:
  Embedding<T>& words() const override;

 private:
  struct Body;
  Gpt2Config config_;
  std::unique_ptr<Body> body_;
};

template <class T>
class Llama : public Decoder<T> {
 public:
  /// Fresh weights: N(0, initializer_range²), norms 1. @throws ValueError as LlamaConfig::check.
  Llama(const LlamaConfig& config, DecoderHead head, const Initializer& init);
  ~Llama() override;
  std::string type() const override { return "llama"; }
  const LlamaConfig& config() const override { return config_; }
  Var<T> hidden(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask, Pass& pass,
                KeyValueCache<T>* cache = nullptr) const override;
  void save(const std::string& folder, FloatFormat format = FloatFormat::f32) override;

 protected:
  Embedding<T>& words() const override;

 private:
  struct Body;
  LlamaConfig config_;
  std::unique_ptr<Body> body_;
};

/// Reads a folder whose config.json says gpt2 or llama, with or without the prefix of a model with
/// a head. A missing head is left fresh (from `rng`), heads of other kinds are ignored, and the
/// report says so. num_labels > 0 replaces the config's; a head of another size is then fresh.
/// @throws InputError as load_bert.
template <class T>
std::unique_ptr<Decoder<T>> load_decoder(const std::string& folder, DecoderHead head,
                                         const Rng& rng, index_t num_labels = 0,
                                         LoadReport* report = nullptr,
                                         const std::vector<std::string>& labels = {});

/// A LLaMA in llama2.c's format ("legacy" version 0): seven int32 dim, hidden_dim, n_layers,
/// n_heads, n_kv_heads, vocab_size (negative: a head of its own), seq_len, then float32 weights.
/// Rows of q and k go from adjacent pairs to Hugging Face's halves.
/// @throws InputError on a header that is not such, or a size that is not what the header says.
template <class T>
std::unique_ptr<Decoder<T>> load_llama2c(const std::string& path, DecoderHead head, const Rng& rng);

/// model_type of a folder's config.json, "" if it says none. @throws InputError if it has no
/// config.
std::string model_type(const std::string& folder);

extern template class KeyValueCache<float>;
extern template class KeyValueCache<double>;
extern template class Decoder<float>;
extern template class Decoder<double>;
extern template class Gpt2<float>;
extern template class Gpt2<double>;
extern template class Llama<float>;
extern template class Llama<double>;

}  // namespace parsimony
