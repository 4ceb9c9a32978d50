// BERT folders in Hugging Face's layout: config.json and model.safetensors.
#include <parsimony/bert.hpp>

#include <fmt/format.h>

#include "checkpoint.hpp"
#include "config_file.hpp"

namespace parsimony {

namespace {

/// LayerNorm's old names replaced.
std::string renamed(const std::string& name) {
  for (const auto& [old, now] : {std::pair<std::string, std::string>{"LayerNorm.gamma", "weight"},
                                 {"LayerNorm.beta", "bias"}}) {
    const std::size_t at = name.rfind(old);
    if (at != std::string::npos && at + old.size() == name.size()) {
      return name.substr(0, at) + "LayerNorm." + now;
    }
  }
  return name;
}

CheckpointRules rules(BertHead head) {
  CheckpointRules r;
  r.prefix = "bert.";
  r.heads = {"classifier.", "cls."};
  r.optional = {"bert.pooler.", "classifier.", "cls.predictions."};
  r.resizable = "classifier.";
  if (head == BertHead::masked_lm) {
    r.tied["cls.predictions.decoder.weight"] = "bert.embeddings.word_embeddings.weight";
  }
  r.renamed = renamed;
  r.ignored = [](const std::string& name) {
    return name == "bert.embeddings.position_ids" || name.compare(0, 4, "cls.") == 0;
  };
  return r;
}

}  // namespace

template <class T>
std::unique_ptr<Bert<T>> load_bert(const std::string& folder, BertHead head, const Rng& rng,
                                   index_t num_labels, LoadReport* report,
                                   const std::vector<std::string>& labels) {
  check_weights(folder);
  BertConfig config = load_bert_config(config_path(folder));
  const bool other_size = num_labels > 0 && num_labels != config.num_labels;
  if (num_labels > 0) {
    config.num_labels = num_labels;
    config.labels = labels;
  }
  const Checkpoint file(folder, rules(head));
  const auto h = static_cast<double>(config.hidden_size);
  const double layer =
      4 * h * h + (2 * h + 1) * static_cast<double>(config.intermediate_size) + 9 * h;
  file.check_size(h * static_cast<double>(config.vocab_size + config.max_position_embeddings +
                                          config.type_vocab_size + config.num_labels) +
                      static_cast<double>(config.num_hidden_layers) * layer + h * h,
                  fmt::format("{} layers, hidden_size {}, intermediate_size {}, vocab_size {}",
                              config.num_hidden_layers, config.hidden_size,
                              config.intermediate_size, config.vocab_size));
  const Initializer init = Initializer::postponed(rng);
  auto model = std::make_unique<Bert<T>>(config, head, init);
  const LoadReport found = file.load_into<T>(*model, other_size, init);
  if (report != nullptr) *report = found;
  return model;
}

template <class T>
void Bert<T>::save(const std::string& folder, FloatFormat format) {
  save_checkpoint<T>(*this, folder, rules(head_), format);
  BertConfig config = config_;
  config.factored_ranks = factored_ranks(*this);
  save_bert_config(config, config_path(folder), head_);
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template std::unique_ptr<Bert<T>> load_bert(const std::string&, BertHead, const Rng&, index_t, \
                                              LoadReport*, const std::vector<std::string>&);     \
  template void Bert<T>::save(const std::string&, FloatFormat);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
