// Where a pretrained model comes from.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/ops.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "lm/shipped.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

constexpr const char* scratch = "scratch:";

bool is_scratch(const std::string& model) { return model.compare(0, 8, scratch) == 0; }

/// A pretraining run keeps its model in model/.
std::string model_folder(const std::string& given) {
  const fs::path inner = fs::path(given) / "model";
  if (!fs::exists(fs::path(given) / "model.safetensors") &&
      fs::exists(inner / "model.safetensors")) {
    return inner.string();
  }
  return given;
}

std::string folder_of(const std::string& model) {
  if (model.empty() || (model == shipped_name && !fs::is_directory(model))) {
    return shipped_model();
  }
  if (is_scratch(model)) return "";
  if (fs::is_regular_file(model)) {
    const std::string end = fs::path(model).extension().string();
    const bool pickle = end == ".bin" || end == ".pt" || end == ".pth" || end == ".pkl";
    throw InputError(fmt::format(
        "'{}': expected a model folder; got a file{}", model,
        pickle ? ": a pickle can run code and is not read. Load it with transformers and call "
                 "save_pretrained(folder, safe_serialization=True)"
               : "; name the folder that it is in"));
  }
  if (!fs::is_directory(model)) {
    throw InputError(
        fmt::format("'{}': expected a model folder with config.json, "
                    "model.safetensors and vocab.txt, or scratch:SIZE",
                    model));
  }
  return model_folder(model);
}

BertConfig config_of(const std::string& model, const std::string& folder,
                     const WordPieceTokenizer& tokenizer) {
  if (folder.empty()) {
    BertConfig c = BertConfig::sized(model.substr(8), tokenizer.size());
    c.pad_token_id = tokenizer.pad_id();
    return c;
  }
  const std::string path = (fs::path(folder) / "config.json").string();
  BertConfig c = load_bert_config(path);
  if (tokenizer.size() > c.vocab_size) {
    throw InputError(fmt::format("'{}': vocab.txt has {} tokens, config.json's vocab_size is {}",
                                 folder, tokenizer.size(), c.vocab_size));
  }
  return c;
}

/// Brings a fresh head, drawn at initializer_range, to the scale of the paper's. Its classifier is
/// Flax's default, N(0, 1/hidden). Its pooler is N(0, 0.02²) at width 768; what reaches tanh then
/// has the same spread at any width. At 0.02 throughout, a frozen head 128 wide could not answer 5.
void scale_fresh_head(Bert<float>& model, const std::vector<std::string>& fresh) {
  const BertConfig& c = model.config();
  const double width = static_cast<double>(c.hidden_size);
  const auto rescale = [&](const std::string& which, double factor) {
    if (std::find(fresh.begin(), fresh.end(), which) == fresh.end()) return;
    for (auto& [name, var] : model.named_parameters()) {
      if (name == which) var.assign(scale(var.value(), factor));
    }
  };
  rescale("classifier.weight", 1 / (c.initializer_range * std::sqrt(width)));
  rescale("bert.pooler.dense.weight", std::sqrt(768 / width));
}

}  // namespace

std::string shipped_model() {
  const char* named = std::getenv("PARSIMONY_MODEL");
  if (named != nullptr && *named != '\0') return model_folder(named);
  for (const char* place : {shipped_model_installed, shipped_model_in_source}) {
    if (fs::exists(fs::path(place) / "model.safetensors")) return place;
  }
  throw InputError(
      fmt::format("the shipped model is neither in {} nor in {}; name one with --model DIR",
                  shipped_model_installed, shipped_model_in_source));
}

BaseModel::BaseModel(const std::string& model)
    : name_(model.empty() ? shipped_name : model),
      folder_(folder_of(model)),
      tokenizer_(WordPieceTokenizer::load(folder_.empty() ? shipped_model() : folder_)) {
  config_ = config_of(model, folder_, tokenizer_);
}

std::unique_ptr<Bert<float>> BaseModel::classifier(const TextTask& task, std::uint64_t head_seed,
                                                   LoadReport* report) const {
  const Rng rng = Rng(head_seed).split("head");
  LoadReport own;
  LoadReport& found = report != nullptr ? *report : own;
  if (!folder_.empty()) {
    auto model =
        load_bert<float>(folder_, BertHead::classifier, rng, task.outputs(), &found, task.labels);
    scale_fresh_head(*model, found.fresh);
    return model;
  }
  BertConfig config = config_;
  config.num_labels = task.outputs();
  config.labels = task.labels;
  auto model = std::make_unique<Bert<float>>(config, BertHead::classifier, rng);
  for (const auto& [name, var] : model->named_parameters()) found.fresh.push_back(name);
  scale_fresh_head(*model, found.fresh);
  return model;
}

}  // namespace parsimony
