// BERT's config.json: read with every key checked, written as transformers reads it.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <iterator>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "factored_json.hpp"

namespace parsimony {

namespace {

using Json = nlohmann::ordered_json;

/// Checked access to the keys of a config, with the file's name in every message.
class Reader {
 public:
  Reader(const Json& json, const std::string& path) : json_(json), path_(path) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("'{}': {}", path_, what));
  }
  void integer(const char* key, index_t& value, bool required = true) const {
    if (!has(key, required)) return;
    const Json& found = json_[key];
    if (!found.is_number_integer() ||
        (found.is_number_unsigned() &&
         found.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<index_t>::max()})) {
      fail(fmt::format("{}: expected a whole number; got {}", key, found.dump()));
    }
    value = found.get<index_t>();
  }
  void real(const char* key, double& value) const {
    if (!has(key, false)) return;
    const Json& found = json_[key];
    if (!found.is_number()) fail(fmt::format("{}: expected a number; got {}", key, found.dump()));
    value = found.get<double>();
  }
  void real(const char* key, std::optional<double>& value) const {
    if (!has(key, false)) return;
    value = 0.0;
    real(key, *value);
  }
  void text(const char* key, std::string& value) const {
    if (!has(key, false)) return;
    const Json& found = json_[key];
    if (!found.is_string()) fail(fmt::format("{}: expected a name; got {}", key, found.dump()));
    value = found.get<std::string>();
  }
  /// A key that, if it is there, must have this value.
  void only(const char* key, const Json& allowed) const {
    if (has(key, false) && json_[key] != allowed) {
      fail(fmt::format("{}: expected {}; got {}", key, allowed.dump(), json_[key].dump()));
    }
  }

 private:
  bool has(const char* key, bool required) const {
    const bool there = json_.contains(key) && !json_[key].is_null();
    if (!there && required) fail(fmt::format("the key '{}' is missing", key));
    return there;
  }
  const Json& json_;
  std::string path_;
};

Json parse(const std::string& text, const std::string& path) {
  check_json_depth(path, text);
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected JSON; {}", path, e.what()));
  }
}

void read_labels(const Json& json, const Reader& read, BertConfig& c) {
  if (!json.contains("id2label") || !json["id2label"].is_object()) {
    read.integer("num_labels", c.num_labels, false);
    return;
  }
  const Json& names = json["id2label"];
  c.num_labels = static_cast<index_t>(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string key = std::to_string(i);
    if (!names.contains(key) || !names[key].is_string()) {
      read.fail(fmt::format("id2label: expected a name for each of 0..{}; '{}' is missing",
                            names.size() - 1, key));
    }
    c.labels.push_back(names[key].get<std::string>());
  }
  index_t stated = c.num_labels;
  read.integer("num_labels", stated, false);
  if (stated != c.num_labels) {
    read.fail(fmt::format("num_labels is {}, but id2label has {}", stated, c.num_labels));
  }
  if (!json.contains("label2id") || !json["label2id"].is_object()) return;
  for (std::size_t i = 0; i < c.labels.size(); ++i) {
    const auto back = json["label2id"].find(c.labels[i]);
    if (back == json["label2id"].end()) continue;
    const bool number = back->is_number_unsigned() && *back < c.labels.size();
    if (!number || c.labels[back->get<std::size_t>()] != c.labels[i]) {
      read.fail(
          fmt::format("id2label has '{}' as {}, but label2id as {}", c.labels[i], i, back->dump()));
    }
  }
}

}  // namespace

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
  const std::pair<const char*, index_t> sizes[] = {
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"num_hidden_layers", num_hidden_layers},
      {"num_attention_heads", num_attention_heads},
      {"intermediate_size", intermediate_size},
      {"max_position_embeddings", max_position_embeddings},
      {"type_vocab_size", type_vocab_size},
      {"num_labels", num_labels}};
  for (const auto& [name, value] : sizes) {
    constexpr index_t largest = 1 << 24;  // a side of this many entries is no BERT
    if (value < 1 || value > largest) {
      throw ValueError(fmt::format("{}: expected 1..{}; got {}", name, largest, value));
    }
  }
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
  for (const double p :
       {hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout.value_or(0.0)}) {
    if (!(p >= 0 && p < 1)) {
      throw ValueError(fmt::format("dropout: expected a probability in [0, 1); got {}", p));
    }
  }
  if (!(layer_norm_eps >= 0) || !(initializer_range >= 0)) {
    throw ValueError("layer_norm_eps, initializer_range: expected numbers >= 0");
  }
  if (!labels.empty() && static_cast<index_t>(labels.size()) != num_labels) {
    throw ValueError(
        fmt::format("labels: expected {} names, num_labels; got {}", num_labels, labels.size()));
  }
}

BertConfig load_bert_config(const std::string& path) {
  const Json json = parse(read_file(path), path);
  const Reader read(json, path);
  if (!json.is_object()) read.fail("expected a JSON object");
  read.only("model_type", "bert");
  read.only("position_embedding_type", "absolute");
  read.only("is_decoder", false);
  BertConfig c;
  read.integer("vocab_size", c.vocab_size);
  read.integer("hidden_size", c.hidden_size);
  read.integer("num_hidden_layers", c.num_hidden_layers);
  read.integer("num_attention_heads", c.num_attention_heads);
  read.integer("intermediate_size", c.intermediate_size);
  read.integer("max_position_embeddings", c.max_position_embeddings);
  read.integer("type_vocab_size", c.type_vocab_size, false);
  read.integer("pad_token_id", c.pad_token_id, false);
  read.real("hidden_dropout_prob", c.hidden_dropout_prob);
  read.real("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  read.real("classifier_dropout", c.classifier_dropout);
  read.text("hidden_act", c.hidden_act);
  read.real("layer_norm_eps", c.layer_norm_eps);
  read.real("initializer_range", c.initializer_range);
  read_labels(json, read, c);
  if (json.contains("factored_ranks")) {
    c.factored_ranks = parse_factored_ranks(json["factored_ranks"].dump(), path);
  }
  try {
    c.check();
  } catch (const ValueError& e) {
    read.fail(e.what());
  }
  return c;
}

void save_bert_config(const BertConfig& c, const std::string& path) {
  Json json;
  json["model_type"] = "bert";
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.hidden_size;
  json["num_hidden_layers"] = c.num_hidden_layers;
  json["num_attention_heads"] = c.num_attention_heads;
  json["intermediate_size"] = c.intermediate_size;
  json["max_position_embeddings"] = c.max_position_embeddings;
  json["type_vocab_size"] = c.type_vocab_size;
  json["pad_token_id"] = c.pad_token_id;
  json["hidden_act"] = c.hidden_act;
  json["position_embedding_type"] = "absolute";
  json["hidden_dropout_prob"] = c.hidden_dropout_prob;
  json["attention_probs_dropout_prob"] = c.attention_probs_dropout_prob;
  if (c.classifier_dropout) json["classifier_dropout"] = *c.classifier_dropout;
  json["layer_norm_eps"] = c.layer_norm_eps;
  json["initializer_range"] = c.initializer_range;
  Json id2label = Json::object();
  Json label2id = Json::object();
  for (index_t i = 0; i < c.num_labels; ++i) {
    const std::string name =
        c.labels.empty() ? "LABEL_" + std::to_string(i) : c.labels[static_cast<std::size_t>(i)];
    id2label[std::to_string(i)] = name;
    label2id[name] = i;
  }
  json["id2label"] = id2label;
  json["label2id"] = label2id;
  if (c.num_labels == 1) json["problem_type"] = "regression";
  if (!c.factored_ranks.empty()) {
    json["factored_ranks"] = Json::parse(factored_ranks_json(c.factored_ranks));
  }
  write_file_atomically(path, json.dump(2) + "\n");
}

}  // namespace parsimony
