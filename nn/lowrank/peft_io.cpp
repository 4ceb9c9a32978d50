// Adapters from PEFT folders; peft_write.cpp writes them.
//
// The pair of an embedding (V, d) is stored as lora_embedding_A (r, V) and lora_embedding_B (d, r),
// ΔW = (B A)ᵀ; a linear layer's (m, n) as lora_A (r, n) and lora_B (m, r), ΔW = B A.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/peft.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include "fingerprint.hpp"
#include "io/tensor_name.hpp"
#include "peft_io.hpp"

namespace parsimony {

namespace peft {

const Family& family(const std::string& type) {
  static const Family families[] = {{"bert", "bert.", false, "SEQ_CLS", "", ""},
                                    {"gpt2", "transformer.", true, "SEQ_CLS", "", ""},
                                    {"llama", "model.", false, "SEQ_CLS", "", ""},
                                    {"vit", "vit.", false, nullptr, "ViTForImageClassification",
                                     "transformers.models.vit.modeling_vit"}};
  for (const Family& f : families) {
    if (type == f.type) return f;
  }
  throw ValueError(fmt::format("PEFT: expected a bert, gpt2, llama or vit; got '{}'", type));
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

template <class T>
Svd<T> svd_of(const LoraPair<T>& pair) {
  if (pair.rank() > std::min(pair.b.dim(0), pair.a.dim(1))) return svd(matmul(pair.b, pair.a));
  const Qr<T> b = qr(pair.b);
  const Qr<T> a = qr(transpose(pair.a));
  const Svd<T> core = svd(matmul(b.r, a.r, false, true));
  return {matmul(b.q, core.u), core.s, matmul(core.vt, a.q, false, true)};
}

}  // namespace peft

namespace {

namespace fs = std::filesystem;

using peft::adaptable_layers;
using peft::fingerprint_key;
using peft::root;

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
  Reading(Model<T>& model, const PeftFolder& folder)
      : folder_(folder), prefix_(peft::family(model.type()).prefix) {
    for (const auto& layer : adaptable_layers(model)) layers_.emplace(layer.name, layer);
    for (auto& [name, var] : model.named_parameters()) parameters_.emplace(name, var);
    for (const std::string& name : folder.tensors.names()) sort_in(name);
    for (const auto& [name, layer] : layers_) check_pair(name, layer);
    for (const auto& [name, var] : parameters_) {
      // A head is the folder's only where modules_to_save name it: PEFT's model may have none.
      const bool bias = folder.config.bias == "all" && ends_with(name, ".bias");
      const bool stored = folder.config.lists(name) || (bias && !model.is_head(name));
      if (stored && whole_.count(name) == 0) {
        problems_.push_back(fmt::format("{}{} is missing", root, name));
      }
    }
  }

  const std::vector<std::string>& problems() const { return problems_; }

  void attach(Module<T>& model) {
    model.set_requires_grad(false);
    for (const auto& [name, pair] : pairs_) {
      const AdapterTarget<T>& target = layers_.at(name);
      const Tensor<T> a = folder_.tensors.weight<T>(pair.a);
      AdapterOptions options{"lora"};
      options.set("init", "peft");
      options.set("rank", a.dim(0));
      options.set("alpha", folder_.config.scale_of(name) * static_cast<double>(a.dim(0)));
      AdapterSite<T> site;
      site.name = name;
      site.weight = target.layer->weight.value();
      site.rows_are_inputs = target.rows_are_inputs;
      site.any_rank = true;
      auto adapter = adapter_method<T>("lora").make(site, options);
      for (auto& [parameter, var] : adapter->named_parameters()) {
        var.assign(parameter == "A" ? a : folder_.tensors.weight<T>(pair.b));
      }
      target.layer->adapt(std::move(adapter));
    }
    for (const auto& [name, stored] : whole_) {
      parameters_.at(name).assign(folder_.tensors.weight<T>(stored));
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
  std::string known(const Map& names, const std::string& name) const {
    if (names.count(name) > 0) return name;
    return names.count(prefix_ + name) > 0 ? prefix_ + name : "";
  }

  void sort_in(const std::string& stored) {
    try {
      const StoredName n = parse_name(stored);
      n.part == StoredName::whole ? sort_in_whole(stored, n) : sort_in_pair(stored, n);
    } catch (const ValueError& e) {
      problems_.push_back(shown_name(stored) + " " + e.what());
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
        ends_with(name, ".bias") &&
        (biases == "all" || (biases == "lora_only" && (n.adapted || is_adapted(name))));
    if (!bias && !folder_.config.saves(name)) throw ValueError("is not among modules_to_save");
    const Shape& shape = folder_.tensors.shape(stored);
    if (shape != parameters_.at(name).shape()) {
      throw ValueError(
          fmt::format("is {}, the model's is {}", shape.str(), parameters_.at(name).shape().str()));
    }
    whole_[name] = stored;
  }

  /// Whether a bias is of a layer that has a pair; PEFT calls it MODULE.bias or
  /// MODULE.base_layer.bias.
  bool is_adapted(const std::string& bias) const {
    const auto layer = layers_.find(bias.substr(0, bias.rfind('.')));
    return layer != layers_.end() &&
           folder_.config.adapts(layer->first, !layer->second.rows_are_inputs);
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
  std::string prefix_;
  std::map<std::string, AdapterTarget<T>> layers_;
  std::map<std::string, Var<T>> parameters_;
  std::map<std::string, Pair> pairs_;
  std::map<std::string, std::string> whole_;  // parameter to name in the file
  std::vector<std::string> problems_;
};

}  // namespace

template <class T>
void attach_peft(Model<T>& model, const PeftFolder& folder) {
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
                                      const std::string& type, const PeftFolder& folder) {
  const std::string prefix = peft::family(type).prefix;
  std::set<std::string> stored;
  for (const std::string& name : folder.tensors.names()) {
    const StoredName n = parse_name(name);
    if (n.part == StoredName::whole) stored.insert({n.name, prefix + n.name});
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
      throw InputError(
          fmt::format("'{}': {} does not begin with {}", folder.folder, shown_name(stored), root));
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
      throw InputError(fmt::format("'{}': {}: {}", folder.folder, shown_name(m), what));
    };
    if (pair.a.empty() || pair.b.empty()) refuse("expected both lora_A and lora_B");
    const Tensor<float> a = folder.tensors.weight<float>(pair.a);
    const Tensor<float> b = folder.tensors.weight<float>(pair.b);
    if (a.rank() != 2 || b.rank() != 2 || a.dim(0) != b.dim(1)) {
      refuse(fmt::format("lora_A {} and lora_B {} do not fit", a.shape().str(), b.shape().str()));
    }
    const LoraPair<float> scaled{a, scale(b, folder.config.scale_of(module))};
    PeftUpdate update{module, Shape{b.dim(0), a.dim(1)}, a.dim(0), {}};
    update.spectrum = peft::svd_of(scaled).s;
    if (pair.embedding) update.shape = Shape{a.dim(1), b.dim(0)};
    out.push_back(std::move(update));
  }
  return out;
}

#define PARSIMONY_INSTANTIATE(T)                                             \
  template std::vector<AdapterTarget<T>> peft::adaptable_layers(Module<T>&); \
  template Svd<T> peft::svd_of(const LoraPair<T>&);                          \
  template void attach_peft(Model<T>&, const PeftFolder&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
