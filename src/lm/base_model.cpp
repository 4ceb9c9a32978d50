// Where a pretrained model comes from.
#include <parsimony/bert.hpp>
#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/generate.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/vit.hpp>

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

/// A file of llama2.c's, or a folder that holds one and no config.json.
bool is_llama2c(const std::string& model) {
  if (fs::is_directory(model)) {
    return !fs::exists(fs::path(model) / "config.json") && model_folder(model) == model &&
           names_decoder(model);
  }
  if (!fs::is_regular_file(model) || fs::path(model).extension() != ".bin") return false;
  // What torch writes is a zip file or begins with a pickle's mark.
  const std::string bytes = read_file(model);
  return bytes.compare(0, 2, "PK") != 0 && bytes.compare(0, 1, "\x80") != 0;
}

std::string folder_of(const std::string& model) {
  if (model.empty() || (model == shipped_name && !fs::is_directory(model))) {
    return shipped_model();
  }
  if (is_scratch(model)) return "";
  if (is_llama2c(model)) {
    throw InputError(
        fmt::format("'{}': expected a model folder; got a model of llama2.c's: parsimony export "
                    "--model {} --out DIR makes a folder of it",
                    model, model));
  }
  if (fs::is_regular_file(model)) {
    const std::string end = fs::path(model).extension().string();
    const bool pickle = end == ".bin" || end == ".pt" || end == ".pth" || end == ".pkl";
    throw InputError(fmt::format(
        "'{}': expected a model folder; got a file{}", model,
        pickle ? ": a pickle can run code and is not read. Load it with transformers and call "
                 "save_pretrained(folder, safe_serialization=True)"
               : "; name the folder that it is in"));
  }
  check_folder(model, fmt::format("a model folder, {} or scratch:SIZE", shipped_name),
               {shipped_name});
  return model_folder(model);
}

template <class Config>
BaseConfig shared(const char* type, const Config& c, index_t layers, index_t heads) {
  BaseConfig out;
  out.type = type;
  out.num_hidden_layers = layers;
  out.num_attention_heads = heads;
  out.hidden_size = c.hidden_size;
  out.intermediate_size = c.intermediate_size;
  out.initializer_range = c.initializer_range;
  out.num_labels = c.num_labels;
  out.labels = c.labels;
  return out;
}

BaseConfig base_of(const BertConfig& c) {
  BaseConfig out = shared("bert", c, c.num_hidden_layers, c.num_attention_heads);
  out.vocab_size = c.vocab_size;
  out.max_position_embeddings = c.max_position_embeddings;
  out.type_vocab_size = c.type_vocab_size;
  return out;
}

BaseConfig base_of(const char* type, const DecoderConfig& c) {
  BaseConfig out = shared(type, c, c.layers, c.heads);
  out.vocab_size = c.vocab_size;
  out.max_position_embeddings = c.positions;
  return out;
}

BaseConfig base_of(const VitConfig& c) {
  BaseConfig out = shared("vit", c, c.num_hidden_layers, c.num_attention_heads);
  out.image_size = c.image_size;
  out.num_channels = c.num_channels;
  return out;
}

BaseConfig read_config(const std::string& folder) {
  const std::string path = (fs::path(folder) / "config.json").string();
  const std::string type = model_type(folder);
  if (type == "gpt2") return base_of("gpt2", load_gpt2_config(path));
  if (type == "llama") return base_of("llama", load_llama_config(path));
  if (type == "vit") return base_of(load_vit_config(path));
  return base_of(load_bert_config(path));
}

/// What "scratch:..." asks for.
struct Fresh {
  std::string type = "bert", size;
  index_t image = 0, channels = 0;
};

Fresh fresh_of(const std::string& model) {
  Fresh out;
  out.size = model.substr(8);
  for (const char* type : {"bert", "gpt2", "llama", "vit"}) {
    const std::string start = std::string(type) + "-";
    if (out.size.compare(0, start.size(), start) != 0) continue;
    out.type = type;
    out.size = out.size.substr(start.size());
    break;
  }
  if (out.type != "vit") return out;
  const std::size_t dash = out.size.find('-');
  const std::size_t times = out.size.find('x', dash == std::string::npos ? 0 : dash);
  double image = 0;
  double channels = 1;
  const bool good =
      dash != std::string::npos &&
      parse_number(out.size.substr(dash + 1, times == std::string::npos ? times : times - dash - 1),
                   image) &&
      (times == std::string::npos || parse_number(out.size.substr(times + 1), channels));
  if (!good || !(image >= 1 && image <= 4096) || !(channels >= 1 && channels <= 64)) {
    throw InputError(fmt::format(
        "'{}': expected scratch:vit-SIZE-NxC for images of N x N with C channels, as in "
        "scratch:vit-tiny-28x1",
        model));
  }
  out.image = static_cast<index_t>(image);
  out.channels = static_cast<index_t>(channels);
  out.size = out.size.substr(0, dash);
  return out;
}

BertConfig fresh_bert(const Fresh& f, const Tokenizer& tokenizer) {
  BertConfig c = BertConfig::sized(f.size, tokenizer.size());
  c.pad_token_id = tokenizer.pad_id();
  return c;
}

/// The fresh weights' config, with the vocabulary's ids of beginning and end.
template <class Config>
Config fresh_decoder(const Fresh& f, const Tokenizer& tokenizer) {
  Config c = Config::sized(f.size, tokenizer.size());
  c.bos_id = tokenizer.bos_id();
  c.eos_id = tokenizer.eos_id();
  return c;
}

template <class Config>
Config with_labels(Config c, const TextTask& task) {
  c.num_labels = task.outputs();
  c.labels = task.labels;
  return c;
}

/// Brings a fresh head, drawn at initializer_range, to the scale of the paper's. Its classifier is
/// Flax's default, N(0, 1/hidden). Its pooler is N(0, 0.02²) at width 768; what reaches tanh then
/// has the same spread at any width. At 0.02 throughout, a frozen head 128 wide could not answer 5.
void scale_fresh_head(Model<float>& model, const BaseConfig& c,
                      const std::vector<std::string>& fresh) {
  const double width = static_cast<double>(c.hidden_size);
  const auto rescale = [&](const std::string& which, double factor) {
    if (std::find(fresh.begin(), fresh.end(), which) == fresh.end()) return;
    for (auto& [name, var] : model.named_parameters()) {
      if (name == which) var.assign(scale(var.value(), factor));
    }
  };
  for (const char* head : {"classifier.weight", "score.weight"}) {
    rescale(head, 1 / (c.initializer_range * std::sqrt(width)));
  }
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
    : name_(model.empty() ? shipped_name : model), folder_(folder_of(model)) {
  const Fresh fresh = folder_.empty() ? fresh_of(model) : Fresh();
  if (!folder_.empty()) config_ = read_config(folder_);
  if (folder_.empty() && fresh.type == "vit") {
    config_ = base_of(VitConfig::sized(fresh.size, fresh.image, fresh.channels));
  }
  if (config_.type == "vit") return;
  tokenizer_ = load_tokenizer(folder_.empty() ? shipped_model() : folder_);
  if (folder_.empty()) {
    const Tokenizer& t = *tokenizer_;
    config_ = fresh.type == "gpt2"    ? base_of("gpt2", fresh_decoder<Gpt2Config>(fresh, t))
              : fresh.type == "llama" ? base_of("llama", fresh_decoder<LlamaConfig>(fresh, t))
                                      : base_of(fresh_bert(fresh, t));
  }
  if (tokenizer_->size() > config_.vocab_size) {
    throw InputError(fmt::format("'{}': {} has {} tokens, config.json's vocab_size is {}", folder_,
                                 config_.type == "bert" ? "vocab.txt" : "the vocabulary",
                                 tokenizer_->size(), config_.vocab_size));
  }
}

const Tokenizer& BaseModel::tokenizer() const {
  if (!tokenizer_) throw ValueError(fmt::format("'{}' is a model of images, not of texts", name_));
  return *tokenizer_;
}

std::unique_ptr<Model<float>> BaseModel::classifier(const TextTask& task, std::uint64_t head_seed,
                                                    LoadReport* report) const {
  using T = float;
  const Rng rng = Rng(head_seed).split("head");
  LoadReport own;
  LoadReport& found = report != nullptr ? *report : own;
  const index_t outputs = task.outputs();
  std::unique_ptr<Model<T>> model;
  if (!folder_.empty()) {
    if (config_.type == "bert") {
      model = load_bert<T>(folder_, BertHead::classifier, rng, outputs, &found, task.labels);
    } else if (config_.type == "vit") {
      model = load_vit<T>(folder_, rng, outputs, &found, task.labels);
    } else {
      model = load_decoder<T>(folder_, DecoderHead::classifier, rng, outputs, &found, task.labels);
    }
  } else {
    const Fresh f = fresh_of(name_);
    if (f.type == "vit") {
      model = std::make_unique<Vit<T>>(
          with_labels(VitConfig::sized(f.size, f.image, f.channels), task), rng);
    } else if (f.type == "gpt2") {
      model =
          std::make_unique<Gpt2<T>>(with_labels(fresh_decoder<Gpt2Config>(f, *tokenizer_), task),
                                    DecoderHead::classifier, rng);
    } else if (f.type == "llama") {
      model =
          std::make_unique<Llama<T>>(with_labels(fresh_decoder<LlamaConfig>(f, *tokenizer_), task),
                                     DecoderHead::classifier, rng);
    } else {
      model = std::make_unique<Bert<T>>(with_labels(fresh_bert(f, *tokenizer_), task),
                                        BertHead::classifier, rng);
    }
    for (const auto& [name, var] : model->named_parameters()) found.fresh.push_back(name);
  }
  scale_fresh_head(*model, config_, found.fresh);
  return model;
}

}  // namespace parsimony
