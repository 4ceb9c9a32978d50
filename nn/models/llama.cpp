// LLaMA's forward pass (pre-norm with RMS norms, rotary positions, keys and values shared between
// heads, SwiGLU), its config.json and its folders.
#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "config_file.hpp"
#include "decoder_io.hpp"

namespace parsimony {

namespace {

/// A residual block.
template <class T>
struct LlamaLayer : Module<T> {
  struct Attention : Module<T> {
    Attention(const LlamaConfig& c, const Initializer& init)
        : q(c.hidden_size, c.heads * c.head_width, init.split("q_proj"), c.initializer_range,
            c.attention_bias),
          k(c.hidden_size, c.kv_heads * c.head_width, init.split("k_proj"), c.initializer_range,
            c.attention_bias),
          v(c.hidden_size, c.kv_heads * c.head_width, init.split("v_proj"), c.initializer_range,
            c.attention_bias),
          o(c.heads * c.head_width, c.hidden_size, init.split("o_proj"), c.initializer_range,
            c.attention_bias) {
      this->child("q_proj", q);
      this->child("k_proj", k);
      this->child("v_proj", v);
      this->child("o_proj", o);
    }
    Linear<T> q, k, v, o;
  };
  struct Mlp : Module<T> {
    Mlp(const LlamaConfig& c, const Initializer& init)
        : gate(c.hidden_size, c.intermediate_size, init.split("gate_proj"), c.initializer_range,
               c.mlp_bias),
          up(c.hidden_size, c.intermediate_size, init.split("up_proj"), c.initializer_range,
             c.mlp_bias),
          down(c.intermediate_size, c.hidden_size, init.split("down_proj"), c.initializer_range,
               c.mlp_bias) {
      this->child("gate_proj", gate);
      this->child("up_proj", up);
      this->child("down_proj", down);
    }
    Linear<T> gate, up, down;
  };
  LlamaLayer(const LlamaConfig& c, const Initializer& init)
      : attn(c, init.split("self_attn")),
        mlp(c, init.split("mlp")),
        input_norm(c.hidden_size, c.norm_eps),
        middle_norm(c.hidden_size, c.norm_eps) {
    this->child("self_attn", attn);
    this->child("mlp", mlp);
    this->child("input_layernorm", input_norm);
    this->child("post_attention_layernorm", middle_norm);
  }
  Attention attn;
  Mlp mlp;
  RmsNorm<T> input_norm, middle_norm;
};

CheckpointRules llama_rules() {
  CheckpointRules r = decoder_rules("model.");
  r.ignored = [](const std::string& name) {
    return name.find("rotary_emb.inv_freq") != std::string::npos || name == "lm_head.weight";
  };
  return r;
}

/// Cosines or sines of the angles p theta^(-2t/width), (positions, width / 2).
template <class T>
Tensor<T> rotary_table(const LlamaConfig& c, double (*f)(double)) {
  const index_t half = c.head_width / 2;
  Tensor<T> table({c.positions, half});
  T* out = table.mutable_data();
  for (index_t t = 0; t < half; ++t) {
    const double frequency =
        std::pow(c.rope_theta, -2.0 * static_cast<double>(t) / static_cast<double>(c.head_width));
    for (index_t p = 0; p < c.positions; ++p) {
      out[p * half + t] = static_cast<T>(f(static_cast<double>(p) * frequency));
    }
  }
  return table;
}

}  // namespace

template <class T>
struct Llama<T>::Body : Module<T> {
  Body(const LlamaConfig& c, const Initializer& init)
      : embed(c.vocab_size, c.hidden_size, init.split("embed_tokens"), c.initializer_range),
        norm(c.hidden_size, c.norm_eps),
        cos(rotary_table<T>(c, std::cos)),
        sin(rotary_table<T>(c, std::sin)) {
    for (index_t i = 0; i < c.layers; ++i) {
      layers.add(std::make_unique<LlamaLayer<T>>(
          c, init.split("layers").split(static_cast<std::uint64_t>(i))));
    }
    this->child("embed_tokens", embed);
    this->child("layers", layers);
    this->child("norm", norm);
  }
  Embedding<T> embed;
  ModuleList<T, LlamaLayer<T>> layers;
  RmsNorm<T> norm;
  Tensor<T> cos, sin;
};

template <class T>
Llama<T>::Llama(const LlamaConfig& config, DecoderHead head, const Initializer& init)
    : Decoder<T>(head),
      config_((config.check(), config)),
      body_(std::make_unique<Body>(config_, init.split("model"))) {
  this->child("model", *body_);
  this->add_head(config_, init);
  factor_layers<T>(*this, config_.factored_ranks);
}

template <class T>
Llama<T>::~Llama() = default;

template <class T>
Embedding<T>& Llama<T>::words() const {
  return body_->embed;
}

template <class T>
Var<T> Llama<T>::hidden(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask,
                        Pass& pass, KeyValueCache<T>* cache) const {
  this->check_input(ids, mask, cache);
  const index_t before = cache != nullptr ? cache->length() : 0;
  const AttentionHeads heads(config_.heads, config_.kv_heads, true);
  Var<T> x = body_->embed(ids);
  for (index_t i = 0; i < config_.layers; ++i) {
    const auto& layer = body_->layers[static_cast<std::size_t>(i)];
    const Var<T> in = layer.input_norm(x);
    const Var<T> q = rope(layer.attn.q(in, pass), body_->cos, body_->sin, before);
    const Var<T> k = rope(layer.attn.k(in, pass), body_->cos, body_->sin, before);
    const Var<T> v = layer.attn.v(in, pass);
    const Var<T> context = cache != nullptr ? cache->attend(i, q, k, v, heads)
                                            : attention(q, k, v, heads, mask, 0.0, pass.next());
    x = add(x, layer.attn.o(context, pass));
    const Var<T> middle = layer.middle_norm(x);
    const Var<T> wide = swiglu(layer.mlp.gate(middle, pass), layer.mlp.up(middle, pass));
    x = add(x, layer.mlp.down(wide, pass));
    pass.block(x);
  }
  if (cache != nullptr) cache->advance(ids.dim(1));
  return body_->norm(x);
}

template <class T>
void Llama<T>::save(const std::string& folder, FloatFormat format) {
  save_checkpoint<T>(*this, folder, llama_rules(), format);
  const LlamaConfig& c = config_;
  ConfigWriter write("llama", this->head() == DecoderHead::classifier
                                  ? "LlamaForSequenceClassification"
                                  : "LlamaForCausalLM");
  write.set("vocab_size", c.vocab_size)
      .set("hidden_size", c.hidden_size)
      .set("intermediate_size", c.intermediate_size)
      .set("num_hidden_layers", c.layers)
      .set("num_attention_heads", c.heads)
      .set("num_key_value_heads", c.kv_heads)
      .set("head_dim", c.head_width)
      .set("hidden_act", "silu")
      .set("max_position_embeddings", c.positions)
      .set("rms_norm_eps", c.norm_eps)
      .set("rope_theta", c.rope_theta)
      .set("attention_bias", c.attention_bias)
      .set("mlp_bias", c.mlp_bias)
      .set("tie_word_embeddings", c.tied)
      .set("initializer_range", c.initializer_range);
  write_ids(write, c);
  write.labels(c.num_labels, c.labels)
      .factored_ranks(factored_ranks<T>(*this))
      .save(config_path(folder));
}

LlamaConfig::LlamaConfig() {
  vocab_size = 32000;
  hidden_size = 4096;
  intermediate_size = 11008;
  layers = heads = kv_heads = 32;
  head_width = 128;
  positions = 2048;
  norm_eps = 1e-6;
  tied = false;
}

LlamaConfig LlamaConfig::sized(const std::string& size, index_t vocab_size) {
  const BertConfig like = BertConfig::sized(size, vocab_size);
  LlamaConfig c;
  c.vocab_size = vocab_size;
  c.hidden_size = like.hidden_size;
  c.layers = like.num_hidden_layers;
  c.heads = like.num_attention_heads;
  c.kv_heads = std::max<index_t>(1, c.heads / 2);
  c.head_width = c.hidden_size / c.heads;
  // As many weights as two layers four times as wide, rounded up to whole vectors.
  c.intermediate_size = (8 * c.hidden_size / 3 + 31) / 32 * 32;
  c.positions = 512;
  c.norm_eps = 1e-5;
  c.tied = true;
  return c;
}

void LlamaConfig::check() const {
  DecoderConfig::check();
  check_sizes({{"num_key_value_heads", kv_heads}, {"head_dim", head_width}});
  if (heads % kv_heads != 0) {
    throw ValueError(
        fmt::format("num_key_value_heads: expected a divisor of num_attention_heads {}; got {}",
                    heads, kv_heads));
  }
  if (head_width % 2 != 0) {
    throw ValueError(fmt::format("head_dim: expected an even width; got {}", head_width));
  }
  if (!(rope_theta > 0)) {
    throw ValueError(fmt::format("rope_theta: expected a number above 0; got {}", rope_theta));
  }
}

LlamaConfig load_llama_config(const std::string& path) {
  const ConfigReader read(path);
  read.only("model_type", {"llama"});
  read.only("hidden_act", {"silu", "swish"});
  LlamaConfig c;
  read.integer("vocab_size", c.vocab_size, true);
  read.integer("hidden_size", c.hidden_size, true);
  read.integer("intermediate_size", c.intermediate_size, true);
  read.integer("num_hidden_layers", c.layers, true);
  read.integer("num_attention_heads", c.heads, true);
  read.integer("max_position_embeddings", c.positions);
  c.kv_heads = c.heads;
  read.integer("num_key_value_heads", c.kv_heads);
  if (!read.has("head_dim")) {
    if (c.heads < 1 || c.hidden_size % c.heads != 0) {
      read.fail(fmt::format("num_attention_heads: expected a divisor of hidden_size {}; got {}",
                            c.hidden_size, c.heads));
    }
    c.head_width = c.hidden_size / c.heads;
  }
  read.integer("head_dim", c.head_width);
  read.real("rms_norm_eps", c.norm_eps);
  read.real("rope_theta", c.rope_theta);
  // Newer files keep the base there; other kinds of scaling are not built.
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ConfigReader rope = read.inside(key);
    rope.only("rope_type", {"default"});
    rope.only("type", {"default"});
    rope.real("rope_theta", c.rope_theta);
  }
  read.boolean("attention_bias", c.attention_bias);
  read.boolean("mlp_bias", c.mlp_bias);
  read.boolean("tie_word_embeddings", c.tied);
  read.real("initializer_range", c.initializer_range);
  read_ids(read, c);
  checked(read, c);
  return c;
}

template <class T>
std::unique_ptr<Decoder<T>> load_llama(const std::string& folder, DecoderHead head, const Rng& rng,
                                       index_t num_labels, LoadReport* report,
                                       const std::vector<std::string>& labels) {
  return load_with_head<Llama<T>>(load_llama_config(config_path(folder)), folder, head, rng,
                                  num_labels, report, labels, llama_rules());
}

#define PARSIMONY_INSTANTIATE(T)                                                               \
  template class Llama<T>;                                                                     \
  template std::unique_ptr<Decoder<T>> load_llama(const std::string&, DecoderHead, const Rng&, \
                                                  index_t, LoadReport*,                        \
                                                  const std::vector<std::string>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
