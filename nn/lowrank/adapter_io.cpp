// Adapter folders: adapter_config.json and adapter_model.safetensors with every factor.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* format_name = "parsimony-adapter-1";

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
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
                   const AdapterOptions& o, const std::vector<std::string>& extras) {
  std::vector<std::string> prefixes;
  Json modules = Json::array();
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    modules.push_back(name);
    prefixes.push_back(name + "." + layer->adapter()->name() + ".");
  }
  TensorMap out;
  for (const auto& [name, var] : model.named_parameters()) {
    const bool adapter =
        std::any_of(prefixes.begin(), prefixes.end(),
                    [&n = name](const std::string& prefix) { return starts_with(n, prefix); });
    if (adapter || std::find(extras.begin(), extras.end(), name) != extras.end()) {
      out.set(name, cast<float>(var.value()));
    }
  }
  const Json config = {{"format", format_name}, {"method", o.method}, {"targets", set},
                       {"rank", o.rank},        {"depth", o.depth},   {"eps", o.eps},
                       {"form", o.form},        {"wide", o.wide},     {"gamma", o.gamma},
                       {"init", o.init},        {"alpha", o.alpha},   {"dropout", o.dropout},
                       {"modules", modules},    {"extras", extras}};
  make_folders(folder);
  save_safetensors((fs::path(folder) / "adapter_model.safetensors").string(), out);
  write_file_atomically((fs::path(folder) / "adapter_config.json").string(), config.dump(2) + "\n");
}

AdapterFolder read_adapter_config(const std::string& folder) {
  const std::string path = (fs::path(folder) / "adapter_config.json").string();
  Json json;
  try {
    json = Json::parse(read_file(path));
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected JSON; {}", path, e.what()));
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
    throw InputError(fmt::format("'{}': format: expected {}; got {}", path, format_name, format));
  }
  AdapterFolder out;
  AdapterOptions& o = out.options;
  read_key(json, path, "method", o.method);
  read_key(json, path, "targets", out.set);
  read_key(json, path, "rank", o.rank);
  read_key(json, path, "depth", o.depth);
  read_key(json, path, "eps", o.eps);
  read_key(json, path, "form", o.form);
  read_key(json, path, "wide", o.wide);
  read_key(json, path, "gamma", o.gamma);
  read_key(json, path, "init", o.init);
  read_key(json, path, "alpha", o.alpha);
  read_key(json, path, "dropout", o.dropout);
  std::vector<std::string> modules;
  read_key(json, path, "modules", modules);
  out.adapted = !modules.empty();
  return out;
}

template <class T>
AdapterFolder load_adapters(Module<T>& model, const std::string& folder) {
  const AdapterFolder found = read_adapter_config(folder);
  const std::string file = (fs::path(folder) / "adapter_model.safetensors").string();
  const TensorMap stored = load_safetensors(file);
  try {
    if (found.adapted) {
      const AdapterMethod<T>& method = adapter_method<T>(found.options.method);
      const index_t h = method.wants_gradient(found.options);
      GradientSubspaces<T> stand_ins;
      if (h > 0) {
        for (const auto& target : adapter_targets(model, found.set)) {
          stand_ins[target.name] = placeholder<T>(target.layer->weight.shape(), h);
        }
      }
      attach_adapters(model, found.set, found.options, Rng(0), stand_ins);
    } else {
      model.set_requires_grad(false);
    }
  } catch (const ValueError& e) {
    throw InputError(fmt::format("'{}': an adapter for another model? {}", folder, e.what()));
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
      var.assign(stored.get_as<T>(name));
    }
  }
  std::sort(known.begin(), known.end());
  for (const std::string& name : stored.names()) {
    if (!std::binary_search(known.begin(), known.end(), name)) {
      problems.push_back(name + " is not in the model");
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
