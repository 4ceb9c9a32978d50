// PEFT's adapter_config.json: what it says, and which modules its rules name.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/peft.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <regex>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;  // "the first pattern that matches"

std::string adapter_config_path(const std::string& folder) {
  return (fs::path(folder) / "adapter_config.json").string();
}

bool is_or_ends_with(const std::string& name, const std::string& end) {
  return name == end || ends_with(name, "." + end);
}

bool matches(const std::string& name, const std::string& pattern) {
  return std::regex_match(name, std::regex(pattern));
}

Json parse(const std::string& path) {
  constexpr int deepest = 16;
  try {
    Json json = Json::parse(read_file(path), [&](int depth, Json::parse_event_t, Json&) {
      if (depth <= deepest) return true;
      throw InputError(fmt::format("'{}': nested deeper than {} levels", path, deepest));
    });
    if (!json.is_object()) throw InputError(fmt::format("'{}': expected a JSON object", path));
    return json;
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected JSON; {}", path, printable(e.what(), 200)));
  }
}

/// Reads keys of the config; a key that is missing or null leaves the value as it is.
class Reader {
 public:
  Reader(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  const Json* find(const char* key) const {
    const auto at = json_.find(key);
    return at == json_.end() || at->is_null() ? nullptr : &*at;
  }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw InputError(
        fmt::format("'{}': {}: expected {}; got {}", path_, key, expected, json_.at(key).dump()));
  }
  template <class V>
  void read(const char* key, V& value, const char* expected) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    try {
      value = found->get<V>();
    } catch (const Json::exception&) {
      fail(key, expected);
    }
  }
  /// A list of ends of names, one such, or a regular expression.
  void names(const char* key, PeftConfig::Names& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    value = {};
    if (found->is_string()) {
      value.pattern = found->get<std::string>();
      check_pattern(key, value.pattern);
    } else {
      read(key, value.ends, "a list of names or a pattern");
    }
  }
  void patterns(const char* key, std::vector<std::pair<std::string, double>>& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_object()) fail(key, "an object of patterns");
    for (const auto& [pattern, number] : found->items()) {
      if (!number.is_number() || !(number.get<double>() > 0)) fail(key, "numbers above 0");
      check_pattern(key, pattern);
      value.emplace_back(pattern, number.get<double>());
    }
  }
  /// An option that would change the update in a way that is not supported.
  void refuse(const char* key) const {
    const Json* found = find(key);
    if (found == nullptr || (found->is_boolean() && !found->get<bool>()) ||
        ((found->is_array() || found->is_object()) && found->empty())) {
      return;
    }
    throw InputError(fmt::format("'{}': {} is not supported; got {}", path_, key, found->dump()));
  }

 private:
  void check_pattern(const char* key, const std::string& pattern) const {
    constexpr std::size_t longest = 4000;  // the compiler of patterns is recursive
    if (pattern.size() > longest) fail(key, fmt::format("at most {} characters", longest));
    try {
      std::regex compiled(pattern);
    } catch (const std::regex_error& e) {
      throw InputError(fmt::format("'{}': {}: '{}' is no regular expression: {}", path_, key,
                                   pattern, e.what()));
    }
  }
  const Json& json_;
  std::string path_;
};

void check_decomposition(const Reader& read, const std::string& path) {
  const Json* init = read.find("init_lora_weights");
  if (init == nullptr || !init->is_string()) return;
  const auto name = init->get<std::string>();
  for (const char* changes_base : {"pissa", "olora", "corda", "loftq"}) {
    if (name.compare(0, std::string(changes_base).size(), changes_base) == 0) {
      throw InputError(
          fmt::format("'{}': init_lora_weights '{}' makes the adapter relative to a changed base; "
                      "convert it to plain LoRA when saving (path_initial_model_for_weight_"
                      "conversion of PEFT's save_pretrained)",
                      path, name));
    }
  }
}

PeftConfig read_config(const std::string& path) {
  const Json json = parse(path);
  const Reader read(json, path);
  std::string type;
  read.read("peft_type", type, "a name");
  if (type != "LORA") {
    throw InputError(
        fmt::format("'{}': peft_type: expected LORA; got '{}'", path, printable(type)));
  }
  for (const char* key : {"use_dora", "lora_bias", "layer_replication", "trainable_token_indices",
                          "target_parameters", "use_qalora", "alora_invocation_tokens"}) {
    read.refuse(key);
  }
  check_decomposition(read, path);
  PeftConfig c;
  if (const Json* r = read.find("r"); r != nullptr && !r->is_number_integer()) {
    read.fail("r", "a whole number");
  }
  read.read("r", c.r, "a whole number");
  read.read("lora_alpha", c.alpha, "a number");
  read.read("use_rslora", c.rslora, "true or false");
  if (c.r < 1) read.fail("r", "at least 1");
  read.names("target_modules", c.targets);
  read.names("exclude_modules", c.excluded);
  if (const Json* layers = read.find("layers_to_transform")) {
    if (layers->is_number_integer()) {
      c.layers = {layers->get<index_t>()};
    } else {
      read.read("layers_to_transform", c.layers, "layer numbers");
    }
  }
  read.patterns("rank_pattern", c.ranks);
  read.patterns("alpha_pattern", c.alphas);
  read.read("modules_to_save", c.saved, "a list of names");
  std::string task;
  read.read("task_type", task, "a name");
  if (task == "SEQ_CLS") c.heads = {"classifier", "score"};
  read.read("bias", c.bias, "none, all or lora_only");
  if (c.bias != "none" && c.bias != "all" && c.bias != "lora_only") {
    read.fail("bias", "none, all or lora_only");
  }
  read.read("base_model_name_or_path", c.base, "a name");
  return c;
}

bool names_match(const PeftConfig::Names& names, const std::string& module) {
  if (!names.pattern.empty()) return matches(module, names.pattern);
  return std::any_of(names.ends.begin(), names.ends.end(),
                     [&](const std::string& end) { return is_or_ends_with(module, end); });
}

/// Whether some part of a parameter's path ends with one of the names.
bool is_inside(const std::vector<std::string>& names, const std::string& parameter) {
  for (std::size_t dot = parameter.find('.'); dot != std::string::npos;
       dot = parameter.find('.', dot + 1)) {
    const std::string module = parameter.substr(0, dot);
    for (const std::string& name : names) {
      if (is_or_ends_with(module, name)) return true;
    }
  }
  return false;
}

double first_match(const std::vector<std::pair<std::string, double>>& patterns,
                   const std::string& module, double otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (matches(module, "(.*\\.)?(" + pattern + ")")) return value;
  }
  return otherwise;
}

/// The number in "...layer.3.attention...", or -1.
index_t layer_number(const std::string& module) {
  std::smatch found;
  static const std::regex numbered(".*\\.(\\d{1,9})\\..*");
  return std::regex_match(module, found, numbered) ? std::stoll(found[1].str()) : -1;
}

}  // namespace

bool PeftConfig::adapts(const std::string& module, bool is_linear) const {
  if (saves(module + ".weight") || names_match(excluded, module)) return false;
  // PEFT leaves the output layer out.
  if (targets.pattern == "all-linear") return is_linear && module != "lm_head";
  if (!names_match(targets, module)) return false;
  if (!targets.pattern.empty() || layers.empty()) return true;
  return std::find(layers.begin(), layers.end(), layer_number(module)) != layers.end();
}

bool PeftConfig::saves(const std::string& parameter) const {
  return lists(parameter) || is_inside(heads, parameter);
}

bool PeftConfig::lists(const std::string& parameter) const { return is_inside(saved, parameter); }

index_t PeftConfig::rank_of(const std::string& module) const {
  return static_cast<index_t>(first_match(ranks, module, static_cast<double>(r)));
}

double PeftConfig::scale_of(const std::string& module) const {
  const auto rank = static_cast<double>(rank_of(module));
  return first_match(alphas, module, alpha) / (rslora ? std::sqrt(rank) : rank);
}

bool is_peft_folder(const std::string& folder) {
  const std::string path = adapter_config_path(folder);
  return fs::exists(path) && parse(path).contains("peft_type");
}

PeftFolder read_peft(const std::string& folder) {
  PeftFolder out;
  out.folder = folder;
  out.config = read_config(adapter_config_path(folder));
  const std::string file = (fs::path(folder) / "adapter_model.safetensors").string();
  if (!fs::exists(file) && fs::exists(fs::path(folder) / "adapter_model.bin")) {
    throw InputError(
        fmt::format("'{}' has adapter_model.bin but no adapter_model.safetensors; a pickle can run "
                    "code and is not read. Convert it: load it with PEFT and call "
                    "save_pretrained(folder, safe_serialization=True)",
                    folder));
  }
  out.tensors = load_safetensors(file);
  check_finite(file, out.tensors);
  for (const char* head : {"base_model.model.classifier.weight", "base_model.model.score.weight"}) {
    if (out.tensors.contains(head) && out.tensors.shape(head).rank() == 2) {
      out.outputs = out.tensors.shape(head)[0];
    }
  }
  return out;
}

}  // namespace parsimony
