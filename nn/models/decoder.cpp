// What decoders share: the cache of keys and values, the heads, and loading by a folder's type.
#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "config_file.hpp"
#include "decoder_io.hpp"
#include "kernels/attention.hpp"

namespace parsimony {

template <class T>
Var<T> KeyValueCache<T>::attend(index_t layer, const Var<T>& q, const Var<T>& k, const Var<T>& v,
                                const AttentionHeads& heads) {
  const index_t count = k.dim(1);
  const index_t width = k.dim(2);
  const index_t end = length_ + count;
  if (k.dim(0) != 1 || grad_enabled() || end > capacity_) {
    throw ValueError(
        fmt::format("key-value cache: expected one sequence of at most {} tokens, without "
                    "gradients; got {} and {} tokens before",
                    capacity_, k.shape().str(), length_));
  }
  const auto at = static_cast<std::size_t>(layer);
  if (!keys_.at(at).defined()) {
    keys_[at] = Tensor<T>({width, capacity_});
    values_[at] = Tensor<T>({capacity_, width});
  }
  const T* from = k.value().data();
  T* keys = keys_[at].mutable_data() + length_;
  for (index_t j = 0; j < width; ++j) {
    for (index_t i = 0; i < count; ++i) keys[j * capacity_ + i] = from[i * width + j];
  }
  std::copy_n(v.value().data(), count * width, values_[at].mutable_data() + length_ * width);

  kernels::AttentionShape s{1, end, heads.queries, width / heads.keys, count};
  s.kv_heads = heads.keys;
  s.causal = true;
  s.transposed_keys = capacity_;
  Tensor<T> y(q.shape());
  Tensor<T> probabilities({s.heads, count, end});
  kernels::attention(s, kernels::DropoutMask{}, q.value().data(), keys_[at].data(),
                     values_[at].data(), y.mutable_data(), probabilities.mutable_data());
  return Var<T>(std::move(y));
}

template <class T>
KeyValueCache<T> KeyValueCache<T>::clone() const {
  KeyValueCache copy = *this;
  for (auto* list : {&copy.keys_, &copy.values_}) {
    for (Tensor<T>& t : *list) {
      if (t.defined()) t = t.clone();
    }
  }
  return copy;
}

template <class T>
void Decoder<T>::add_head(const DecoderConfig& c, const Initializer& init) {
  if (head_ == DecoderHead::language && !c.tied) {
    language_ = std::make_unique<Linear<T>>(c.hidden_size, c.vocab_size, init.split("lm_head"),
                                            c.initializer_range, false);
    this->child("lm_head", *language_);
  }
  if (head_ == DecoderHead::classifier) {
    score_ = std::make_unique<Linear<T>>(c.hidden_size, c.num_labels, init.split("score"),
                                         c.initializer_range, false);
    this->child("score", *score_);
  }
}

template <class T>
void Decoder<T>::check_input(const Tensor<std::int64_t>& ids, const Tensor<std::uint8_t>& mask,
                             const KeyValueCache<T>* cache) const {
  if (ids.rank() != 2 || (mask.defined() && (mask.shape() != ids.shape() || cache != nullptr))) {
    throw ShapeError(fmt::format(
        "{}: expected ids (batch, length) and a mask of that shape, none "
        "with a cache; got {} and {}",
        this->type(), ids.shape().str(), mask.defined() ? mask.shape().str() : "no mask"));
  }
  const index_t length = ids.dim(1) + (cache != nullptr ? cache->length() : 0);
  if (length > config().positions) {
    throw ShapeError(
        fmt::format("{}: expected at most {} tokens a sequence, the context window; "
                    "got {}",
                    this->type(), config().positions, length));
  }
}

template <class T>
Var<T> Decoder<T>::token_logits(const Var<T>& rows, Pass& pass) const {
  if (head_ != DecoderHead::language) {
    throw ValueError(fmt::format("{}: this model has no head over the vocabulary", this->type()));
  }
  if (language_) return (*language_)(rows, pass);
  return words().times(rows);
}

template <class T>
Var<T> Decoder<T>::language_loss(const Tensor<std::int64_t>& ids, Pass& pass) const {
  const Var<T> x = hidden(ids, {}, pass);
  return cross_entropy(token_logits(reshape(x, {ids.size(), x.dim(2)}), pass), next_tokens(ids));
}

template <class T>
Var<T> Decoder<T>::logits(const TokenBatch& batch, Pass& pass) const {
  if (!score_)
    throw ValueError(fmt::format("{}: this model has no classification head", this->type()));
  const Var<T> x = hidden(batch.ids, batch.mask, pass);
  const index_t length = x.dim(1);
  Tensor<std::int64_t> last({x.dim(0)});
  for (index_t b = 0; b < x.dim(0); ++b) {
    index_t n = length;
    while (n > 1 && batch.mask.defined() && batch.mask.data()[b * length + n - 1] == 0) --n;
    last.mutable_data()[b] = b * length + n - 1;
  }
  return (*score_)(gather_rows(reshape(x, {x.dim(0) * length, x.dim(2)}), last), pass);
}

template <class T>
bool Decoder<T>::is_head(const std::string& parameter) const {
  return parameter.compare(0, 6, "score.") == 0;
}

template <class T>
void Decoder<T>::prepare_generation() {
  for (const auto& [name, module] : this->named_modules()) {
    auto* layer = dynamic_cast<Linear<T>*>(module);
    if (layer != nullptr && !layer->factored() && layer != score_.get()) layer->keep_transposed();
  }
  if (head_ == DecoderHead::language && !language_) words().keep_transposed();
}

template <class T>
KeyValueCache<T> Decoder<T>::cache(index_t capacity) const {
  return KeyValueCache<T>(config().layers, capacity > 0 ? capacity : config().positions);
}

Tensor<std::int64_t> next_tokens(const Tensor<std::int64_t>& ids) {
  Tensor<std::int64_t> labels({ids.size()});
  for (index_t i = 0; i < labels.size(); ++i) {
    labels.mutable_data()[i] = (i + 1) % ids.dim(1) == 0 ? -100 : ids.data()[i + 1];
  }
  return labels;
}

void DecoderConfig::check() const {
  check_sizes({{"vocab_size", vocab_size},
               {"hidden_size", hidden_size},
               {"layers", layers},
               {"heads", heads},
               {"positions", positions},
               {"intermediate_size", intermediate_size},
               {"num_labels", num_labels}});
  if (!(norm_eps >= 0) || !(initializer_range >= 0)) {
    throw ValueError("norm eps, initializer_range: expected numbers >= 0");
  }
  for (const index_t id : {bos_id, eos_id, pad_id}) {
    if (id < -1 || id >= vocab_size) {
      throw ValueError(
          fmt::format("token id: expected one below vocab_size {}; got {}", vocab_size, id));
    }
  }
  check_labels(num_labels, labels);
}

std::string model_type(const std::string& folder) {
  const ConfigReader read(config_path(folder));
  std::string type;
  read.text("model_type", type);
  return type;
}

template <class T>
std::unique_ptr<Decoder<T>> load_decoder(const std::string& folder, DecoderHead head,
                                         const Rng& rng, index_t num_labels, LoadReport* report,
                                         const std::vector<std::string>& labels) {
  check_weights(folder);
  const std::string type = model_type(folder);
  if (type == "gpt2") return load_gpt2<T>(folder, head, rng, num_labels, report, labels);
  if (type == "llama") return load_llama<T>(folder, head, rng, num_labels, report, labels);
  throw InputError(fmt::format("'{}': model_type: expected gpt2 or llama; got '{}'", folder, type));
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template class KeyValueCache<T>;                                                               \
  template class Decoder<T>;                                                                     \
  template std::unique_ptr<Decoder<T>> load_decoder(const std::string&, DecoderHead, const Rng&, \
                                                    index_t, LoadReport*,                        \
                                                    const std::vector<std::string>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
