// BERT's sizes and its config.json.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "config_file.hpp"

namespace parsimony {

BertConfig BertConfig::sized(const std::string& size, index_t vocab_size) {
  struct Size {
    const char* name;
    index_t layers, hidden;
  };
  for (const Size& s :
       {Size{"tiny", 2, 128}, Size{"mini", 4, 256}, Size{"small", 4, 512}, Size{"base", 12, 768}}) {
    if (size != s.name) continue;
    BertConfig c;
    c.vocab_size = vocab_size;
    c.hidden_size = s.hidden;
    c.num_hidden_layers = s.layers;
    c.num_attention_heads = s.hidden / 64;
    c.intermediate_size = 4 * s.hidden;
    return c;
  }
  throw ValueError(fmt::format("size: expected tiny, mini, small or base; got '{}'", size));
}

void BertConfig::check() const {
  check_sizes({{"vocab_size", vocab_size},
               {"hidden_size", hidden_size},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"intermediate_size", intermediate_size},
               {"max_position_embeddings", max_position_embeddings},
               {"type_vocab_size", type_vocab_size},
               {"num_labels", num_labels}});
  if (hidden_size % num_attention_heads != 0) {
    throw ValueError(
        fmt::format("num_attention_heads: expected a divisor of hidden_size {}; got {}",
                    hidden_size, num_attention_heads));
  }
  static const char* const activations[] = {"gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh",
                                            "relu", "silu"};
  if (std::find(std::begin(activations), std::end(activations), hidden_act) ==
      std::end(activations)) {
    throw ValueError(fmt::format("hidden_act: expected one of {}; got '{}'",
                                 fmt::join(activations, ", "), hidden_act));
  }
  check_dropout(
      {hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout.value_or(0.0)});
  if (!(layer_norm_eps >= 0) || !(initializer_range >= 0)) {
    throw ValueError("layer_norm_eps, initializer_range: expected numbers >= 0");
  }
  if (pad_token_id < 0 || pad_token_id >= vocab_size) {
    throw ValueError(fmt::format("pad_token_id: expected 0..{}, below vocab_size; got {}",
                                 vocab_size - 1, pad_token_id));
  }
  check_labels(num_labels, labels);
}

BertConfig load_bert_config(const std::string& path) {
  const ConfigReader read(path);
  read.only("model_type", {"bert"});
  read.only("position_embedding_type", {"absolute"});
  read.must_be("is_decoder", false);
  BertConfig c;
  read.integer("vocab_size", c.vocab_size, true);
  read.integer("hidden_size", c.hidden_size, true);
  read.integer("num_hidden_layers", c.num_hidden_layers, true);
  read.integer("num_attention_heads", c.num_attention_heads, true);
  read.integer("intermediate_size", c.intermediate_size, true);
  read.integer("max_position_embeddings", c.max_position_embeddings, true);
  read.integer("type_vocab_size", c.type_vocab_size);
  read.integer("pad_token_id", c.pad_token_id);
  read.real("hidden_dropout_prob", c.hidden_dropout_prob);
  read.real("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  read.real("classifier_dropout", c.classifier_dropout);
  read.text("hidden_act", c.hidden_act);
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

void save_bert_config(const BertConfig& c, const std::string& path, BertHead head) {
  ConfigWriter write("bert", head == BertHead::classifier  ? "BertForSequenceClassification"
                             : head == BertHead::masked_lm ? "BertForMaskedLM"
                                                           : "BertModel");
  write.set("vocab_size", c.vocab_size)
      .set("hidden_size", c.hidden_size)
      .set("num_hidden_layers", c.num_hidden_layers)
      .set("num_attention_heads", c.num_attention_heads)
      .set("intermediate_size", c.intermediate_size)
      .set("max_position_embeddings", c.max_position_embeddings)
      .set("type_vocab_size", c.type_vocab_size)
      .set("pad_token_id", c.pad_token_id)
      .set("hidden_act", c.hidden_act.c_str())
      .set("position_embedding_type", "absolute")
      .set("hidden_dropout_prob", c.hidden_dropout_prob)
      .set("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  if (c.classifier_dropout) write.set("classifier_dropout", *c.classifier_dropout);
  write.set("layer_norm_eps", c.layer_norm_eps)
      .set("initializer_range", c.initializer_range)
      .labels(c.num_labels, c.labels)
      .factored_ranks(c.factored_ranks)
      .save(path);
}

}  // namespace parsimony
