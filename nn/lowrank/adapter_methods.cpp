// The registry of methods and their options.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>

#include <fmt/format.h>

#include "adapters/adapters.hpp"

namespace parsimony {

namespace {

template <class T>
std::map<std::string, AdapterMethod<T>>& registry() {
  static std::map<std::string, AdapterMethod<T>> methods;
  return methods;
}

void register_all() {
  static const bool once = [] {
#define PARSIMONY_REGISTER(name) register_##name();
    PARSIMONY_ADAPTERS(PARSIMONY_REGISTER)
#undef PARSIMONY_REGISTER
    return true;
  }();
  static_cast<void>(once);
}

/// "; did you mean 'x'?", or nothing.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string near = nearest_name(name, candidates);
  return near.empty() ? "" : "; did you mean '" + near + "'?";
}

[[noreturn]] void refuse_option(const AdapterInfo& info, const std::string& option) {
  std::vector<std::string> own, others;
  for (const auto& entry : info.options) own.push_back(entry.key);
  for (const std::string& method : adapter_methods()) {
    for (const auto& entry : adapter_info(method).options) {
      if (entry.key == option) others.push_back(method);
    }
  }
  const std::string why = others.empty()
                              ? suggestion(option, own)
                              : fmt::format("; it belongs to {}", fmt::join(others, ", "));
  throw ValueError(fmt::format("{}: there is no option '{}'{} (options of {}: {})", info.name,
                               option, why, info.name, fmt::join(own, ", ")));
}

}  // namespace

template <class T>
std::unique_ptr<Adapter<T>> AdapterMethod<T>::make(AdapterSite<T> site,
                                                   const AdapterOptions& options) const {
  if (site.rows_are_inputs && !info.embeddings) {
    throw ValueError("is an embedding, and the method is for linear layers");
  }
  site.method = info.name;
  return maker(site, adapter_config(options));
}

template <class T>
index_t AdapterMethod<T>::wants_gradient(const AdapterOptions& options) const {
  return info.gradient_rank ? info.gradient_rank(adapter_config(options)) : 0;
}

template <class T>
void register_adapter(AdapterMethod<T> method) {
  const std::string name = method.info.name;
  registry<T>()[name] = std::move(method);
}

std::vector<std::string> adapter_methods() {
  register_all();
  std::vector<std::string> names;
  for (const auto& [name, method] : registry<float>()) names.push_back(name);
  return names;
}

template <class T>
const AdapterMethod<T>& adapter_method(const std::string& name) {
  register_all();
  const auto found = registry<T>().find(name);
  if (found == registry<T>().end()) {
    throw ValueError(fmt::format("method: expected one of {}; got '{}'{}",
                                 fmt::join(adapter_methods(), ", "), name,
                                 suggestion(name, adapter_methods())));
  }
  return found->second;
}

const AdapterInfo& adapter_info(const std::string& method) {
  return adapter_method<float>(method).info;
}

const OptionCondition* unmet_condition(const AdapterOptions& options, const std::string& option) {
  const Config config = adapter_config(options);
  for (const OptionCondition& condition : adapter_info(options.method).conditions) {
    const auto& values = condition.values;
    if (condition.option == option &&
        std::find(values.begin(), values.end(), config.text(condition.other)) == values.end()) {
      return &condition;
    }
  }
  return nullptr;
}

Config adapter_config(const AdapterOptions& options) {
  const AdapterInfo& info = adapter_info(options.method);
  Config config;
  for (const auto& entry : info.options) config.declare(entry.key, entry.value, entry.help);
  for (const auto& [key, value] : options.values) {
    if (!config.has(key)) refuse_option(info, key);
    if (const auto* text = std::get_if<std::string>(&value)) {
      config.set(key, *text);
    } else if (const auto* whole = std::get_if<index_t>(&value);
               whole != nullptr && config.holds<double>(key)) {
      config.preset(key, static_cast<double>(*whole));
    } else {
      config.preset(key, value);
    }
  }
  return config;
}

Config::Entry rank_option(index_t value) { return {"rank", value, "rank of the adapters"}; }
Config::Entry alpha_option(double value) { return {"alpha", value, "scaling times rank"}; }
Config::Entry dropout_option() {
  return {"adapter_dropout", 0.0, "dropout on the input of the adapters"};
}
Config::Entry basis_seed_option() {
  return {"basis_seed", index_t{0}, "seed of the frozen random bases; finetune: --seed"};
}

#define PARSIMONY_INSTANTIATE(T)                                       \
  template struct AdapterMethod<T>;                                    \
  template const AdapterMethod<T>& adapter_method(const std::string&); \
  template void register_adapter(AdapterMethod<T>);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
