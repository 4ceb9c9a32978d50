// Adapters to PEFT folders: thin products as they are, others by an SVD.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/peft.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "fingerprint.hpp"
#include "io/nlohmann.hpp"
#include "peft_io.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

/// b a = ΔW (of an embedding its transpose), cut as the options say.
template <class T>
struct Factored {
  LoraPair<T> pair;
  index_t full_rank = 0;
  double residual = 0;
};

/// The update as a thin pair where it is one: thinner than the matrix. An update that no pair is
/// may only be cut to one, which is then what was asked for.
template <class T>
std::optional<LoraPair<T>> thin_pair(const AdapterTarget<T>& target, bool cut) {
  const Adapter<T>& adapter = *target.layer->adapter();
  try {
    LoraPair<T> pair = adapter.to_lora();
    if (pair.rank() < std::min(adapter.shape()[0], adapter.shape()[1])) return pair;
  } catch (const ValueError& e) {
    if (!cut) {
      throw ValueError(fmt::format(
          "PEFT: '{}': {}, or name a rank or a share of the energy to keep: the nearest pair is "
          "then written, and what it leaves out is the residual",
          target.name, e.what()));
    }
  }
  return {};
}

/// Where the singular values end that matter: what follows is together below one rounding of
/// W + ΔW in single precision.
template <class T>
index_t rounding_rank(const Tensor<T>& s, const Tensor<T>& weight) {
  constexpr double eps = 1.1920929e-7;
  const double limit = eps * (frobenius(weight) + frobenius(s));
  index_t rank = s.size();
  double rest = 0;
  while (rank > 0) {
    const auto next = static_cast<double>(s.data()[rank - 1]);
    rest += next * next;
    if (std::sqrt(rest) > limit) break;
    --rank;
  }
  return rank;
}

template <class T>
Factored<T> factored(const AdapterTarget<T>& target, const PeftOptions& o) {
  const NoGrad no_grad;
  const Adapter<T>& adapter = *target.layer->adapter();
  const std::optional<LoraPair<T>> thin = thin_pair(target, o.energy > 0 || o.rank > 0);
  if (thin && !(o.energy > 0 || (o.rank > 0 && o.rank < thin->rank()))) {
    return {*thin, thin->rank(), 0};
  }
  Svd<T> d;
  if (thin) {
    d = peft::svd_of(*thin);
  } else {
    d = svd(target.rows_are_inputs ? transpose(adapter.delta()) : adapter.delta());
  }
  Factored<T> out;
  out.full_rank = thin ? thin->rank() : rounding_rank(d.s, target.layer->weight.value());
  const auto squared = [&](index_t i) {
    const auto s = static_cast<double>(d.s.data()[i]);
    return s * s;
  };
  double total = 0;
  for (index_t i = 0; i < d.s.size(); ++i) total += squared(i);
  const index_t most = o.rank > 0 ? std::min(o.rank, out.full_rank) : out.full_rank;
  index_t keep = 0;
  double kept = 0;
  while (keep < most && !(o.energy > 0 && kept >= o.energy * total)) kept += squared(keep++);
  double rest = 0;
  for (index_t i = d.s.size(); i > keep; --i) rest += squared(i - 1);
  out.residual = total > 0 ? std::sqrt(rest / total) : 0;
  keep = std::max<index_t>(keep, 1);  // PEFT has no rank 0; the pair is then 0 to rounding
  out.pair = {slice(d.vt, 0, 0, keep).clone(), slice(d.u, 1, 0, keep).clone()};
  T* a = out.pair.a.mutable_data();
  T* b = out.pair.b.mutable_data();
  const index_t in = out.pair.a.dim(1);
  for (index_t k = 0; k < keep; ++k) {
    const T root_s = std::sqrt(d.s.data()[k]);
    for (index_t i = 0; i < out.pair.b.dim(0); ++i) b[i * keep + k] *= root_s;
    for (index_t j = 0; j < in; ++j) a[k * in + j] *= root_s;
  }
  return out;
}

/// The rank that most layers have, the larger of equally frequent ones.
index_t most_frequent_rank(const std::vector<PeftLayer>& layers) {
  std::map<index_t, index_t> count;
  for (const PeftLayer& layer : layers) {
    if (!layer.merged) ++count[layer.rank];
  }
  index_t best = 8;
  index_t times = 0;
  for (const auto& [rank, n] : count) {
    if (n >= times) best = rank;
    times = std::max(times, n);
  }
  return best;
}

nlohmann::json config_of(const std::vector<PeftLayer>& layers,
                         const std::vector<std::string>& saved, const peft::Family& family,
                         const PeftOptions& o) {
  const index_t r = most_frequent_rank(layers);
  auto targets = nlohmann::json::array();
  auto ranks = nlohmann::json::object();
  for (const PeftLayer& layer : layers) {
    if (layer.merged) continue;
    targets.push_back(layer.name);
    if (layer.rank != r) ranks[layer.name] = layer.rank;
  }
  nlohmann::json mapping;
  nlohmann::json task;
  if (family.task_type == nullptr) {
    mapping = {{"base_model_class", family.base_class}, {"parent_library", family.class_module}};
  } else {
    task = family.task_type;
  }
  return {{"auto_mapping", mapping},
          {"base_model_name_or_path", o.base},
          {"bias", "none"},
          {"fan_in_fan_out", family.fan_in_fan_out},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"layers_pattern", nullptr},
          {"layers_to_transform", nullptr},
          {"lora_alpha", r},
          {"lora_dropout", 0.0},
          {"modules_to_save", saved},
          {"peft_type", "LORA"},
          {"r", r},
          {"rank_pattern", ranks},
          {"alpha_pattern", ranks},
          {"revision", nullptr},
          {"target_modules", targets},
          {"task_type", task},
          {"use_dora", false},
          {"use_rslora", false}};
}

/// The modules that are stored whole: the head, and a pooler that is among the extras.
template <class T>
std::vector<std::string> saved_modules(const Model<T>& model,
                                       const std::vector<std::string>& extras) {
  std::set<std::string> modules;
  for (const auto& [name, var] : model.named_parameters()) {
    if (!model.is_head(name)) continue;
    const bool pooler = starts_with(name, "bert.pooler.");
    if (!pooler) modules.insert(name.substr(0, name.find('.')));
    if (pooler && std::find(extras.begin(), extras.end(), name) != extras.end()) {
      modules.insert("pooler");
    }
  }
  for (const std::string& name : extras) {
    if (!model.is_head(name)) {
      throw ValueError(fmt::format("PEFT: expected a head beside the adapters; got {}", name));
    }
  }
  return {modules.begin(), modules.end()};
}

}  // namespace

template <class T>
std::vector<PeftLayer> save_peft(Model<T>& model, const std::string& folder,
                                 const std::vector<std::string>& extras, const PeftOptions& o) {
  if (o.rank < 0) throw ValueError(fmt::format("rank: expected at least 1; got {}", o.rank));
  if (!(o.energy >= 0 && o.energy <= 1)) {
    throw ValueError(fmt::format("energy: expected a share in (0, 1]; got {}", o.energy));
  }
  PeftConfig saving;
  saving.saved = saved_modules(model, extras);
  TensorMap out;
  std::vector<PeftLayer> layers;
  std::map<std::string, Tensor<T>> merged;
  std::vector<std::string> adapter_names;
  for (const AdapterTarget<T>& target : peft::adaptable_layers<T>(model)) {
    const std::string& name = target.name;
    const Adapter<T>* adapter = target.layer->adapter();
    if (adapter == nullptr) continue;
    adapter_names.push_back(name + "." + adapter->name() + ".");
    if (saving.saves(name + ".weight")) {
      const index_t side = std::min(adapter->shape()[0], adapter->shape()[1]);
      merged[name + ".weight"] = add(target.layer->weight.value(), adapter->delta());
      layers.push_back({name, adapter->shape(), side, side, 0, true});
      continue;
    }
    const Factored<T> f = factored(target, o);
    const std::string stored = peft::root + name;
    out.set(stored + (target.rows_are_inputs ? ".lora_embedding_A" : ".lora_A.weight"),
            cast<float>(f.pair.a));
    out.set(stored + (target.rows_are_inputs ? ".lora_embedding_B" : ".lora_B.weight"),
            cast<float>(f.pair.b));
    layers.push_back({name, adapter->shape(), f.pair.rank(), f.full_rank, f.residual, false});
  }
  if (layers.empty()) {
    throw ValueError("PEFT: expected a model with adapters; only its head was trained");
  }
  if (std::all_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.merged; })) {
    throw ValueError(
        fmt::format("PEFT: expected an adapter on a module that is not stored whole; '{}' is, and "
                    "PEFT loads no "
                    "folder without target_modules: merge it",
                    layers.front().name));
  }
  const auto is_adapters = [&](const std::string& name) {
    return std::any_of(adapter_names.begin(), adapter_names.end(),
                       [&](const std::string& start) { return starts_with(name, start); });
  };
  for (const auto& [name, var] : model.named_parameters()) {
    if (is_adapters(name) || !saving.saves(name)) continue;
    const auto found = merged.find(name);
    out.set(peft::root + name, cast<float>(found == merged.end() ? var.value() : found->second));
  }
  out.metadata[peft::fingerprint_key] = fingerprint<T>(
      model, [&](const std::string& name) { return is_adapters(name) || saving.saves(name); });
  make_folders(folder);
  save_weights((fs::path(folder) / "adapter_model.safetensors").string(), out);
  write_file_atomically(
      (fs::path(folder) / "adapter_config.json").string(),
      config_of(layers, saving.saved, peft::family(model.type()), o).dump(2) + "\n");
  return layers;
}

#define PARSIMONY_INSTANTIATE(T)                                           \
  template std::vector<PeftLayer> save_peft(Model<T>&, const std::string&, \
                                            const std::vector<std::string>&, const PeftOptions&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
