// GPT-2's forward pass (pre-norm: a norm before each sublayer, one more at the end; learned
// positions), its config.json and its folders, whose linear layers are stored (in, out).
#include <parsimony/error.hpp>

#include <cmath>

#include <fmt/format.h>

#include "config_file.hpp"
#include "decoder_io.hpp"

namespace parsimony {

namespace {

/// A residual block.
template <class T>
struct Gpt2Layer : Module<T> {
  struct Attention : Module<T> {
    Attention(const Gpt2Config& c, double out_std, const Initializer& init)
        : qkv(c.hidden_size, 3 * c.hidden_size, init.split("c_attn"), c.initializer_range),
          out(c.hidden_size, c.hidden_size, init.split("c_proj"), out_std) {
      this->child("c_attn", qkv);
      this->child("c_proj", out);
    }
    Linear<T> qkv, out;
  };
  struct Mlp : Module<T> {
    Mlp(const Gpt2Config& c, double out_std, const Initializer& init)
        : wide(c.hidden_size, c.intermediate_size, init.split("c_fc"), c.initializer_range),
          out(c.intermediate_size, c.hidden_size, init.split("c_proj"), out_std) {
      this->child("c_fc", wide);
      this->child("c_proj", out);
    }
    Linear<T> wide, out;
  };
  Gpt2Layer(const Gpt2Config& c, double out_std, const Initializer& init)
      : norm_1(c.hidden_size, c.norm_eps),
        attn(c, out_std, init.split("attn")),
        norm_2(c.hidden_size, c.norm_eps),
        mlp(c, out_std, init.split("mlp")) {
    this->child("ln_1", norm_1);
    this->child("attn", attn);
    this->child("ln_2", norm_2);
    this->child("mlp", mlp);
  }
  LayerNorm<T> norm_1;
  Attention attn;
  LayerNorm<T> norm_2;
  Mlp mlp;
};

bool conv1d(const std::string& name) {
  for (const char* layer : {".c_attn.weight", ".c_proj.weight", ".c_fc.weight"}) {
    const std::size_t at = name.rfind(layer);
    if (at != std::string::npos && at + std::string(layer).size() == name.size()) return true;
  }
  return false;
}

CheckpointRules gpt2_rules() {
  CheckpointRules r = decoder_rules("transformer.");
  r.transposed = conv1d;
  r.ignored = [](const std::string& name) {
    const auto ends = [&](const std::string& end) {
      return name.size() > end.size() &&
             name.compare(name.size() - end.size(), end.size(), end) == 0;
    };
    return ends(".attn.bias") || ends(".attn.masked_bias") || name == "lm_head.weight";
  };
  return r;
}

}  // namespace

template <class T>
struct Gpt2<T>::Body : Module<T> {
  Body(const Gpt2Config& c, const Initializer& init)
      : wte(c.vocab_size, c.hidden_size, init.split("wte"), c.initializer_range),
        wpe(c.positions, c.hidden_size, init.split("wpe"), c.initializer_range),
        norm(c.hidden_size, c.norm_eps) {
    const double out_std = c.initializer_range / std::sqrt(2.0 * static_cast<double>(c.layers));
    for (index_t i = 0; i < c.layers; ++i) {
      layers.add(std::make_unique<Gpt2Layer<T>>(
          c, out_std, init.split("h").split(static_cast<std::uint64_t>(i))));
    }
    this->child("wte", wte);
    this->child("wpe", wpe);
    this->child("h", layers);
    this->child("ln_f", norm);
  }
  Embedding<T> wte, wpe;
  ModuleList<T, Gpt2Layer<T>> layers;
  LayerNorm<T> norm;
};

template <class T>
Gpt2<T>::Gpt2(const Gpt2Config& config, DecoderHead head, const Initializer& init)
    : Decoder<T>(head),
      config_((config.check(), config)),
      body_(std::make_unique<Body>(config_, init.split("transformer"))) {
  this->child("transformer", *body_);
  this->add_head(config_, init);
  factor_layers<T>(*this, config_.factored_ranks);
}

template <class T>
Gpt2<T>::~Gpt2() = default;

template <class T>
Embedding<T>& Gpt2<T>::words() const {
  return body_->wte;
}

template <class T>
Var<T> Gpt2<T>::hidden(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask,
                       Pass& pass, KeyValueCache<T>* cache) const {
  this->check_input(ids, mask, cache);
  const index_t d = config_.hidden_size;
  const index_t before = cache != nullptr ? cache->length() : 0;
  Tensor<std::int64_t> positions({ids.dim(1)});
  for (index_t i = 0; i < ids.dim(1); ++i) positions.mutable_data()[i] = before + i;
  const double drop = pass.dropout(config_.resid_dropout);
  Var<T> x = dropout(add(body_->wte(ids), body_->wpe(positions)),
                     pass.dropout(config_.embd_dropout), pass.next());
  const AttentionHeads heads(config_.heads, config_.heads, true);
  for (index_t i = 0; i < config_.layers; ++i) {
    const auto& layer = body_->layers[static_cast<std::size_t>(i)];
    const Var<T> qkv = layer.attn.qkv(layer.norm_1(x), pass);
    const Var<T> q = slice(qkv, 2, 0, d);
    const Var<T> k = slice(qkv, 2, d, 2 * d);
    const Var<T> v = slice(qkv, 2, 2 * d, 3 * d);
    const Var<T> context =
        cache != nullptr
            ? cache->attend(i, q, k, v, heads)
            : attention(q, k, v, heads, mask, pass.dropout(config_.attn_dropout), pass.next());
    x = add(x, dropout(layer.attn.out(context, pass), drop, pass.next()));
    const Var<T> wide = gelu_tanh(layer.mlp.wide(layer.norm_2(x), pass));
    x = add(x, dropout(layer.mlp.out(wide, pass), drop, pass.next()));
    pass.block(x);
  }
  if (cache != nullptr) cache->advance(ids.dim(1));
  return body_->norm(x);
}

template <class T>
void Gpt2<T>::save(const std::string& folder, FloatFormat format) {
  save_checkpoint<T>(*this, folder, gpt2_rules(), format);
  const Gpt2Config& c = config_;
  ConfigWriter write("gpt2", this->head() == DecoderHead::classifier
                                 ? "GPT2ForSequenceClassification"
                                 : "GPT2LMHeadModel");
  write.set("vocab_size", c.vocab_size)
      .set("n_positions", c.positions)
      .set("n_embd", c.hidden_size)
      .set("n_layer", c.layers)
      .set("n_head", c.heads)
      .set("n_inner", c.intermediate_size)
      .set("activation_function", "gelu_new")
      .set("layer_norm_epsilon", c.norm_eps)
      .set("resid_pdrop", c.resid_dropout)
      .set("embd_pdrop", c.embd_dropout)
      .set("attn_pdrop", c.attn_dropout)
      .set("tie_word_embeddings", c.tied)
      .set("initializer_range", c.initializer_range);
  write_ids(write, c);
  write.labels(c.num_labels, c.labels)
      .factored_ranks(factored_ranks<T>(*this))
      .save(config_path(folder));
}

Gpt2Config::Gpt2Config() {
  vocab_size = 50257;
  hidden_size = 768;
  layers = heads = 12;
  positions = 1024;
  intermediate_size = 3072;
  bos_id = eos_id = 50256;
}

Gpt2Config Gpt2Config::sized(const std::string& size, index_t vocab_size) {
  const BertConfig like = BertConfig::sized(size, vocab_size);
  Gpt2Config c;
  c.vocab_size = vocab_size;
  c.hidden_size = like.hidden_size;
  c.layers = like.num_hidden_layers;
  c.heads = like.num_attention_heads;
  c.intermediate_size = like.intermediate_size;
  c.bos_id = c.eos_id = -1;
  return c;
}

void Gpt2Config::check() const {
  DecoderConfig::check();
  if (hidden_size % heads != 0) {
    throw ValueError(
        fmt::format("n_head: expected a divisor of n_embd {}; got {}", hidden_size, heads));
  }
  check_dropout({embd_dropout, resid_dropout, attn_dropout});
}

Gpt2Config load_gpt2_config(const std::string& path) {
  const ConfigReader read(path);
  read.only("model_type", {"gpt2"});
  read.only("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  read.must_be("scale_attn_weights", true);
  read.must_be("scale_attn_by_inverse_layer_idx", false);
  read.must_be("add_cross_attention", false);
  Gpt2Config c;
  read.integer("vocab_size", c.vocab_size, true);
  read.integer(read.has("n_positions") ? "n_positions" : "n_ctx", c.positions, true);
  read.integer("n_embd", c.hidden_size, true);
  read.integer("n_layer", c.layers, true);
  read.integer("n_head", c.heads, true);
  c.intermediate_size = 4 * c.hidden_size;
  read.integer("n_inner", c.intermediate_size);
  read.real("layer_norm_epsilon", c.norm_eps);
  read.real("resid_pdrop", c.resid_dropout);
  read.real("embd_pdrop", c.embd_dropout);
  read.real("attn_pdrop", c.attn_dropout);
  read.real("initializer_range", c.initializer_range);
  read.boolean("tie_word_embeddings", c.tied);
  if (!c.tied) read.fail("tie_word_embeddings: expected true; got false");
  c.bos_id = c.eos_id = -1;
  read_ids(read, c);
  checked(read, c);
  return c;
}

template <class T>
std::unique_ptr<Decoder<T>> load_gpt2(const std::string& folder, DecoderHead head, const Rng& rng,
                                      index_t num_labels, LoadReport* report,
                                      const std::vector<std::string>& labels) {
  return load_with_head<Gpt2<T>>(load_gpt2_config(config_path(folder)), folder, head, rng,
                                 num_labels, report, labels, gpt2_rules());
}

#define PARSIMONY_INSTANTIATE(T)                                                              \
  template class Gpt2<T>;                                                                     \
  template std::unique_ptr<Decoder<T>> load_gpt2(const std::string&, DecoderHead, const Rng&, \
                                                 index_t, LoadReport*,                        \
                                                 const std::vector<std::string>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
