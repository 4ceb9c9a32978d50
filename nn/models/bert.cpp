// BERT's forward pass: embeddings, layers of attention and two-layer maps with dropout, residual
// and layer norm after each (post-norm), pooler and heads.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// A config's hidden_act.
template <class T>
Var<T> activate(const std::string& name, const Var<T>& x) {
  if (name == "relu") return relu(x);
  if (name == "silu") return mul(x, sigmoid(x));
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return gelu_tanh(x);
  return gelu(x);
}

/// The rows of the flattened (batch · length) tokens up to each sequence's last unmasked one, its
/// first in any case; undefined where that is all of them.
Tensor<std::int64_t> rows_that_count(const Tensor<std::uint8_t>& mask) {
  if (!mask.defined()) return {};
  const index_t length = mask.dim(1);
  std::vector<std::int64_t> rows;
  for (index_t b = 0; b < mask.dim(0); ++b) {
    const std::uint8_t* of = mask.data() + b * length;
    index_t last = length - 1;
    while (last > 0 && of[last] == 0) --last;
    for (index_t i = 0; i <= last; ++i) rows.push_back(b * length + i);
  }
  const auto count = static_cast<index_t>(rows.size());
  if (count == mask.size()) return {};
  return Tensor<std::int64_t>({count}, rows);
}

/// Entries of a (batch, length) at rows, or a itself where these are not defined.
Tensor<std::int64_t> picked(const Tensor<std::int64_t>& a, const Tensor<std::int64_t>& rows) {
  if (!rows.defined()) return a;
  Tensor<std::int64_t> out(rows.shape());
  for (index_t i = 0; i < rows.size(); ++i) out.mutable_data()[i] = a.data()[rows.data()[i]];
  return out;
}

/// (rows, width) to (batch, length, width) with zeros elsewhere.
template <class T>
Var<T> spread_out(const Var<T>& x, const Tensor<std::int64_t>& rows, index_t batch,
                  index_t length) {
  return reshape(scatter_add_rows(x, rows, batch * length), {batch, length, x.dim(-1)});
}

/// The first token's row of each sequence, (batch, 1, width).
template <class T>
Var<T> first_rows(const Var<T>& x, const Tensor<std::int64_t>& rows, index_t batch,
                  index_t length) {
  if (!rows.defined()) return slice(x, 1, 0, 1);
  std::vector<std::int64_t> first;
  for (index_t i = 0; i < rows.size(); ++i) {
    if (rows.data()[i] % length == 0) first.push_back(i);
  }
  return reshape(gather_rows(x, Tensor<std::int64_t>({batch}, first)), {batch, 1, x.dim(-1)});
}

}  // namespace

template <class T>
BertLayer<T>::SelfAttention::SelfAttention(const BertConfig& c, const Initializer& init)
    : query(c.hidden_size, c.hidden_size, init.split("query"), c.initializer_range),
      key(c.hidden_size, c.hidden_size, init.split("key"), c.initializer_range),
      value(c.hidden_size, c.hidden_size, init.split("value"), c.initializer_range) {
  this->child("query", query);
  this->child("key", key);
  this->child("value", value);
}

template <class T>
BertLayer<T>::Output::Output(index_t in, const BertConfig& c, const Initializer& init)
    : dense(in, c.hidden_size, init.split("dense"), c.initializer_range),
      norm(c.hidden_size, c.layer_norm_eps) {
  this->child("dense", dense);
  this->child("LayerNorm", norm);
}

template <class T>
BertLayer<T>::Attention::Attention(const BertConfig& c, const Initializer& init)
    : self(c, init.split("self")), output(c.hidden_size, c, init.split("output")) {
  this->child("self", self);
  this->child("output", output);
}

template <class T>
BertLayer<T>::Intermediate::Intermediate(const BertConfig& c, const Initializer& init)
    : dense(c.hidden_size, c.intermediate_size, init.split("dense"), c.initializer_range) {
  this->child("dense", dense);
}

template <class T>
BertLayer<T>::BertLayer(const BertConfig& c, const Initializer& init)
    : config_(c),
      attention_(c, init.split("attention")),
      intermediate_(c, init.split("intermediate")),
      output_(c.intermediate_size, c, init.split("output")) {
  this->child("attention", attention_);
  this->child("intermediate", intermediate_);
  this->child("output", output_);
}

template <class T>
Var<T> BertLayer<T>::operator()(const Var<T>& x, const Tensor<std::uint8_t>& mask,
                                const Tensor<std::int64_t>& rows, Pass& pass,
                                bool first_only) const {
  const double drop = config_.hidden_dropout_prob;
  const bool packed = rows.defined();
  const index_t batch = packed ? mask.dim(0) : x.dim(0);
  const index_t length = packed ? mask.dim(1) : x.dim(1);
  const auto side_by_side = [&](const Var<T>& y) {
    return packed ? spread_out(y, rows, batch, length) : y;
  };
  const auto& self = attention_.self;
  const index_t heads = config_.num_attention_heads;
  const double attention_drop = pass.dropout(config_.attention_probs_dropout_prob);
  const Var<T> asking = first_only ? first_rows(x, rows, batch, length) : x;
  const Var<T> query = self.query(asking, pass);
  std::optional<Var<T>> seen;
  if (first_only) {
    seen = class_attention(query, side_by_side(x), self.key, self.value, heads, mask,
                           attention_drop, pass);
  }
  if (!seen) {
    const Var<T> key = side_by_side(self.key(x, pass));
    const Var<T> value = side_by_side(self.value(x, pass));
    seen = attention(first_only ? query : side_by_side(query), key, value, heads, mask,
                     attention_drop, pass.next());
  }
  const Var<T> context = packed && !first_only
                             ? gather_rows(reshape(*seen, {batch * length, seen->dim(-1)}), rows)
                             : *seen;
  const auto& out = attention_.output;
  const Var<T> attended = out.norm.of_sum(out.dense(context, pass), asking, drop, pass);
  const Var<T> wide = activate(config_.hidden_act, intermediate_.dense(attended, pass));
  return output_.norm.of_sum(output_.dense(wide, pass), attended, drop, pass);
}

template <class T>
struct Bert<T>::Parts {
  struct Embeddings : Module<T> {
    Embeddings(const BertConfig& c, const Initializer& init)
        : word(c.vocab_size, c.hidden_size, init.split("word"), c.initializer_range),
          position(c.max_position_embeddings, c.hidden_size, init.split("position"),
                   c.initializer_range),
          type(c.type_vocab_size, c.hidden_size, init.split("type"), c.initializer_range),
          norm(c.hidden_size, c.layer_norm_eps) {
      this->child("word_embeddings", word);
      this->child("position_embeddings", position);
      this->child("token_type_embeddings", type);
      this->child("LayerNorm", norm);
    }
    Embedding<T> word, position, type;
    LayerNorm<T> norm;
  };
  struct Encoder : Module<T> {
    struct List : Module<T> {
      void add(const std::string& name, Module<T>& module) { this->child(name, module); }
    };
    Encoder(const BertConfig& c, const Initializer& init) {
      for (index_t i = 0; i < c.num_hidden_layers; ++i) {
        layers.push_back(
            std::make_unique<BertLayer<T>>(c, init.split(static_cast<std::uint64_t>(i))));
        list.add(std::to_string(i), *layers.back());
      }
      this->child("layer", list);
    }
    std::vector<std::unique_ptr<BertLayer<T>>> layers;
    List list;
  };
  struct Pooler : Module<T> {
    Pooler(const BertConfig& c, const Initializer& init)
        : dense(c.hidden_size, c.hidden_size, init.split("dense"), c.initializer_range) {
      this->child("dense", dense);
    }
    Linear<T> dense;
  };
  struct Body : Module<T> {
    Body(const BertConfig& c, bool with_pooler, const Initializer& init)
        : embeddings(c, init.split("embeddings")), encoder(c, init.split("encoder")) {
      this->child("embeddings", embeddings);
      this->child("encoder", encoder);
      if (with_pooler) {
        pooler = std::make_unique<Pooler>(c, init.split("pooler"));
        this->child("pooler", *pooler);
      }
    }
    Embeddings embeddings;
    Encoder encoder;
    std::unique_ptr<Pooler> pooler;
  };
  struct Transform : Module<T> {
    Transform(const BertConfig& c, const Initializer& init)
        : dense(c.hidden_size, c.hidden_size, init.split("dense"), c.initializer_range),
          norm(c.hidden_size, c.layer_norm_eps) {
      this->child("dense", dense);
      this->child("LayerNorm", norm);
    }
    Linear<T> dense;
    LayerNorm<T> norm;
  };
  struct Predictions : Module<T> {
    Predictions(const BertConfig& c, const Initializer& init)
        : transform(c, init.split("transform")) {
      bias = this->parameter("bias", Tensor<T>::zeros({c.vocab_size}));
      this->child("transform", transform);
    }
    Var<T> bias;
    Transform transform;
  };
  struct Cls : Module<T> {
    Cls(const BertConfig& c, const Initializer& init) : predictions(c, init.split("predictions")) {
      this->child("predictions", predictions);
    }
    Predictions predictions;
  };

  Parts(const BertConfig& c, BertHead head, const Initializer& init)
      : bert(c, head != BertHead::masked_lm, init.split("bert")) {
    if (head == BertHead::classifier) {
      classifier = std::make_unique<Linear<T>>(c.hidden_size, c.num_labels,
                                               init.split("classifier"), c.initializer_range);
    }
    if (head == BertHead::masked_lm) cls = std::make_unique<Cls>(c, init.split("cls"));
  }
  Body bert;
  std::unique_ptr<Linear<T>> classifier;
  std::unique_ptr<Cls> cls;
};

template <class T>
Bert<T>::Bert(const BertConfig& config, BertHead head, const Initializer& init)
    : config_((config.check(), config)),
      head_(head),
      parts_(std::make_unique<Parts>(config_, head, init)) {
  this->child("bert", parts_->bert);
  if (parts_->classifier) this->child("classifier", *parts_->classifier);
  if (parts_->cls) this->child("cls", *parts_->cls);
  factor_layers(*this, config_.factored_ranks);
}

template <class T>
Bert<T>::~Bert() = default;

template <class T>
bool Bert<T>::is_head(const std::string& parameter) const {
  return parameter.compare(0, 11, "classifier.") == 0 || parameter == "bert.pooler.dense.weight" ||
         parameter == "bert.pooler.dense.bias";
}

template <class T>
Var<T> Bert<T>::hidden(const TokenBatch& batch, Pass& pass) const {
  return encode(batch, pass, false);
}

template <class T>
Var<T> Bert<T>::embed(const TokenBatch& batch, const Tensor<std::int64_t>& rows) const {
  const index_t length = batch.ids.dim(1);
  Tensor<std::int64_t> positions(rows.defined() ? rows.shape() : Shape{length});
  for (index_t i = 0; i < positions.size(); ++i) {
    positions.mutable_data()[i] = rows.defined() ? rows.data()[i] % length : i;
  }
  const auto& e = parts_->bert.embeddings;
  const Var<T> places = add(e.type(picked(batch.type_ids, rows)), e.position(positions));
  return e.norm(add(e.word(picked(batch.ids, rows)), places));
}

template <class T>
Var<T> Bert<T>::encode(const TokenBatch& batch, Pass& pass, bool first_only) const {
  const Shape& shape = batch.ids.shape();
  if (shape.rank() != 2 || batch.type_ids.shape() != shape ||
      (batch.mask.defined() && batch.mask.shape() != shape)) {
    throw ShapeError(fmt::format(
        "bert: expected ids, types and mask (batch, length); got {}, {}, {}", shape.str(),
        batch.type_ids.shape().str(), batch.mask.defined() ? batch.mask.shape().str() : "no mask"));
  }
  if (shape[1] > config_.max_position_embeddings) {
    throw ShapeError(
        fmt::format("bert: expected at most {} tokens a sequence, the size of the "
                    "position table; got {}",
                    config_.max_position_embeddings, shape[1]));
  }
  // Padding takes part in attention alone, where it is masked.
  const Tensor<std::int64_t> rows = rows_that_count(batch.mask);
  Var<T> x = embed(batch, rows);
  pass.pack({rows, shape[1]});
  x = dropout(x, pass.dropout(config_.hidden_dropout_prob), pass.next(), pass.places(x));
  const auto& layers = parts_->bert.encoder.layers;
  for (const auto& layer : layers) {
    x = (*layer)(x, batch.mask, rows, pass, first_only && layer == layers.back());
    pass.block(x);
  }
  pass.pack({});
  return rows.defined() && !first_only ? spread_out(x, rows, shape[0], shape[1]) : x;
}

template <class T>
Var<T> Bert<T>::pooled(const Var<T>& hidden, Pass& pass) const {
  if (!parts_->bert.pooler) throw ValueError("bert: this model has no pooler");
  const Var<T> first = reshape(slice(hidden, 1, 0, 1), {hidden.dim(0), hidden.dim(2)});
  return tanh(parts_->bert.pooler->dense(first, pass));
}

template <class T>
Var<T> Bert<T>::logits(const TokenBatch& batch, Pass& pass) const {
  if (!parts_->classifier) throw ValueError("bert: this model has no classification head");
  const Var<T> features = pooled(encode(batch, pass, true), pass);
  const double p = pass.dropout(config_.classifier_dropout.value_or(config_.hidden_dropout_prob));
  return (*parts_->classifier)(dropout(features, p, pass.next()), pass);
}

template <class T>
Var<T> Bert<T>::masked_logits(const TokenBatch& batch, const Tensor<std::int64_t>& places,
                              Pass& pass) const {
  if (!parts_->cls) throw ValueError("bert: this model has no masked-language-model head");
  const Var<T> x = hidden(batch, pass);
  const Var<T> rows = gather_rows(reshape(x, {x.dim(0) * x.dim(1), x.dim(2)}), places);
  const auto& head = parts_->cls->predictions;
  const Var<T> features =
      head.transform.norm(activate(config_.hidden_act, head.transform.dense(rows, pass)));
  return linear(features, parts_->bert.embeddings.word.weight, head.bias);
}

template struct BertLayer<float>;
template struct BertLayer<double>;
template class Bert<float>;
template class Bert<double>;

}  // namespace parsimony
