// Adapter folders: adapter_config.json (the method's options, and a fingerprint of the base),
// adapter_model.safetensors with what the adapters train, head.safetensors with what else the model
// needs. The files of a stacked method hold one tensor for all adapters: a header entry takes about
// 100 bytes, as much as 25 numbers.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/safetensors.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "fingerprint.hpp"
#include "io/nlohmann.hpp"
#include "io/tensor_name.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* format_name = "parsimony-adapter-1";
constexpr const char* weights_file = "adapter_model.safetensors";
constexpr const char* head_file = "head.safetensors";

template <class T>
using Adapters = std::vector<std::pair<std::string, Adaptable<T>*>>;

/// The layers that carry an adapter, in the model's order.
template <class T>
Adapters<T> adapted_layers(Module<T>& model) {
  Adapters<T> found;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer != nullptr && layer->adapter() != nullptr) found.emplace_back(name, layer);
  }
  return found;
}

/// The adapters' parameters by their names in the model.
template <class T>
NamedParameters<T> adapter_parameters(const Adapters<T>& layers) {
  NamedParameters<T> all;
  for (const auto& [module, layer] : layers) {
    const std::string prefix = module + "." + layer->adapter()->name() + ".";
    for (const auto& [name, var] : layer->adapter()->named_parameters()) {
      all.emplace_back(prefix + name, var);
    }
  }
  return all;
}

/// Reads one key of the config into a value of its type.
template <class V>
void read_key(const Json& json, const std::string& path, const char* key, V& value) {
  if (!json.contains(key)) {
    throw InputError(fmt::format("'{}': the key '{}' is missing", path, key));
  }
  try {
    value = json[key].get<V>();
  } catch (const Json::exception&) {
    throw InputError(fmt::format("'{}': {}: got {}", path, key, json[key].dump()));
  }
}

/// Orthonormal stand-ins where a maker wants a gradient; what is stored replaces them.
template <class T>
TopSingular<T> placeholder(const Shape& shape, index_t h) {
  Rng rng(0);
  Rng u = rng.split("u");
  Rng v = rng.split("v");
  return {haar_orthogonal<T>(u, shape[0], h), Tensor<T>::ones({h}),
          haar_orthogonal<T>(v, shape[1], h)};
}

}  // namespace

template <class T>
void save_adapters(Module<T>& model, const std::string& folder, const std::string& set,
                   const AdapterOptions& options, const std::vector<std::string>& extras) {
  const Adapters<T> layers = adapted_layers(model);
  Json config = {{"format", format_name}, {"method", options.method}, {"targets", set}};
  TensorMap weights;
  if (!layers.empty()) {
    const AdapterInfo& info = adapter_info(options.method);
    const Config values = adapter_config(options);
    for (const auto& entry : values.entries()) {
      std::visit([&, &key = entry.key](const auto& value) { config[key] = value; }, entry.value);
    }
    config["layers"] = layers.size();
    const NamedParameters<T> parameters = adapter_parameters(layers);
    if (info.stacked) {
      std::vector<Tensor<T>> parts;
      for (const auto& [name, var] : parameters) {
        parts.push_back(var.value().reshape({var.value().size()}));
      }
      weights.set(layers.front().second->adapter()->name(), cast<float>(concat(parts, 0)));
    } else {
      for (const auto& [name, var] : parameters) weights.set(name, cast<float>(var.value()));
    }
  }
  TensorMap head;
  for (const auto& [name, var] : model.named_parameters()) {
    if (std::find(extras.begin(), extras.end(), name) == extras.end()) continue;
    head.set(name, cast<float>(var.value()));
  }
  const auto adapters = adapter_parameters(layers);
  config["base_weights"] = fingerprint<T>(model, [&](const std::string& name) {
    return head.contains(name) ||
           std::any_of(adapters.begin(), adapters.end(),
                       [&](const auto& parameter) { return parameter.first == name; });
  });
  make_folders(folder);
  const fs::path at(folder);
  save_weights((at / weights_file).string(), weights);
  if (head.size() > 0) {
    save_weights((at / head_file).string(), head);
  } else {
    fs::remove(at / head_file);
  }
  write_file_atomically((at / "adapter_config.json").string(), config.dump(2) + "\n");
}

AdapterFolder read_adapter_config(const std::string& folder) {
  const std::string path = (fs::path(folder) / "adapter_config.json").string();
  Json json;
  const std::string text = read_file(path);
  check_json_depth(path, text);
  try {
    json = Json::parse(text);
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected JSON; {}", path, printable(e.what(), 200)));
  }
  if (!json.is_object()) throw InputError(fmt::format("'{}': expected a JSON object", path));
  if (json.contains("peft_type")) {
    throw InputError(
        fmt::format("'{}': an adapter in PEFT's format; expected the native one, which "
                    "finetune writes",
                    path));
  }
  std::string format;
  read_key(json, path, "format", format);
  if (format != format_name) {
    throw InputError(
        fmt::format("'{}': format: expected {}; got {}", path, format_name, printable(format)));
  }
  AdapterFolder out;
  read_key(json, path, "method", out.options.method);
  read_key(json, path, "targets", out.set);
  read_key(json, path, "base_weights", out.base_weights);
  out.adapted = json.contains("layers");
  if (!out.adapted) return out;
  try {
    const AdapterInfo& info = adapter_info(out.options.method);
    for (const auto& entry : info.options) {
      Setting value = entry.value;
      std::visit([&](auto& held) { read_key(json, path, entry.key.c_str(), held); }, value);
      out.options.set(entry.key, value);
    }
    adapter_config(out.options);
  } catch (const ValueError& e) {
    throw InputError(fmt::format("'{}': {}", path, e.what()));
  }
  return out;
}

namespace {

/// Attaches what the config says, initial values aside.
template <class T>
void attach_as_configured(Module<T>& model, const std::string& folder, const AdapterFolder& found) {
  if (!found.adapted) {
    model.set_requires_grad(false);
    return;
  }
  try {
    const index_t h = adapter_method<T>(found.options.method).wants_gradient(found.options);
    GradientSubspaces<T> stand_ins;
    if (h > 0) {
      for (const auto& target : adapter_targets(model, found.set)) {
        stand_ins[target.name] = placeholder<T>(target.layer->weight.shape(), h);
      }
    }
    attach_adapters(model, found.set, found.options, Rng(0), stand_ins);
  } catch (const ValueError& e) {
    throw InputError(fmt::format("'{}': an adapter for another model? {}", folder, e.what()));
  }
}

/// The tensors of a stacked file under the names of the parameters.
template <class T>
TensorMap unstacked(const std::string& file, const TensorMap& stored, const Adapters<T>& layers) {
  const NamedParameters<T> parameters = adapter_parameters(layers);
  index_t total = 0;
  for (const auto& [name, var] : parameters) total += var.value().size();
  const std::string& name = layers.front().second->adapter()->name();
  const Tensor<float>& all = stored.get<float>(name);
  if (all.shape() != Shape{total} || stored.size() != 1) {
    throw InputError(
        fmt::format("'{}': an adapter for another model: expected one tensor '{}' {}; "
                    "got {} of {} tensors",
                    file, name, Shape{total}.str(), all.shape().str(), stored.size()));
  }
  TensorMap out;
  index_t at = 0;
  for (const auto& [parameter, var] : parameters) {
    const index_t end = at + var.value().size();
    out.set(parameter, all.rows(at, end).reshape(var.shape()));
    at = end;
  }
  return out;
}

}  // namespace

template <class T>
AdapterFolder load_adapters(Module<T>& model, const std::string& folder) {
  AdapterFolder found = read_adapter_config(folder);
  const std::string file = (fs::path(folder) / weights_file).string();
  if (!fs::exists(file) && fs::exists(fs::path(folder) / "adapter_model.bin")) {
    throw InputError(
        fmt::format("'{}' has adapter_model.bin but no {}; a pickle can run code and is not read",
                    folder, weights_file));
  }
  TensorMap stored = load_safetensors(file);
  check_finite(file, stored);
  attach_as_configured(model, folder, found);
  if (found.adapted) {
    const Adapters<T> layers = adapted_layers(model);
    if (adapter_info(found.options.method).stacked) stored = unstacked(file, stored, layers);
  }
  const fs::path head = fs::path(folder) / head_file;
  if (fs::exists(head)) {
    const TensorMap extras = load_safetensors(head.string());
    check_finite(head.string(), extras);
    found.extras = extras.names();
    for (const std::string& name : extras.names()) stored.set(name, extras.weight<float>(name));
  }
  std::vector<std::string> problems;
  std::vector<std::string> known;
  for (auto& [name, var] : model.named_parameters()) {
    known.push_back(name);
    if (!stored.contains(name)) {
      if (var.requires_grad()) problems.push_back(name + " is missing");
    } else if (stored.shape(name) != var.shape()) {
      problems.push_back(fmt::format("{} is {}, the model's is {}", name, stored.shape(name).str(),
                                     var.shape().str()));
    } else {
      var.assign(stored.weight<T>(name));
    }
  }
  std::sort(known.begin(), known.end());
  for (const std::string& name : stored.names()) {
    if (!std::binary_search(known.begin(), known.end(), name)) {
      problems.push_back(shown_name(name) + " is not in the model");
    }
  }
  if (!problems.empty()) {
    constexpr std::size_t most = 8;
    const std::size_t count = problems.size();
    problems.resize(std::min(most, count));
    throw InputError(fmt::format("'{}': an adapter for another model: {}{}", file,
                                 fmt::join(problems, "; "),
                                 count > most ? fmt::format("; and {} more", count - most) : ""));
  }
  const auto is_held = [&](const std::string& name) { return stored.contains(name); };
  if (fingerprint<T>(model, is_held) != found.base_weights) {
    throw InputError(
        fmt::format("'{}': an adapter for another model: its base had other weights", folder));
  }
  return found;
}

#define PARSIMONY_INSTANTIATE(T)                                                       \
  template void save_adapters(Module<T>&, const std::string&, const std::string&,      \
                              const AdapterOptions&, const std::vector<std::string>&); \
  template AdapterFolder load_adapters(Module<T>&, const std::string&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
