// ViT's forward pass (pre-norm), its config.json and its folders. The patch embedding is stored as
// a convolution (hidden, channels, size, size), which is a linear layer on flattened patches.
#include <parsimony/error.hpp>
#include <parsimony/vit.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "checkpoint.hpp"
#include "config_file.hpp"

namespace parsimony {

namespace {

template <class T>
struct VitLayer : Module<T> {
  struct SelfAttention : Module<T> {
    SelfAttention(const VitConfig& c, const Initializer& init)
        : query(c.hidden_size, c.hidden_size, init.split("query"), c.initializer_range, c.qkv_bias),
          key(c.hidden_size, c.hidden_size, init.split("key"), c.initializer_range, c.qkv_bias),
          value(c.hidden_size, c.hidden_size, init.split("value"), c.initializer_range,
                c.qkv_bias) {
      this->child("query", query);
      this->child("key", key);
      this->child("value", value);
    }
    Linear<T> query, key, value;
  };
  struct Dense : Module<T> {
    Dense(index_t in, index_t out, const VitConfig& c, const Initializer& init)
        : dense(in, out, init.split("dense"), c.initializer_range) {
      this->child("dense", dense);
    }
    Linear<T> dense;
  };
  struct Attention : Module<T> {
    Attention(const VitConfig& c, const Initializer& init)
        : self(c, init.split("attention")),
          output(c.hidden_size, c.hidden_size, c, init.split("output")) {
      this->child("attention", self);
      this->child("output", output);
    }
    SelfAttention self;
    Dense output;
  };
  VitLayer(const VitConfig& c, const Initializer& init)
      : attn(c, init.split("attention")),
        intermediate(c.hidden_size, c.intermediate_size, c, init.split("intermediate")),
        output(c.intermediate_size, c.hidden_size, c, init.split("output")),
        before(c.hidden_size, c.layer_norm_eps),
        after(c.hidden_size, c.layer_norm_eps) {
    this->child("attention", attn);
    this->child("intermediate", intermediate);
    this->child("output", output);
    this->child("layernorm_before", before);
    this->child("layernorm_after", after);
  }
  Attention attn;
  Dense intermediate, output;
  LayerNorm<T> before, after;
};

CheckpointRules rules(const VitConfig& c) {
  CheckpointRules r;
  r.prefix = "vit.";
  r.heads = {"classifier."};
  r.optional = {"classifier."};
  r.resizable = "classifier.";
  r.ignored = [](const std::string& name) {
    return name.compare(0, 11, "vit.pooler.") == 0 || name.find("mask_token") != std::string::npos;
  };
  r.shapes["vit.embeddings.patch_embeddings.projection.weight"] = {c.hidden_size, c.num_channels,
                                                                   c.patch_size, c.patch_size};
  return r;
}

/// Patches row by row, each flattened as (channels, size, size): (batch, patches, their pixels).
template <class T>
Tensor<T> patches_of(const Tensor<T>& pixels, const VitConfig& c) {
  const index_t side = c.image_size / c.patch_size;
  const index_t p = c.patch_size;
  const index_t batch = pixels.dim(0);
  Tensor<T> out({batch, side * side, c.num_channels * p * p});
  T* to = out.mutable_data();
  for (index_t b = 0; b < batch; ++b) {
    for (index_t patch = 0; patch < side * side; ++patch) {
      for (index_t channel = 0; channel < c.num_channels; ++channel) {
        for (index_t row = 0; row < p; ++row) {
          const index_t y = patch / side * p + row;
          const T* from = pixels.data() +
                          ((b * c.num_channels + channel) * c.image_size + y) * c.image_size +
                          patch % side * p;
          to = std::copy_n(from, p, to);
        }
      }
    }
  }
  return out;
}

}  // namespace

template <class T>
struct Vit<T>::Body : Module<T> {
  struct Projection : Module<T> {
    Projection(const VitConfig& c, const Initializer& init)
        : projection(c.num_channels * c.patch_size * c.patch_size, c.hidden_size,
                     init.split("projection"), c.initializer_range) {
      this->child("projection", projection);
    }
    Linear<T> projection;
  };
  struct Embeddings : Module<T> {
    Embeddings(const VitConfig& c, const Initializer& init)
        : patch(c, init.split("patch_embeddings")) {
      cls = this->parameter(
          "cls_token",
          init.split("cls_token").template normal<T>({1, 1, c.hidden_size}, c.initializer_range));
      positions = this->parameter(
          "position_embeddings",
          init.split("position_embeddings")
              .template normal<T>({1, c.patches() + 1, c.hidden_size}, c.initializer_range));
      this->child("patch_embeddings", patch);
    }
    Projection patch;
    Var<T> cls, positions;
  };
  struct Encoder : Module<T> {
    Encoder(const VitConfig& c, const Initializer& init) {
      for (index_t i = 0; i < c.num_hidden_layers; ++i) {
        layers.add(std::make_unique<VitLayer<T>>(c, init.split(static_cast<std::uint64_t>(i))));
      }
      this->child("layer", layers);
    }
    ModuleList<T, VitLayer<T>> layers;
  };
  Body(const VitConfig& c, const Initializer& init)
      : embeddings(c, init.split("embeddings")),
        encoder(c, init.split("encoder")),
        norm(c.hidden_size, c.layer_norm_eps) {
    this->child("embeddings", embeddings);
    this->child("encoder", encoder);
    this->child("layernorm", norm);
  }
  Embeddings embeddings;
  Encoder encoder;
  LayerNorm<T> norm;
};

template <class T>
Vit<T>::Vit(const VitConfig& config, const Initializer& init)
    : config_((config.check(), config)),
      body_(std::make_unique<Body>(config_, init.split("vit"))),
      classifier_(std::make_unique<Linear<T>>(config_.hidden_size, config_.num_labels,
                                              init.split("classifier"),
                                              config_.initializer_range)) {
  this->child("vit", *body_);
  this->child("classifier", *classifier_);
  factor_layers<T>(*this, config_.factored_ranks);
}

template <class T>
Vit<T>::~Vit() = default;

template <class T>
Var<T> Vit<T>::hidden(const Tensor<T>& pixels, Pass& pass) const {
  const VitConfig& c = config_;
  const Shape expected{pixels.rank() > 0 ? pixels.dim(0) : 0, c.num_channels, c.image_size,
                       c.image_size};
  if (pixels.shape() != expected) {
    throw ShapeError(fmt::format("vit: expected pixels (batch, {}, {}, {}); got {}", c.num_channels,
                                 c.image_size, c.image_size, pixels.shape().str()));
  }
  const auto& e = body_->embeddings;
  const index_t batch = pixels.dim(0);
  const Var<T> patches = e.patch.projection(Var<T>(patches_of(pixels, c)), pass);
  Var<T> x = concat<T>({broadcast_to(e.cls, {batch, 1, c.hidden_size}), patches}, 1);
  const double drop = pass.dropout(c.hidden_dropout_prob);
  x = dropout(add(x, e.positions), drop, pass.next());
  for (std::size_t i = 0; i < body_->encoder.layers.size(); ++i) {
    const auto& layer = body_->encoder.layers[i];
    const auto& self = layer.attn.self;
    const Var<T> in = layer.before(x);
    const Var<T> context = attention(self.query(in, pass), self.key(in, pass), self.value(in, pass),
                                     c.num_attention_heads, {},
                                     pass.dropout(c.attention_probs_dropout_prob), pass.next());
    x = add(x, dropout(layer.attn.output.dense(context, pass), drop, pass.next()));
    const Var<T> wide = gelu(layer.intermediate.dense(layer.after(x), pass));
    x = add(x, dropout(layer.output.dense(wide, pass), drop, pass.next()));
    pass.block(x);
  }
  return body_->norm(x);
}

template <class T>
Var<T> Vit<T>::logits(const Tensor<T>& pixels, Pass& pass) const {
  const Var<T> x = hidden(pixels, pass);
  return (*classifier_)(reshape(slice(x, 1, 0, 1), {x.dim(0), x.dim(2)}), pass);
}

template <class T>
Var<T> Vit<T>::logits(const TokenBatch& batch, Pass& pass) const {
  if (!batch.pixels.defined()) throw ValueError("vit: expected images; got a batch of tokens");
  return logits(cast<T>(batch.pixels), pass);
}

template <class T>
bool Vit<T>::is_head(const std::string& parameter) const {
  return parameter.compare(0, 11, "classifier.") == 0;
}

template <class T>
void Vit<T>::save(const std::string& folder, FloatFormat format) {
  const VitConfig& c = config_;
  save_checkpoint<T>(*this, folder, rules(c), format);
  ConfigWriter write("vit", "ViTForImageClassification");
  write.set("hidden_size", c.hidden_size)
      .set("num_hidden_layers", c.num_hidden_layers)
      .set("num_attention_heads", c.num_attention_heads)
      .set("intermediate_size", c.intermediate_size)
      .set("hidden_act", "gelu")
      .set("image_size", c.image_size)
      .set("patch_size", c.patch_size)
      .set("num_channels", c.num_channels)
      .set("qkv_bias", c.qkv_bias)
      .set("hidden_dropout_prob", c.hidden_dropout_prob)
      .set("attention_probs_dropout_prob", c.attention_probs_dropout_prob)
      .set("layer_norm_eps", c.layer_norm_eps)
      .set("initializer_range", c.initializer_range)
      .labels(c.num_labels, c.labels)
      .factored_ranks(factored_ranks<T>(*this))
      .save(config_path(folder));
}

VitConfig VitConfig::sized(const std::string& size, index_t image, index_t channels) {
  check_sizes({{"image_size", image}, {"num_channels", channels}});
  const BertConfig like = BertConfig::sized(size, 1);
  VitConfig c;
  c.hidden_size = like.hidden_size;
  c.num_hidden_layers = like.num_hidden_layers;
  c.num_attention_heads = like.num_attention_heads;
  c.intermediate_size = like.intermediate_size;
  c.image_size = image;
  c.num_channels = channels;
  constexpr index_t sides = 4;  // patches a side, at least
  for (c.patch_size = std::max<index_t>(1, image / sides); image % c.patch_size != 0;) {
    --c.patch_size;
  }
  return c;
}

index_t VitConfig::patches() const {
  const index_t side = image_size / patch_size;
  return side * side;
}

void VitConfig::check() const {
  check_sizes({{"hidden_size", hidden_size},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"intermediate_size", intermediate_size},
               {"image_size", image_size},
               {"patch_size", patch_size},
               {"num_channels", num_channels},
               {"num_labels", num_labels}});
  if (hidden_size % num_attention_heads != 0) {
    throw ValueError(
        fmt::format("num_attention_heads: expected a divisor of hidden_size {}; got {}",
                    hidden_size, num_attention_heads));
  }
  if (image_size % patch_size != 0) {
    throw ValueError(fmt::format("patch_size: expected a divisor of image_size {}; got {}",
                                 image_size, patch_size));
  }
  check_dropout({hidden_dropout_prob, attention_probs_dropout_prob});
  check_labels(num_labels, labels);
}

VitConfig load_vit_config(const std::string& path) {
  const ConfigReader read(path);
  read.only("model_type", {"vit"});
  read.only("hidden_act", {"gelu"});
  VitConfig c;
  read.integer("hidden_size", c.hidden_size, true);
  read.integer("num_hidden_layers", c.num_hidden_layers, true);
  read.integer("num_attention_heads", c.num_attention_heads, true);
  read.integer("intermediate_size", c.intermediate_size, true);
  read.integer("image_size", c.image_size);
  read.integer("patch_size", c.patch_size);
  read.integer("num_channels", c.num_channels);
  read.boolean("qkv_bias", c.qkv_bias);
  read.real("hidden_dropout_prob", c.hidden_dropout_prob);
  read.real("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  read.real("layer_norm_eps", c.layer_norm_eps);
  read.real("initializer_range", c.initializer_range);
  read.labels(c.num_labels, c.labels);
  read.factored_ranks(c.factored_ranks);
  try {
    c.check();
  } catch (const ValueError& e) {
    read.fail(e.what());
  }
  return c;
}

template <class T>
std::unique_ptr<Vit<T>> load_vit(const std::string& folder, const Rng& rng, index_t num_labels,
                                 LoadReport* report, const std::vector<std::string>& labels) {
  check_weights(folder);
  VitConfig config = load_vit_config(config_path(folder));
  const bool other_size = num_labels > 0 && num_labels != config.num_labels;
  if (num_labels > 0) {
    config.num_labels = num_labels;
    config.labels = labels;
  }
  const Checkpoint file(folder, rules(config));
  const auto d = static_cast<double>(config.hidden_size);
  file.check_size(d * static_cast<double>(config.patches() + config.num_labels) +
                      static_cast<double>(config.num_hidden_layers) * d *
                          (4 * d + 2.0 * static_cast<double>(config.intermediate_size)),
                  fmt::format("{} layers, hidden_size {}, intermediate_size {}, image_size {}",
                              config.num_hidden_layers, config.hidden_size,
                              config.intermediate_size, config.image_size));
  const Initializer init = Initializer::postponed(rng);
  auto model = std::make_unique<Vit<T>>(config, init);
  const LoadReport found = file.load_into<T>(*model, other_size, init);
  if (report != nullptr) *report = found;
  return model;
}

#define PARSIMONY_INSTANTIATE(T)                                                                  \
  template class Vit<T>;                                                                          \
  template std::unique_ptr<Vit<T>> load_vit(const std::string&, const Rng&, index_t, LoadReport*, \
                                            const std::vector<std::string>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
