// Adapters from and to PEFT folders.
//
// The pair of an embedding (V, d) is stored as lora_embedding_A (r, V) and lora_embedding_B (d, r),
// ΔW = (B A)ᵀ; a linear layer's (m, n) as lora_A (r, n) and lora_B (m, r), ΔW = B A.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/peft.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fingerprint.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

constexpr const char* root = "base_model.model.";
constexpr const char* fingerprint_key = "parsimony_base_weights";

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

template <class T>
std::vector<AdapterTarget<T>> adaptable_layers(Module<T>& model) {
  std::vector<AdapterTarget<T>> layers;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr) continue;
    layers.push_back({name, layer, dynamic_cast<Embedding<T>*>(module) != nullptr});
  }
  return layers;
}

/// What a name in a file stands for: half of a module's pair, or a parameter.
struct StoredName {
  enum Part { a, b, whole } part = whole;
  bool embedding = false;
  bool adapted = false;  // a parameter of a layer that has a pair
  std::string name;      // of the module, or of the parameter
};

/// @throws ValueError if it is not below base_model.model.
StoredName parse_name(const std::string& stored) {
  if (!starts_with(stored, root)) throw ValueError("does not begin with base_model.model.");
  StoredName out;
  out.name = stored.substr(std::string(root).size());
  for (const auto& [end, part, embedding] :
       {std::tuple<std::string, StoredName::Part, bool>{".lora_A.weight", StoredName::a, false},
        {".lora_B.weight", StoredName::b, false},
        {".lora_embedding_A", StoredName::a, true},
        {".lora_embedding_B", StoredName::b, true}}) {
    if (!ends_with(out.name, end)) continue;
    out.name.resize(out.name.size() - end.size());
    out.part = part;
    out.embedding = embedding;
    return out;
  }
  const std::size_t wrapper = out.name.find(".base_layer.");
  out.adapted = wrapper != std::string::npos;
  if (out.adapted) out.name.erase(wrapper, std::string(".base_layer").size());
  return out;
}

// --- Reading ------------------------------------------------------------------------------------

/// What a folder has for a model, and what is wrong with it.
template <class T>
class Reading {
 public:
  Reading(Module<T>& model, const PeftFolder& folder) : folder_(folder) {
    for (const auto& layer : adaptable_layers(model)) layers_.emplace(layer.name, layer);
    for (auto& [name, var] : model.named_parameters()) parameters_.emplace(name, var);
    for (const std::string& name : folder.tensors.names()) sort_in(name);
    for (const auto& [name, layer] : layers_) check_pair(name, layer);
  }

  const std::vector<std::string>& problems() const { return problems_; }

  void attach(Module<T>& model) {
    model.set_requires_grad(false);
    for (const auto& [name, pair] : pairs_) {
      const AdapterTarget<T>& target = layers_.at(name);
      const Tensor<T> a = folder_.tensors.get_as<T>(pair.a);
      AdapterOptions options{"lora"};
      options.set("init", "peft");
      options.set("rank", a.dim(0));
      options.set("alpha", folder_.config.scale_of(name) * static_cast<double>(a.dim(0)));
      AdapterSite<T> site;
      site.name = name;
      site.weight = target.layer->weight.value();
      site.rows_are_inputs = target.rows_are_inputs;
      auto adapter = adapter_method<T>("lora").make(site, options);
      for (auto& [parameter, var] : adapter->named_parameters()) {
        var.assign(parameter == "A" ? a : folder_.tensors.get_as<T>(pair.b));
      }
      target.layer->adapt(std::move(adapter));
    }
    for (const auto& [name, stored] : whole_) {
      parameters_.at(name).assign(folder_.tensors.get_as<T>(stored));
    }
  }

  bool holds(const std::string& parameter) const {
    return whole_.count(parameter) > 0 || parameters_.count(parameter) == 0;
  }

 private:
  struct Pair {
    std::string a, b;  // names in the file
  };

  /// Our name of a module or parameter, also of one that was saved from a model without its head.
  template <class Map>
  static std::string known(const Map& names, const std::string& name) {
    if (names.count(name) > 0) return name;
    return names.count("bert." + name) > 0 ? "bert." + name : "";
  }

  void sort_in(const std::string& stored) {
    try {
      const StoredName n = parse_name(stored);
      n.part == StoredName::whole ? sort_in_whole(stored, n) : sort_in_pair(stored, n);
    } catch (const ValueError& e) {
      problems_.push_back(stored + " " + e.what());
    }
  }

  void sort_in_pair(const std::string& stored, const StoredName& n) {
    const std::string module = known(layers_, n.name);
    if (module.empty() || layers_.at(module).rows_are_inputs != n.embedding) {
      throw ValueError("is for no layer of the model");
    }
    if (!folder_.config.adapts(module, !n.embedding)) {
      throw ValueError("is of a module that target_modules do not name");
    }
    (n.part == StoredName::a ? pairs_[module].a : pairs_[module].b) = stored;
  }

  void sort_in_whole(const std::string& stored, const StoredName& n) {
    const std::string name = known(parameters_, n.name);
    if (name.empty()) throw ValueError("is not in the model");
    const std::string& biases = folder_.config.bias;
    const bool bias =
        ends_with(name, ".bias") && (biases == "all" || (biases == "lora_only" && n.adapted));
    if (!bias && !folder_.config.saves(name)) throw ValueError("is not among modules_to_save");
    const Shape& shape = folder_.tensors.shape(stored);
    if (shape != parameters_.at(name).shape()) {
      throw ValueError(
          fmt::format("is {}, the model's is {}", shape.str(), parameters_.at(name).shape().str()));
    }
    whole_[name] = stored;
  }

  void check_pair(const std::string& name, const AdapterTarget<T>& layer) {
    const auto found = pairs_.find(name);
    if (found == pairs_.end()) {
      if (folder_.config.adapts(name, !layer.rows_are_inputs)) {
        problems_.push_back(fmt::format("{}{} has no lora_A and lora_B", root, name));
      }
      return;
    }
    const index_t rank = folder_.config.rank_of(name);
    const Shape& weight = layer.layer->weight.shape();
    const index_t in = weight[layer.rows_are_inputs ? 0 : 1];
    const index_t out = weight[layer.rows_are_inputs ? 1 : 0];
    const auto check = [&](const std::string& stored, const char* what, const Shape& expected) {
      if (stored.empty()) {
        problems_.push_back(fmt::format("{}{} has no {}", root, name, what));
      } else if (folder_.tensors.shape(stored) != expected) {
        problems_.push_back(fmt::format("{} is {}, expected {}", stored,
                                        folder_.tensors.shape(stored).str(), expected.str()));
      }
    };
    check(found->second.a, "lora_A", Shape{rank, in});
    check(found->second.b, "lora_B", Shape{out, rank});
  }

  const PeftFolder& folder_;
  std::map<std::string, AdapterTarget<T>> layers_;
  std::map<std::string, Var<T>> parameters_;
  std::map<std::string, Pair> pairs_;
  std::map<std::string, std::string> whole_;  // parameter to name in the file
  std::vector<std::string> problems_;
};

// --- Writing ------------------------------------------------------------------------------------

/// b a = ΔW (of an embedding its transpose), cut as the options say.
template <class T>
struct Factored {
  LoraPair<T> pair;
  index_t full_rank = 0;
  double residual = 0;
};

/// SVD of b a by QRs of its factors.
template <class T>
Svd<T> svd_of(const LoraPair<T>& pair) {
  if (pair.rank() > std::min(pair.b.dim(0), pair.a.dim(1))) return svd(matmul(pair.b, pair.a));
  const Qr<T> b = qr(pair.b);
  const Qr<T> a = qr(transpose(pair.a));
  const Svd<T> core = svd(matmul(b.r, a.r, false, true));
  return {matmul(b.q, core.u), core.s, matmul(core.vt, a.q, false, true)};
}

/// The update as a thin pair where it is one: thinner than the matrix.
template <class T>
std::optional<LoraPair<T>> thin_pair(const Adapter<T>& adapter) {
  try {
    LoraPair<T> pair = adapter.to_lora();
    if (pair.rank() < std::min(adapter.shape()[0], adapter.shape()[1])) return pair;
  } catch (const ValueError&) {
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
  const std::optional<LoraPair<T>> thin = thin_pair(adapter);
  if (thin && !(o.energy > 0 || (o.rank > 0 && o.rank < thin->rank()))) {
    return {*thin, thin->rank(), 0};
  }
  Svd<T> d;
  if (thin) {
    d = svd_of(*thin);
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
                         const std::vector<std::string>& saved, const PeftOptions& o) {
  const index_t r = most_frequent_rank(layers);
  auto targets = nlohmann::json::array();
  auto ranks = nlohmann::json::object();
  for (const PeftLayer& layer : layers) {
    if (layer.merged) continue;
    targets.push_back(layer.name);
    if (layer.rank != r) ranks[layer.name] = layer.rank;
  }
  return {{"auto_mapping", nullptr},
          {"base_model_name_or_path", o.base},
          {"bias", "none"},
          {"fan_in_fan_out", false},
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
          {"task_type", "SEQ_CLS"},
          {"use_dora", false},
          {"use_rslora", false}};
}

std::vector<std::string> saved_modules(const std::vector<std::string>& extras) {
  std::set<std::string> modules = {"classifier"};
  for (const std::string& name : extras) {
    if (starts_with(name, "bert.pooler.")) {
      modules.insert("pooler");
    } else if (!starts_with(name, "classifier.")) {
      throw ValueError(fmt::format(
          "PEFT: expected a classifier and a pooler beside the adapters; got {}", name));
    }
  }
  return {modules.begin(), modules.end()};
}

}  // namespace

template <class T>
void attach_peft(Module<T>& model, const PeftFolder& folder) {
  const std::string file = (fs::path(folder.folder) / "adapter_model.safetensors").string();
  Reading<T> reading(model, folder);
  std::vector<std::string> problems = reading.problems();
  if (!problems.empty()) {
    constexpr std::size_t most = 8;
    const std::size_t count = problems.size();
    problems.resize(std::min(most, count));
    throw InputError(fmt::format("'{}': an adapter for another model? {}{}", file,
                                 fmt::join(problems, "; "),
                                 count > most ? fmt::format("; and {} more", count - most) : ""));
  }
  const auto made_for = folder.tensors.metadata.find(fingerprint_key);
  if (made_for != folder.tensors.metadata.end() &&
      made_for->second != fingerprint<T>(model, [&](const auto& n) { return reading.holds(n); })) {
    throw InputError(fmt::format("'{}': an adapter for another model: its base had other weights",
                                 folder.folder));
  }
  reading.attach(model);
}

std::vector<std::string> stored_whole(const std::vector<std::string>& parameters,
                                      const PeftFolder& folder) {
  std::set<std::string> stored;
  for (const std::string& name : folder.tensors.names()) {
    const StoredName n = parse_name(name);
    if (n.part == StoredName::whole) stored.insert({n.name, "bert." + n.name});
  }
  std::vector<std::string> out;
  for (const std::string& name : parameters) {
    if (stored.count(name) > 0) out.push_back(name);
  }
  return out;
}

std::vector<PeftUpdate> peft_updates(const PeftFolder& folder) {
  struct Pair {
    std::string a, b;
    bool embedding = false;
  };
  std::map<std::string, Pair> pairs;
  for (const std::string& stored : folder.tensors.names()) {
    if (!starts_with(stored, root)) {
      throw InputError(fmt::format("'{}': {} does not begin with {}", folder.folder, stored, root));
    }
    const StoredName n = parse_name(stored);
    if (n.part == StoredName::whole) continue;
    Pair& pair = pairs[n.name];
    (n.part == StoredName::a ? pair.a : pair.b) = stored;
    pair.embedding = n.embedding;
  }
  std::vector<PeftUpdate> out;
  for (const auto& [module, pair] : pairs) {
    const auto refuse = [&m = module, &folder](const std::string& what) {
      throw InputError(fmt::format("'{}': {}: {}", folder.folder, m, what));
    };
    if (pair.a.empty() || pair.b.empty()) refuse("expected both lora_A and lora_B");
    const Tensor<float> a = folder.tensors.get_as<float>(pair.a);
    const Tensor<float> b = folder.tensors.get_as<float>(pair.b);
    if (a.rank() != 2 || b.rank() != 2 || a.dim(0) != b.dim(1)) {
      refuse(fmt::format("lora_A {} and lora_B {} do not fit", a.shape().str(), b.shape().str()));
    }
    const LoraPair<float> scaled{a, scale(b, folder.config.scale_of(module))};
    PeftUpdate update{module, Shape{b.dim(0), a.dim(1)}, a.dim(0), {}};
    update.spectrum = svd_of(scaled).s;
    if (pair.embedding) update.shape = Shape{a.dim(1), b.dim(0)};
    out.push_back(std::move(update));
  }
  return out;
}

template <class T>
std::vector<PeftLayer> save_peft(Module<T>& model, const std::string& folder,
                                 const std::vector<std::string>& extras, const PeftOptions& o) {
  if (o.rank < 0) throw ValueError(fmt::format("rank: expected at least 1; got {}", o.rank));
  if (!(o.energy >= 0 && o.energy <= 1)) {
    throw ValueError(fmt::format("energy: expected a share in (0, 1]; got {}", o.energy));
  }
  PeftConfig saving;
  saving.saved = saved_modules(extras);
  TensorMap out;
  std::vector<PeftLayer> layers;
  std::map<std::string, Tensor<T>> merged;
  std::vector<std::string> adapter_names;
  for (const AdapterTarget<T>& target : adaptable_layers(model)) {
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
    const std::string stored = root + name;
    out.set(stored + (target.rows_are_inputs ? ".lora_embedding_A" : ".lora_A.weight"),
            cast<float>(f.pair.a));
    out.set(stored + (target.rows_are_inputs ? ".lora_embedding_B" : ".lora_B.weight"),
            cast<float>(f.pair.b));
    layers.push_back({name, adapter->shape(), f.pair.rank(), f.full_rank, f.residual, false});
  }
  if (layers.empty()) {
    throw ValueError("PEFT: expected a model with adapters; only its head was trained");
  }
  const auto is_adapters = [&](const std::string& name) {
    return std::any_of(adapter_names.begin(), adapter_names.end(),
                       [&](const std::string& start) { return starts_with(name, start); });
  };
  for (const auto& [name, var] : model.named_parameters()) {
    if (is_adapters(name) || !saving.saves(name)) continue;
    const auto found = merged.find(name);
    out.set(root + name, cast<float>(found == merged.end() ? var.value() : found->second));
  }
  out.metadata[fingerprint_key] = fingerprint<T>(
      model, [&](const std::string& name) { return is_adapters(name) || saving.saves(name); });
  make_folders(folder);
  save_safetensors((fs::path(folder) / "adapter_model.safetensors").string(), out);
  write_file_atomically((fs::path(folder) / "adapter_config.json").string(),
                        config_of(layers, saving.saved, o).dump(2) + "\n");
  return layers;
}

#define PARSIMONY_INSTANTIATE(T)                                            \
  template void attach_peft(Module<T>&, const PeftFolder&);                 \
  template std::vector<PeftLayer> save_peft(Module<T>&, const std::string&, \
                                            const std::vector<std::string>&, const PeftOptions&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
