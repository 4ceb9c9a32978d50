// parsimony inspect: what is in a model folder, an adapter folder or a safetensors file, and the
// spectra and numerical ranks of updates.
#include <parsimony/error.hpp>
#include <parsimony/factored.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "cli/language.hpp"
#include "io/nlohmann.hpp"
#include "io/tensor_name.hpp"

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct InspectSettings {
  std::string path, model, base;
  bool tensors = false, json = false;
  int threads = threads_unset;
};

std::string joined(const Shape& shape) {
  std::string text;
  for (const index_t n : shape) text += fmt::format("{}{}", text.empty() ? "" : "x", n);
  return text.empty() ? "scalar" : text;
}

Json shape_json(const Shape& shape) {
  Json json = Json::array();
  for (const index_t n : shape) json.push_back(n);
  return json;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  const double mb = static_cast<double>(bytes) / (1024 * 1024);
  return mb < 1 ? fmt::format("{:.1f} KiB", 1024 * mb) : fmt::format("{:.1f} MiB", mb);
}

// --- Tensors of a file --------------------------------------------------------------------------

Json tensors_json(const SafetensorsSummary& file) {
  Json tensors = Json::array();
  for (const auto& t : file.tensors) {
    tensors.push_back(
        {{"name", t.name}, {"dtype", t.dtype}, {"shape", shape_json(t.shape)}, {"bytes", t.bytes}});
  }
  return tensors;
}

Json file_json(const std::string& path, const SafetensorsSummary& file) {
  std::map<std::string, index_t> by_type;
  index_t parameters = 0;
  for (const auto& t : file.tensors) {
    by_type[t.dtype] += t.shape.size();
    parameters += t.shape.size();
  }
  return {{"file", path},
          {"bytes", file.file_bytes},
          {"tensors", file.tensors.size()},
          {"parameters", parameters},
          {"dtypes", by_type},
          {"metadata", file.metadata}};
}

void print_file(const Json& json) {
  std::string types;
  for (const auto& [type, count] : json["dtypes"].items()) {
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", count.get<index_t>(), type);
  }
  fmt::print("{}: {}, {} tensors, {} numbers ({})\n", json["file"].get<std::string>(),
             size_text(json["bytes"].get<std::uint64_t>()), json["tensors"].get<index_t>(),
             json["parameters"].get<index_t>(), types);
}

void print_tensors(const SafetensorsSummary& file) {
  fmt::print("{:<72} {:>5} {:>14} {:>12}\n", "tensor", "type", "shape", "numbers");
  for (const auto& t : file.tensors) {
    fmt::print("{:<72} {:>5} {:>14} {:>12}\n", shown_name(t.name), t.dtype, joined(t.shape),
               t.shape.size());
  }
}

// --- Updates ------------------------------------------------------------------------------------

/// ΔW of one module.
struct Update {
  std::string module;
  Shape shape;
  index_t parameters = 0;
  Tensor<float> spectrum;
};

Json update_json(const Update& u, bool deep) {
  const index_t side = std::max(u.shape[0], u.shape[1]);
  const index_t rank = numerical_rank_of(u.spectrum, side);
  return {{"name", u.module},
          {"shape", shape_json(u.shape)},
          {"parameters", u.parameters},
          {"numerical_rank", rank},
          {"paper_rank", paper_rank(u.spectrum, side, deep)},
          {"singular_values", std::vector<float>(u.spectrum.begin(), u.spectrum.end())}};
}

void print_updates(const Json& updates) {
  if (updates.empty()) return;
  fmt::print("\n{:<52} {:>12} {:>11} {:>5} {:>6}  {}\n", "update of", "shape", "parameters", "rank",
             "paper", "largest singular values");
  for (const Json& u : updates) {
    std::string values;
    for (std::size_t i = 0; i < std::min<std::size_t>(5, u["singular_values"].size()); ++i) {
      values += fmt::format(" {:.3g}", u["singular_values"][i].get<double>());
    }
    fmt::print("{:<52} {:>12} {:>11} {:>5} {:>6} {}\n", shown_name(u["name"].get<std::string>()),
               fmt::format("{}x{}", u["shape"][0].get<index_t>(), u["shape"][1].get<index_t>()),
               u["parameters"].get<index_t>(), u["numerical_rank"].get<index_t>(),
               u["paper_rank"].get<index_t>(), values);
  }
  fmt::print(
      "rank: singular values above the largest times max(m, n) times 1.19e-7; paper: as the "
      "paper counts\n");
}

std::vector<Update> updates_of(Model<float>& model) {
  std::vector<Update> updates;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    Update u{name, layer->weight.shape(), 0, update_spectrum(*layer->adapter())};
    for (const auto& [parameter, var] : layer->adapter()->named_parameters()) {
      u.parameters += var.value().size();
    }
    updates.push_back(std::move(u));
  }
  return updates;
}

std::vector<Update> updates_of(const PeftFolder& folder) {
  std::vector<Update> updates;
  for (const PeftUpdate& found : peft_updates(folder)) {
    updates.push_back({found.module, found.shape, found.rank * (found.shape[0] + found.shape[1]),
                       found.spectrum});
  }
  return updates;
}

/// What an adapter folder holds beside updates: a trained head, or all of a base that was fresh.
SafetensorsSummary stored_whole(const AdapterSource& source, const SafetensorsSummary& weights) {
  const std::string head = (fs::path(source.folder) / "head.safetensors").string();
  if (!source.peft) return fs::exists(head) ? summarize_safetensors(head) : SafetensorsSummary();
  SafetensorsSummary out;
  const std::string prefix = "base_model.model.";
  for (auto tensor : weights.tensors) {
    if (tensor.name.find(".lora_") != std::string::npos) continue;
    if (tensor.name.compare(0, prefix.size(), prefix) == 0) tensor.name.erase(0, prefix.size());
    out.tensors.push_back(tensor);
  }
  return out;
}

// --- What a path is -----------------------------------------------------------------------------

Json inspect_adapter(const InspectSettings& s, const std::string& given, SafetensorsSummary& file) {
  const AdapterSource source(given);
  const std::string weights = (fs::path(source.folder) / "adapter_model.safetensors").string();
  file = summarize_safetensors(weights);
  Json json = {{"kind", "adapter"}, {"folder", source.folder}};
  std::vector<Update> updates;
  bool deep = false;
  if (source.peft) {
    const PeftConfig& c = source.peft->config;
    json.update({{"format", "peft"}, {"method", "lora"}});
    json["options"] = {{"rank", c.r}, {"alpha", c.alpha}, {"rslora", c.rslora}};
    json["base"] = source.base;
    updates = updates_of(*source.peft);
  } else {
    const AdapterFolder native = read_adapter_config(source.folder);
    deep = native.options.method == "deep-lora";
    json.update({{"format", "native"},
                 {"method", native.adapted ? native.options.method : "head"},
                 {"targets", native.set}});
    for (const auto& [key, value] : native.options.values) {
      std::visit([&, &key = key](const auto& held) { json["options"][key] = held; }, value);
    }
    json["base"] = source.base;
    if (s.model.empty() && !source.base.empty() && source.base != shipped_name &&
        source.base.compare(0, 8, "scratch:") != 0 && !fs::is_directory(source.base)) {
      fmt::print(stderr, "the base '{}' is not here; with --model DIR there would be spectra\n",
                 source.base);
    } else {
      const Answering answering(s.model, source.folder);
      updates = updates_of(*answering.model);
    }
  }
  if (source.task) {
    json.update({{"task", source.task->name},
                 {"labels", source.task->labels},
                 {"metric", source.task->metric}});
  }
  json["weights"] = file_json(weights, file);
  json["stored_whole"] = tensors_json(stored_whole(source, file));
  json["updates"] = Json::array();
  index_t parameters = 0;
  for (const Update& u : updates) {
    json["updates"].push_back(update_json(u, deep));
    parameters += u.parameters;
  }
  json["adapter_parameters"] = parameters;
  return json;
}

/// W - W₀ of every matrix that two models share, but for a head of another task's size.
std::vector<Update> differences(const std::string& weights, const std::string& base) {
  const auto plain = [](const std::string& name) {
    return name.compare(0, 5, "bert.") == 0 ? name.substr(5) : name;
  };
  const TensorMap now = load_safetensors(weights);
  const std::string base_weights = (fs::path(base) / "model.safetensors").string();
  const TensorMap before = load_safetensors(base_weights);
  check_finite(weights, now);
  check_finite(base_weights, before);
  std::map<std::string, std::string> names;
  for (const std::string& name : before.names()) names[plain(name)] = name;
  std::vector<Update> updates;
  for (const std::string& name : now.names()) {
    const auto found = names.find(plain(name));
    if (found == names.end() || now.shape(name).rank() != 2) continue;
    const bool head = name == "classifier.weight" || name == "score.weight";
    if (head && before.shape(found->second) != now.shape(name)) {
      fmt::print(stderr, "{} is {}, in '{}' {}: left out\n", name, now.shape(name).str(), base,
                 before.shape(found->second).str());
      continue;
    }
    if (before.shape(found->second) != now.shape(name)) {
      throw InputError(fmt::format("'{}': {} is {}, in '{}' it is {}", weights, shown_name(name),
                                   now.shape(name).str(), base, before.shape(found->second).str()));
    }
    const Tensor<float> difference =
        sub(now.get_as<float>(name), before.get_as<float>(found->second));
    updates.push_back({name, now.shape(name), now.shape(name).size(), singular_values(difference)});
  }
  return updates;
}

Json inspect_model(const InspectSettings& s, const std::string& folder, SafetensorsSummary& file) {
  const BaseModel base(folder);
  const BaseConfig& c = base.config();
  const std::string weights = (fs::path(folder) / "model.safetensors").string();
  LoadReport report;
  TextTask outputs;  // as many as the model has
  outputs.labels = c.labels;
  for (index_t i = 0; c.labels.empty() && c.num_labels > 1 && i < c.num_labels; ++i) {
    outputs.labels.push_back("LABEL_" + std::to_string(i));
  }
  const auto model = base.classifier(outputs, 0, &report);
  file = summarize_safetensors(weights);
  Json json = {{"kind", "model"},
               {"folder", folder},
               {"type", c.type},
               {"layers", c.num_hidden_layers},
               {"hidden_size", c.hidden_size},
               {"heads", c.num_attention_heads},
               {"intermediate_size", c.intermediate_size},
               {"vocabulary", c.vocab_size},
               {"positions", c.max_position_embeddings},
               {"labels", c.labels},
               {"num_labels", c.num_labels},
               {"missing", parts_of(report.fresh)},
               {"weights", file_json(weights, file)}};
  if (const FactoredRanks ranks = factored_ranks(*model); !ranks.empty()) {
    json["factored_ranks"] = ranks;
  }
  if (c.type == "vit") json["image"] = {c.num_channels, c.image_size, c.image_size};
  if (fs::exists(fs::path(folder) / "vocab.txt")) {
    const auto tokenizer = WordPieceTokenizer::load(folder);
    json["tokens"] = tokenizer.size();
    json["lower_case"] = tokenizer.options().lower_case;
  }
  json["updates"] = Json::array();
  if (!s.base.empty()) {
    for (const Update& u : differences(weights, BaseModel(s.base).folder())) {
      json["updates"].push_back(update_json(u, false));
    }
  }
  return json;
}

void print_adapter(const Json& json) {
  std::string options;
  if (json.contains("options")) {
    for (const auto& [key, value] : json["options"].items()) {
      options +=
          fmt::format(", {} {}", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  fmt::print("adapter     {} ({}){}\n", json["method"].get<std::string>(),
             json["format"].get<std::string>(), options);
  if (json.contains("targets")) fmt::print("targets     {}\n", json["targets"].get<std::string>());
  fmt::print("base        {}\n", json["base"].get<std::string>());
  if (json.contains("task")) {
    fmt::print(
        "task        {}, {}\n", json["task"].get<std::string>(),
        json["labels"].empty() ? "regression" : fmt::format("{} classes", json["labels"].size()));
  }
  fmt::print("parameters  {} in {} adapters, {} stored in all\n",
             json["adapter_parameters"].get<index_t>(), json["updates"].size(),
             json["weights"]["parameters"].get<index_t>());
  std::vector<std::string> whole;
  index_t numbers = 0;
  for (const Json& tensor : json["stored_whole"]) {
    whole.push_back(tensor["name"].get<std::string>());
    index_t size = 1;
    for (const Json& n : tensor["shape"]) size *= n.get<index_t>();
    numbers += size;
  }
  if (!whole.empty()) fmt::print("stored too  {}: {} numbers\n", parts_of(whole), numbers);
}

/// What goes in: the vocabulary, or the images.
void print_input(const Json& json) {
  if (json.contains("image")) {
    fmt::print("images      {} channels x {} x {}\n", json["image"][0].get<index_t>(),
               json["image"][1].get<index_t>(), json["image"][2].get<index_t>());
    return;
  }
  fmt::print("vocabulary  {} rows", json["vocabulary"].get<index_t>());
  if (json.contains("tokens")) {
    fmt::print(", {} tokens, {}", json["tokens"].get<index_t>(),
               json["lower_case"].get<bool>() ? "lower case" : "cased");
  }
  fmt::print("; {} positions\n", json["positions"].get<index_t>());
}

void print_model(const Json& json) {
  static const std::map<std::string, const char*> names = {
      {"bert", "BERT"}, {"gpt2", "GPT-2"}, {"llama", "LLaMA"}, {"vit", "ViT"}};
  fmt::print("model       {}, {} layers x {}, {} heads, {} inner\n",
             names.at(json["type"].get<std::string>()), json["layers"].get<index_t>(),
             json["hidden_size"].get<index_t>(), json["heads"].get<index_t>(),
             json["intermediate_size"].get<index_t>());
  print_input(json);
  if (json.contains("factored_ranks")) {
    const auto ranks = json["factored_ranks"].get<std::map<std::string, index_t>>();
    index_t low = ranks.begin()->second;
    index_t high = low;
    for (const auto& [layer, rank] : ranks) {
      low = std::min(low, rank);
      high = std::max(high, rank);
    }
    fmt::print("compressed  {} layers are pairs of rank {}\n", ranks.size(),
               low == high ? std::to_string(low) : fmt::format("{}-{}", low, high));
  }
  const auto missing = json["missing"].get<std::string>();
  if (missing.empty()) {
    fmt::print("head        {} outputs\n", json["num_labels"].get<index_t>());
  } else {
    fmt::print("missing     {} (fresh when loaded)\n", missing);
  }
}

void check_options(const InspectSettings& s, const std::string& kind) {
  if (!s.base.empty() && kind != "model") {
    throw ValueError(fmt::format("--base: expected a model to compare with it; '{}' is {}{}",
                                 s.path, kind == "file" ? "a file" : "an adapter",
                                 kind == "file" ? "" : ", whose base is named with --model"));
  }
  if (!s.model.empty() && kind != "adapter") {
    throw ValueError(fmt::format("--model: expected an adapter, whose base it names; '{}' is a {}",
                                 s.path, kind));
  }
}

int inspect(const InspectSettings& s) {
  apply_threads(s.threads);
  const fs::path path = s.path;
  const std::string extension = path.extension().string();
  SafetensorsSummary file;
  Json json;
  check_exists(s.path);
  if (!fs::is_directory(path)) {
    for (const char* pickle : {".bin", ".pt", ".pth", ".pkl"}) {
      if (extension == pickle) BaseModel(s.path);  // refuses it, and says what to do by its kind
    }
    check_options(s, "file");
    file = summarize_safetensors(s.path);
    json = {{"kind", "file"}, {"weights", file_json(s.path, file)}};
  } else if (fs::exists(path / "adapter_config.json") ||
             fs::exists(path / "adapter" / "adapter_config.json")) {
    check_options(s, "adapter");
    json = inspect_adapter(s, s.path, file);
  } else {
    check_options(s, "model");
    const bool inner =
        !fs::exists(path / "config.json") || (!fs::exists(path / "model.safetensors") &&
                                              fs::exists(path / "model" / "model.safetensors"));
    json = inspect_model(s, (inner && fs::exists(path / "model") ? path / "model" : path).string(),
                         file);
  }
  const bool with_tensors = s.tensors || json["kind"] == "file";
  if (s.json) {
    json["tensors"] = tensors_json(file);
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  if (json["kind"] == "adapter") print_adapter(json);
  if (json["kind"] == "model") print_model(json);
  print_file(json["weights"]);
  if (with_tensors) print_tensors(file);
  if (json.contains("updates")) print_updates(json["updates"]);
  return 0;
}

}  // namespace

Command inspect_command() {
  auto s = std::make_shared<InspectSettings>();
  Command c;
  c.name = "inspect";
  c.summary = "What a model folder, an adapter folder or a safetensors file holds";
  c.details =
      "Sizes, types and parameters; of an adapter also the singular values and numerical rank of "
      "every update ΔW. For a fully fine-tuned model --base DIR gives those of W - W₀.";
  c.examples = {"parsimony inspect runs/first/adapter",
                "parsimony inspect runs/full/model --base tiny-en --json",
                "parsimony inspect bert-base-cased --tensors",
                "parsimony inspect adapter_model.safetensors"};
  c.options = {{"PATH", "", "folder or file", &s->path, true},
               {"--model", "DIR", "base of a native adapter (the one that it names)", &s->model},
               {"--base", "DIR", "of a model: show its difference from this one", &s->base},
               {"--tensors", "", "list every tensor", &s->tensors},
               threads_option(&s->threads),
               json_option(&s->json)};
  c.action = [s] { return inspect(*s); };
  return c;
}

}  // namespace parsimony::cli
