// BERT folders in Hugging Face's layout: config.json and model.safetensors.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

namespace parsimony {

namespace {

namespace fs = std::filesystem;

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

/// Our name of a tensor in a checkpoint: with the prefix, and LayerNorm's old names replaced.
std::string canonical(std::string name, bool prefixed) {
  if (!prefixed && !starts_with(name, "classifier.") && !starts_with(name, "cls.")) {
    name = "bert." + name;
  }
  for (const auto& [old, now] : {std::pair<std::string, std::string>{"LayerNorm.gamma", "weight"},
                                 {"LayerNorm.beta", "bias"}}) {
    if (ends_with(name, old)) name = name.substr(0, name.size() - old.size()) + "LayerNorm." + now;
  }
  return name;
}

/// The part of a model that may be missing as a whole and is then fresh, or "".
std::string optional_part(const std::string& name) {
  for (const char* part : {"bert.pooler.", "classifier.", "cls.predictions."}) {
    if (starts_with(name, part)) return part;
  }
  return "";
}

/// Tensors that a checkpoint may have and a model without that head does not use.
bool may_be_ignored(const std::string& name) {
  return name == "bert.embeddings.position_ids" || starts_with(name, "cls.") ||
         !optional_part(name).empty();
}

std::string weights_file(const std::string& folder) {
  const fs::path path = fs::path(folder) / "model.safetensors";
  if (fs::exists(path)) return path.string();
  if (!fs::is_directory(folder)) {
    throw InputError(
        fmt::format("'{}': expected a model folder with config.json and "
                    "model.safetensors",
                    folder));
  }
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.pt", "model.bin"}) {
    if (fs::exists(fs::path(folder) / pickle)) {
      throw InputError(fmt::format(
          "'{}' has {} but no model.safetensors; a pickle can run code and is not read. Convert "
          "it: "
          "load it with transformers and call save_pretrained(folder, safe_serialization=True)",
          folder, pickle));
    }
  }
  if (fs::exists(fs::path(folder) / "model.safetensors.index.json")) {
    throw InputError(fmt::format(
        "'{}': the weights are spread over several files, which are not read together; save the "
        "model with max_shard_size above its size",
        folder));
  }
  throw InputError(fmt::format("'{}': model.safetensors is missing", folder));
}

/// The first names, each with its nearest of `others`.
std::string listed(const std::vector<std::string>& names, const std::vector<std::string>& others,
                   const char* nearest) {
  constexpr std::size_t most = 12;
  std::string out;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) {
    const std::string near = nearest_name(names[i], others);
    out += (i == 0 ? "" : ", ") + names[i];
    if (!near.empty()) out += fmt::format(" ({} {})", nearest, near);
  }
  if (most < names.size()) out += fmt::format(", and {} more", names.size() - most);
  return out;
}

/// Canonical name to the file's. @throws InputError if two of the file's names mean one tensor.
std::map<std::string, std::string> canonical_names(const std::string& file,
                                                   const std::vector<std::string>& stored) {
  const bool prefixed = std::any_of(stored.begin(), stored.end(), [](const std::string& name) {
    return starts_with(name, "bert.");
  });
  std::map<std::string, std::string> names;
  for (const std::string& name : stored) {
    const auto [at, is_new] = names.emplace(canonical(name, prefixed), name);
    if (!is_new) {
      throw InputError(fmt::format("'{}': {} and {} are the same tensor", file, at->second, name));
    }
  }
  return names;
}

/// A config that is far from its file would cost its memory before the shapes can be compared.
void check_size(const BertConfig& c, const std::string& file, const TensorMap& stored) {
  const auto h = static_cast<double>(c.hidden_size);
  const double layer = 4 * h * h + (2 * h + 1) * static_cast<double>(c.intermediate_size) + 9 * h;
  const double described = h * static_cast<double>(c.vocab_size + c.max_position_embeddings +
                                                   c.type_vocab_size + c.num_labels) +
                           static_cast<double>(c.num_hidden_layers) * layer + h * h;
  double there = 0;
  for (const std::string& name : stored.names()) {
    double values = 1;
    for (const index_t n : stored.shape(name)) values *= static_cast<double>(n);
    there += values;
  }
  if (described > 64 * there + 0x1p26) {
    throw InputError(
        fmt::format("'{}' has {:.3g} numbers, but config.json describes a model of {:.3g}: {} "
                    "layers, hidden_size {}, intermediate_size {}, vocab_size {}",
                    file, there, described, c.num_hidden_layers, c.hidden_size, c.intermediate_size,
                    c.vocab_size));
  }
}

/// Scores are computed with the word embedding; a decoder of its own would be another model.
void check_decoder(const std::string& file, const TensorMap& stored,
                   const std::map<std::string, std::string>& in_file) {
  const auto decoder = in_file.find("cls.predictions.decoder.weight");
  const auto words = in_file.find("bert.embeddings.word_embeddings.weight");
  if (decoder == in_file.end() || words == in_file.end()) return;
  const Tensor<float> a = stored.get_as<float>(decoder->second);
  const Tensor<float> b = stored.get_as<float>(words->second);
  if (a.shape() != b.shape() || !std::equal(a.begin(), a.end(), b.begin())) {
    throw InputError(
        fmt::format("'{}': {} is not the word embedding; only tied decoders are supported", file,
                    decoder->second));
  }
}

}  // namespace

template <class T>
std::unique_ptr<Bert<T>> load_bert(const std::string& folder, BertHead head, const Rng& rng,
                                   index_t num_labels, LoadReport* report,
                                   const std::vector<std::string>& labels) {
  const std::string file = weights_file(folder);
  BertConfig config = load_bert_config((fs::path(folder) / "config.json").string());
  const bool other_size = num_labels > 0 && num_labels != config.num_labels;
  if (num_labels > 0) {
    config.num_labels = num_labels;
    config.labels = labels;
  }
  const TensorMap stored = load_safetensors(file);
  const std::map<std::string, std::string> in_file = canonical_names(file, stored.names());
  check_size(config, file, stored);
  if (head == BertHead::masked_lm) check_decoder(file, stored, in_file);

  auto model = std::make_unique<Bert<T>>(config, head, rng);
  LoadReport found;
  std::vector<std::string> missing;
  std::vector<std::string> misshaped;
  std::set<std::string> parts_there;
  for (const auto& [name, unused] : in_file) parts_there.insert(optional_part(name));
  std::set<std::string> known;
  for (auto& [name, var] : model->named_parameters()) {
    known.insert(name);
    const std::string part = optional_part(name);
    const auto at = in_file.find(name);
    if (at == in_file.end()) {
      const bool whole_part = !part.empty() && parts_there.count(part) == 0;
      (whole_part ? found.fresh : missing).push_back(name);
    } else if (stored.shape(at->second) != var.shape()) {
      if (part == "classifier." && other_size) {
        found.fresh.push_back(name);
      } else {
        misshaped.push_back(fmt::format("{} is {}, expected {}", name,
                                        stored.shape(at->second).str(), var.shape().str()));
      }
    } else {
      var.assign(stored.get_as<T>(at->second));
    }
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, unused] : in_file) {
    if (known.count(name) > 0) continue;
    (may_be_ignored(name) ? found.ignored : unexpected).push_back(name);
  }
  std::string problems;
  if (!missing.empty()) problems += "; missing: " + listed(missing, unexpected, "the file has");
  if (!unexpected.empty()) {
    problems += "; unexpected: " + listed(unexpected, missing, "did you mean");
  }
  if (!misshaped.empty()) {
    problems += "; of another shape than config.json says: " + listed(misshaped, {}, "");
  }
  if (!problems.empty()) throw InputError(fmt::format("'{}'{}", file, problems));
  if (report != nullptr) *report = found;
  return model;
}

template <class T>
void save_bert(Bert<T>& model, const std::string& folder, FloatFormat format) {
  std::map<std::string, Tensor<T>> merged;
  std::vector<std::string> adapters;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    merged[name + ".weight"] = add(layer->weight.value(), layer->adapter()->delta());
    adapters.push_back(name + "." + layer->adapter()->name() + ".");
  }
  TensorMap out;
  for (const auto& [name, var] : model.named_parameters()) {
    const bool adapter = std::any_of(adapters.begin(), adapters.end(),
                                     [&n = name](const auto& a) { return starts_with(n, a); });
    if (adapter) continue;
    const auto found = merged.find(name);
    const Tensor<T>& value = found == merged.end() ? var.value() : found->second;
    out.set_narrow(name, cast<float>(value), format);
  }
  make_folders(folder);
  save_safetensors((fs::path(folder) / "model.safetensors").string(), out);
  BertConfig config = model.config();
  config.factored_ranks = factored_ranks(model);
  save_bert_config(config, (fs::path(folder) / "config.json").string());
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template std::unique_ptr<Bert<T>> load_bert(const std::string&, BertHead, const Rng&, index_t, \
                                              LoadReport*, const std::vector<std::string>&);     \
  template void save_bert(Bert<T>&, const std::string&, FloatFormat);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
