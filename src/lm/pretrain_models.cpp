#include "lm/pretrain_models.hpp"

#include <parsimony/bpe.hpp>
#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

namespace {

using T = float;

/// Of scores (n, tokens) for labels, of which -100 does not count.
Score score_of(const Var<T>& scores, const Tensor<std::int64_t>& labels) {
  Score s;
  const std::vector<index_t> best = argmax_rows(scores.value());
  for (std::size_t i = 0; i < best.size(); ++i) {
    if (labels.data()[i] < 0) continue;
    s.right += best[i] == labels.data()[i] ? 1 : 0;
    s.count += 1;
  }
  s.loss = s.count * static_cast<double>(cross_entropy(scores, labels).item());
  return s;
}

class MaskedModel : public PretrainModel {
 public:
  MaskedModel(std::unique_ptr<Bert<T>> model, const WordPieceTokenizer& tokenizer, double masked)
      : model_(std::move(model)), tokenizer_(tokenizer), masked_(masked) {}

  NamedParameters<T> parameters() const override { return model_->named_parameters(); }
  Var<T> loss(const PackedCorpus& corpus, const std::vector<index_t>& rows, const Rng& masks,
              Pass& pass) const override {
    const MaskedBatch batch = mask_sequences(corpus, rows, tokenizer_, masked_, masks);
    return cross_entropy(model_->masked_logits(batch.tokens, batch.places, pass), batch.labels);
  }
  Score score(const PackedCorpus& corpus, const std::vector<index_t>& rows,
              const Rng& masks) const override {
    const MaskedBatch batch = mask_sequences(corpus, rows, tokenizer_, masked_, masks);
    Pass pass;
    return score_of(model_->masked_logits(batch.tokens, batch.places, pass), batch.labels);
  }
  void save(const std::string& folder, FloatFormat format) override {
    model_->save(folder, format);
  }

 private:
  std::unique_ptr<Bert<T>> model_;
  const WordPieceTokenizer& tokenizer_;
  double masked_;
};

class CausalModel : public PretrainModel {
 public:
  explicit CausalModel(std::unique_ptr<Decoder<T>> model) : model_(std::move(model)) {}

  NamedParameters<T> parameters() const override { return model_->named_parameters(); }
  Var<T> loss(const PackedCorpus& corpus, const std::vector<index_t>& rows, const Rng&,
              Pass& pass) const override {
    return model_->language_loss(ids_of(corpus, rows), pass);
  }
  Score score(const PackedCorpus& corpus, const std::vector<index_t>& rows,
              const Rng&) const override {
    const Tensor<std::int64_t> ids = ids_of(corpus, rows);
    Pass pass;
    const Var<T> x = model_->hidden(ids, {}, pass);
    const Var<T> scores =
        model_->token_logits(Var<T>(x.value().reshape({ids.size(), x.dim(2)})), pass);
    return score_of(scores, next_tokens(ids));
  }
  void save(const std::string& folder, FloatFormat format) override {
    model_->save(folder, format);
  }

 private:
  static Tensor<std::int64_t> ids_of(const PackedCorpus& corpus, const std::vector<index_t>& rows) {
    Tensor<std::int64_t> ids({static_cast<index_t>(rows.size()), corpus.length});
    std::int64_t* to = ids.mutable_data();
    for (const index_t row : rows) {
      to = std::copy_n(corpus.ids.begin() + row * corpus.length, corpus.length, to);
    }
    return ids;
  }
  std::unique_ptr<Decoder<T>> model_;
};

/// What a family's config has in common with the others'.
template <class Config>
Config decoder_config(const PretrainOptions& o, const Tokenizer& tokenizer) {
  Config c = Config::sized(o.size, tokenizer.size());
  c.positions = std::max(c.positions, o.length);
  c.bos_id = tokenizer.bos_id();
  c.eos_id = tokenizer.eos_id();
  return c;
}

PretrainOptions of_model(PretrainOptions o) {
  const auto left_alone = [](bool ok, const char* option) {
    if (ok) return;
    throw ValueError(fmt::format(
        "{}: the model to go on from has its own; leave {} or the model out", option, option));
  };
  left_alone(o.arch.empty(), "arch");
  left_alone(o.size.empty(), "size");
  left_alone(o.vocab.empty(), "vocab");
  left_alone(!o.vocab_size, "vocab-size");
  left_alone(!o.cased, "cased");
  const BaseModel base(o.model);
  if (base.folder().empty()) {
    throw InputError(fmt::format(
        "'{}': expected a trained model to go on from; for fresh weights give a size", o.model));
  }
  const BaseConfig& c = base.config();
  if (c.type == "vit") {
    throw InputError(
        fmt::format("'{}': expected a BERT, GPT-2 or LLaMA; got a model of images", o.model));
  }
  if (o.length > c.max_position_embeddings) {
    throw InputError(fmt::format("length: '{}' has {} positions; got sequences of {} tokens",
                                 o.model, c.max_position_embeddings, o.length));
  }
  o.model = base.folder();
  o.vocab = base.folder();
  o.arch = c.type;
  o.size = fmt::format("{} layers x {}", c.num_hidden_layers, c.hidden_size);
  o.vocab_size = c.vocab_size;
  if (!o.short_length) o.short_length = 0;
  return o;
}

}  // namespace

Vocabulary::Vocabulary(const PretrainOptions& o) {
  if (o.arch == "bert") {
    WordPieceOptions words;
    words.lower_case = !o.cased;
    words.model_max_length = std::max<index_t>(512, o.length);
    if (!o.vocab.empty()) {
      words_ = WordPieceTokenizer::load(o.vocab, words);
      return;
    }
    VocabularyOptions v;
    v.size = *o.vocab_size;
    words_ = WordPieceTokenizer(train_wordpiece(o.corpus, v, words), words);
  } else if (!o.vocab.empty()) {
    other_ = load_tokenizer(o.vocab);
  } else {
    other_ = std::make_unique<BpeTokenizer>(train_bpe(o.corpus, *o.vocab_size));
  }
}

const Tokenizer& Vocabulary::tokenizer() const {
  return words_ ? static_cast<const Tokenizer&>(*words_) : *other_;
}

PackedCorpus Vocabulary::pack(const std::vector<std::string>& files, index_t length) const {
  return words_ ? pack_corpus(*words_, files, length) : pack_text(*other_, files, length);
}

namespace {

PretrainOptions fresh(PretrainOptions o) {
  if (o.arch.empty()) o.arch = "bert";
  if (o.size.empty()) o.size = "tiny";
  if (!o.vocab.empty() && o.vocab_size) {
    throw ValueError(fmt::format(
        "vocab-size: '{}' has its own; leave vocab-size or the vocabulary out", o.vocab));
  }
  const index_t words = o.vocab_size.value_or(8192);
  o.vocab_size = words;
  if (o.arch == "bert") {
    BertConfig::sized(o.size, words).check();
  } else if (o.arch == "gpt2") {
    Gpt2Config::sized(o.size, words).check();
  } else if (o.arch == "llama") {
    LlamaConfig::sized(o.size, words).check();
  } else {
    const std::string near = nearest_name(o.arch, {"bert", "gpt2", "llama"});
    throw ValueError(fmt::format("arch: expected bert, gpt2 or llama; got '{}'{}", o.arch,
                                 near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  if (o.arch != "bert" && o.cased) {
    throw ValueError("cased: only a BERT's vocabulary can lose its capitals");
  }
  return o;
}

}  // namespace

PretrainOptions resolved(PretrainOptions o) {
  o = o.model.empty() ? fresh(std::move(o)) : of_model(std::move(o));
  if (o.masked && o.arch != "bert") {
    throw ValueError(fmt::format("masked: a {} predicts every token; leave masked out", o.arch));
  }
  if (o.dropout && *o.dropout > 0 && o.arch == "llama") {
    throw ValueError("dropout: a llama has none; leave dropout out");
  }
  o.masked = o.masked.value_or(0.15);
  o.dropout = o.dropout.value_or(o.arch == "llama" ? 0.0 : 0.1);
  return o;
}

std::unique_ptr<PretrainModel> make_pretrain_model(const PretrainOptions& o,
                                                   const Vocabulary& vocabulary, const Rng& rng,
                                                   LoadReport& report) {
  if (!o.model.empty()) {
    if (o.arch != "bert") {
      return std::make_unique<CausalModel>(
          load_decoder<T>(o.model, DecoderHead::language, rng, 0, &report));
    }
    return std::make_unique<MaskedModel>(
        load_bert<T>(o.model, BertHead::masked_lm, rng, 0, &report), vocabulary.words(), *o.masked);
  }
  if (o.arch == "bert") {
    BertConfig config = BertConfig::sized(o.size, vocabulary.tokenizer().size());
    config.max_position_embeddings = std::max<index_t>(config.max_position_embeddings, o.length);
    config.pad_token_id = vocabulary.tokenizer().pad_id();
    return std::make_unique<MaskedModel>(
        std::make_unique<Bert<T>>(config, BertHead::masked_lm, rng), vocabulary.words(), *o.masked);
  }
  if (o.arch == "gpt2") {
    return std::make_unique<CausalModel>(std::make_unique<Gpt2<T>>(
        decoder_config<Gpt2Config>(o, vocabulary.tokenizer()), DecoderHead::language, rng));
  }
  return std::make_unique<CausalModel>(std::make_unique<Llama<T>>(
      decoder_config<LlamaConfig>(o, vocabulary.tokenizer()), DecoderHead::language, rng));
}

}  // namespace parsimony
