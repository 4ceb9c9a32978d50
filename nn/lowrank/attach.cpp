// Adapters on a model: which layers get one, how they get it, and what trains then.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::vector<std::string>& named_sets() {
  static const std::vector<std::string> sets = {"query-value", "attention-mlp", "all-dense",
                                                "all-linear"};
  return sets;
}

bool is_named_set(const std::string& set) {
  return std::find(named_sets().begin(), named_sets().end(), set) != named_sets().end();
}

/// Of a residual block: BERT's and ViT's, LLaMA's, GPT-2's.
bool in_block(const std::string& name) {
  return contains(name, ".encoder.layer.") || contains(name, ".layers.") || contains(name, ".h.");
}

/// Queries and values; where one layer computes both and the keys, that one.
bool is_query_or_value(const std::string& name) {
  for (const char* end : {"self.query", "self.value", "attention.attention.query",
                          "attention.attention.value", ".q_proj", ".v_proj", ".c_attn"}) {
    if (ends_with(name, end)) return true;
  }
  return false;
}

/// A layer's name without what its factors add: adapters of a factored layer go to both factors.
std::string layer_of(const std::string& name) {
  for (const char* factor : {".reduce", ".expand"}) {
    if (ends_with(name, factor)) return name.substr(0, name.size() - 7);
  }
  return name;
}

bool in_named_set(const std::string& module, bool embedding, const std::string& set) {
  const std::string name = layer_of(module);
  if (set == "query-value") return is_query_or_value(name);
  const bool pooler = ends_with(name, "pooler.dense");
  if (set == "attention-mlp") return !embedding && in_block(name);
  if (set == "all-linear") return !embedding && (in_block(name) || pooler);
  return embedding ? ends_with(name, "word_embeddings") : in_block(name) || pooler;
}

bool is_end_of(const std::string& end, const std::string& name) {
  return name == end || ends_with(name, "." + end);
}

std::vector<std::string> ends_of(const std::string& set) {
  std::vector<std::string> ends;
  for (std::size_t at = 0; at <= set.size();) {
    const std::size_t comma = std::min(set.find(',', at), set.size());
    if (comma > at) ends.push_back(set.substr(at, comma - at));
    at = comma + 1;
  }
  return ends;
}

/// The nearest of the sets and of what the names of layers end with, from one part to all of them.
std::string nearest_target(const std::string& wrong, const std::vector<std::string>& layers) {
  std::vector<std::string> candidates = named_sets();
  for (const std::string& name : layers) {
    for (std::size_t at = name.rfind('.'); at != std::string::npos && at > 0;
         at = name.rfind('.', at - 1)) {
      candidates.push_back(name.substr(at + 1));
    }
    candidates.push_back(name);
  }
  return nearest_name(wrong, candidates);
}

[[noreturn]] void refuse_target(const std::string& wrong, const std::vector<std::string>& layers) {
  const std::string near = nearest_target(wrong, layers);
  std::vector<std::string> last;
  for (const std::string& name : layers) {
    const std::string part = name.substr(name.rfind('.') + 1);
    if (std::find(last.begin(), last.end(), part) == last.end()) last.push_back(part);
  }
  throw ValueError(fmt::format(
      "targets: no layer of this model is meant by '{}'{}; expected {} or ends of layer "
      "names, which end with {}",
      wrong, near.empty() ? "" : "; did you mean '" + near + "'?", fmt::join(named_sets(), ", "),
      fmt::join(last, ", ")));
}

/// The layers that a method has a form for: of a named set, an embedding may be left out.
template <class T>
std::vector<AdapterTarget<T>> targets_for(Module<T>& model, const std::string& set,
                                          const AdapterInfo& info) {
  std::vector<AdapterTarget<T>> targets = adapter_targets(model, set);
  if (info.embeddings || !is_named_set(set)) return targets;
  targets.erase(std::remove_if(targets.begin(), targets.end(),
                               [](const auto& target) { return target.rows_are_inputs; }),
                targets.end());
  return targets;
}

}  // namespace

template <class T>
std::vector<AdapterTarget<T>> adapter_targets(Module<T>& model, const std::string& set) {
  std::vector<AdapterTarget<T>> targets;
  std::vector<std::string> layers;
  const bool named = is_named_set(set);
  const std::vector<std::string> ends = ends_of(set);
  std::vector<bool> used(ends.size(), false);
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr || !layer->weight.defined()) continue;  // a factored layer has no weight
    layers.push_back(name);
    const bool embedding = dynamic_cast<Embedding<T>*>(module) != nullptr;
    bool wanted = named && in_named_set(name, embedding, set);
    for (std::size_t i = 0; !named && i < ends.size(); ++i) {
      if (!is_end_of(ends[i], name) && !is_end_of(ends[i], layer_of(name))) continue;
      wanted = true;
      used[i] = true;
    }
    if (wanted) targets.push_back({name, layer, embedding});
  }
  for (std::size_t i = 0; !named && i < ends.size(); ++i) {
    if (!used[i]) refuse_target(ends[i], layers);
  }
  if (targets.empty()) refuse_target(set, layers);
  return targets;
}

template <class T>
GradientSubspaces<T> probe_gradients(Module<T>& model, const std::string& set,
                                     const AdapterOptions& options, const Rng& rng,
                                     const std::function<Var<T>()>& loss) {
  const AdapterMethod<T>& method = adapter_method<T>(options.method);
  const index_t h = method.wants_gradient(options);
  if (h == 0) return {};
  const auto targets = targets_for(model, set, method.info);
  std::vector<std::unique_ptr<GradientProbe<T>>> made;
  for (const auto& target : targets) {
    made.push_back(std::make_unique<GradientProbe<T>>(target.layer->weight.shape(), h,
                                                      rng.split(target.name)));
  }
  model.set_requires_grad(false);
  std::vector<const GradientProbe<T>*> probes;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    probes.push_back(made[i].get());
    targets[i].layer->adapt(std::move(made[i]));
  }
  GradientSubspaces<T> found;
  try {
    backward(loss());
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (!probes[i]->result().u.defined()) {
        throw ValueError(fmt::format("no gradient reaches '{}'", targets[i].name));
      }
      found[targets[i].name] = probes[i]->result();
    }
  } catch (...) {
    for (const auto& target : targets) target.layer->release_adapter();
    throw;
  }
  for (const auto& target : targets) target.layer->release_adapter();
  return found;
}

template <class T>
void attach_adapters(Module<T>& model, const std::string& set, const AdapterOptions& options,
                     const Rng& rng, const GradientSubspaces<T>& gradients) {
  const AdapterMethod<T>& method = adapter_method<T>(options.method);
  const auto targets = targets_for(model, set, method.info);
  std::map<std::string, Tensor<T>> shared;
  std::vector<AdapterSite<T>> sites;
  index_t widest_in = 0;
  index_t widest_out = 0;
  for (const auto& target : targets) {
    AdapterSite<T> site;
    site.weight = target.layer->weight.value();
    site.rng = rng.split(target.name);
    site.rows_are_inputs = target.rows_are_inputs;
    site.name = target.name;
    site.shared = &shared;
    const auto found = gradients.find(target.name);
    if (found != gradients.end()) site.gradient = &found->second;
    widest_in = std::max(widest_in, site.in());
    widest_out = std::max(widest_out, site.out());
    sites.push_back(site);
  }
  std::vector<std::unique_ptr<Adapter<T>>> made;
  for (AdapterSite<T>& site : sites) {
    site.widest_in = widest_in;
    site.widest_out = widest_out;
    try {
      made.push_back(method.make(site, options));
    } catch (const ValueError& e) {
      throw ValueError(fmt::format("{}: layer '{}' {}: {}", options.method, site.name,
                                   site.weight.shape().str(), e.what()));
    }
  }
  model.set_requires_grad(false);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].layer->adapt(std::move(made[i]));
}

template <class T>
void merge_adapters(Module<T>& model) {
  // The adapters are modules themselves, so the list is made before any is taken off.
  std::vector<Adaptable<T>*> adapted;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer != nullptr && layer->adapter() != nullptr) adapted.push_back(layer);
  }
  for (Adaptable<T>* layer : adapted) {
    const auto adapter = layer->release_adapter();
    layer->weight.assign(add(layer->weight.value(), adapter->delta()));
  }
}

template <class T>
std::vector<ParameterGroup<T>> trainable_groups(Module<T>& model) {
  std::map<std::string, double> factors;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* adapter = dynamic_cast<Adapter<T>*>(module);
    if (adapter == nullptr) continue;
    for (const auto& [parameter, factor] : adapter->rate_factors()) {
      factors[name + "." + parameter] = factor;
    }
  }
  std::vector<ParameterGroup<T>> groups(1);
  for (const auto& [name, var] : model.named_parameters()) {
    if (!var.requires_grad()) continue;
    const auto found = factors.find(name);
    const double factor = found == factors.end() ? 1.0 : found->second;
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& g) { return g.rate_factor == factor; });
    if (group == groups.end()) {
      groups.emplace_back();
      groups.back().rate_factor = factor;
      group = groups.end() - 1;
    }
    group->parameters.emplace_back(name, var);
  }
  return groups;
}

// left right = Q_l (R_l R_rᵀ) Q_rᵀ with thin QRs of left and rightᵀ.
template <class T>
Tensor<T> update_spectrum(const Adapter<T>& adapter) {
  const NoGrad no_grad;
  const WeightUpdate<T> u = adapter.update();
  if (u.dense.defined()) return singular_values(u.dense.value());
  const Tensor<T>& left = u.left.value();
  if (left.dim(1) > std::min(adapter.shape()[0], adapter.shape()[1])) {
    return singular_values(adapter.delta());
  }
  const Qr<T> a = qr(left);
  const Qr<T> b = qr(transpose(u.right.value()));
  return singular_values(matmul(a.r, b.r, false, true));
}

template <class T>
index_t paper_rank(const Tensor<T>& spectrum, index_t largest_side, bool deep) {
  if (spectrum.size() == 0) return 0;
  const double single = 1.1920929e-7 * static_cast<double>(largest_side);
  const auto largest = static_cast<double>(spectrum.data()[0]);
  const index_t rank = numerical_rank_of(spectrum, largest_side, largest * single);
  if (!deep) return rank;
  return largest <= 1e-3 ? 0 : std::min<index_t>(rank, 8);
}

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template std::vector<AdapterTarget<T>> adapter_targets(Module<T>&, const std::string&);          \
  template GradientSubspaces<T> probe_gradients(Module<T>&, const std::string&,                    \
                                                const AdapterOptions&, const Rng&,                 \
                                                const std::function<Var<T>()>&);                   \
  template void attach_adapters(Module<T>&, const std::string&, const AdapterOptions&, const Rng&, \
                                const GradientSubspaces<T>&);                                      \
  template void merge_adapters(Module<T>&);                                                        \
  template std::vector<ParameterGroup<T>> trainable_groups(Module<T>&);                            \
  template Tensor<T> update_spectrum(const Adapter<T>&);                                           \
  template index_t paper_rank(const Tensor<T>&, index_t, bool);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
