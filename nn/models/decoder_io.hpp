// Loading of the decoders, one function a family.
#pragma once

#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>

#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "checkpoint.hpp"
#include "config_file.hpp"

namespace parsimony {

template <class T>
std::unique_ptr<Decoder<T>> load_gpt2(const std::string& folder, DecoderHead head, const Rng& rng,
                                      index_t num_labels, LoadReport* report,
                                      const std::vector<std::string>& labels);
template <class T>
std::unique_ptr<Decoder<T>> load_llama(const std::string& folder, DecoderHead head, const Rng& rng,
                                       index_t num_labels, LoadReport* report,
                                       const std::vector<std::string>& labels);

/// The rules that all decoders share.
inline CheckpointRules decoder_rules(const std::string& prefix) {
  CheckpointRules r;
  r.prefix = prefix;
  r.heads = {"lm_head.", "score."};
  r.optional = {"score."};
  r.resizable = "score.";
  return r;
}

/// The ids of the special tokens and the labels, which all decoders have.
inline void read_ids(const ConfigReader& read, DecoderConfig& c) {
  const auto id = [&](const char* key, index_t& value) {
    read.first_integer(key, value);
    if (value >= c.vocab_size) value = -1;  // of a tokenizer that was not shrunk with the model
  };
  id("bos_token_id", c.bos_id);
  id("eos_token_id", c.eos_id);
  id("pad_token_id", c.pad_id);
  read.labels(c.num_labels, c.labels);
  read.factored_ranks(c.factored_ranks);
}

inline void write_ids(ConfigWriter& write, const DecoderConfig& c) {
  if (c.bos_id >= 0) write.set("bos_token_id", c.bos_id);
  if (c.eos_id >= 0) write.set("eos_token_id", c.eos_id);
  if (c.pad_id >= 0) write.set("pad_token_id", c.pad_id);
}

/// The config's own checks, with the file's name.
template <class Config>
void checked(const ConfigReader& read, const Config& c) {
  try {
    c.check();
  } catch (const ValueError& e) {
    read.fail(e.what());
  }
}

/// A model with the config's labels, or those asked for, read from a folder.
template <class Model, class Config>
std::unique_ptr<Model> load_with_head(Config config, const std::string& folder, DecoderHead head,
                                      const Rng& rng, index_t num_labels, LoadReport* report,
                                      const std::vector<std::string>& labels,
                                      const CheckpointRules& rules) {
  const bool other_size = num_labels > 0 && num_labels != config.num_labels;
  if (num_labels > 0) {
    config.num_labels = num_labels;
    config.labels = labels;
  }
  const Checkpoint file(folder, rules);
  const auto d = static_cast<double>(config.hidden_size);
  file.check_size(
      d * static_cast<double>(config.vocab_size + config.num_labels) +
          static_cast<double>(config.layers) * d *
              (d + 2.0 * static_cast<double>(config.intermediate_size)),
      fmt::format("{} layers, hidden_size {}, intermediate_size {}, vocab_size {}", config.layers,
                  config.hidden_size, config.intermediate_size, config.vocab_size));
  const Initializer init = Initializer::postponed(rng);
  auto model = std::make_unique<Model>(config, head, init);
  const LoadReport found = file.load_into(*model, other_size, init);
  if (report != nullptr) *report = found;
  return model;
}

}  // namespace parsimony
