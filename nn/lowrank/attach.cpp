// Adapters on a model: which layers get one, how they get it, and what trains then.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool in_set(const std::string& name, bool embedding, const std::string& set) {
  if (set == "query-value") return ends_with(name, "self.query") || ends_with(name, "self.value");
  if (set == "attention-mlp") return !embedding && contains(name, ".encoder.");
  if (set == "all-dense") {
    return embedding ? ends_with(name, "word_embeddings")
                     : contains(name, ".encoder.") || ends_with(name, "pooler.dense");
  }
  for (std::size_t at = 0; at <= set.size();) {
    const std::size_t comma = std::min(set.find(',', at), set.size());
    const std::string end = set.substr(at, comma - at);
    if (!end.empty() && (name == end || ends_with(name, "." + end))) return true;
    at = comma + 1;
  }
  return false;
}

}  // namespace

template <class T>
std::vector<AdapterTarget<T>> adapter_targets(Module<T>& model, const std::string& set) {
  std::vector<AdapterTarget<T>> targets;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr) continue;
    const bool embedding = dynamic_cast<Embedding<T>*>(module) != nullptr;
    if (in_set(name, embedding, set)) targets.push_back({name, layer, embedding});
  }
  if (targets.empty()) {
    throw ValueError(fmt::format(
        "targets: expected query-value, attention-mlp, all-dense or ends of layer names "
        "of this model; got '{}'",
        set));
  }
  return targets;
}

template <class T>
GradientSubspaces<T> probe_gradients(Module<T>& model, const std::string& set,
                                     const AdapterOptions& options, const Rng& rng,
                                     const std::function<Var<T>()>& loss) {
  const index_t h = adapter_method<T>(options.method).wants_gradient(options);
  if (h == 0) return {};
  const auto targets = adapter_targets(model, set);
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
  const auto targets = adapter_targets(model, set);
  std::vector<std::unique_ptr<Adapter<T>>> made;
  for (const auto& target : targets) {
    AdapterSite<T> site;
    site.weight = target.layer->weight.value();
    site.rng = rng.split(target.name);
    site.rows_are_inputs = target.rows_are_inputs;
    const auto found = gradients.find(target.name);
    if (found != gradients.end()) site.gradient = &found->second;
    made.push_back(method.make(site, options));
  }
  model.set_requires_grad(false);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].layer->adapt(std::move(made[i]));
}

template <class T>
std::vector<ParameterGroup<T>> trainable_groups(Module<T>& model, double gamma) {
  std::vector<std::string> slow;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* adapter = dynamic_cast<Adapter<T>*>(module);
    if (adapter == nullptr) continue;
    for (const std::string& parameter : adapter->slow_parameters()) {
      slow.push_back(name + "." + parameter);
    }
  }
  std::sort(slow.begin(), slow.end());
  std::vector<ParameterGroup<T>> groups(2);
  groups[1].rate_factor = gamma;
  for (const auto& [name, var] : model.named_parameters()) {
    if (!var.requires_grad()) continue;
    const bool is_slow = std::binary_search(slow.begin(), slow.end(), name);
    groups[is_slow ? 1 : 0].parameters.emplace_back(name, var);
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

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template std::vector<AdapterTarget<T>> adapter_targets(Module<T>&, const std::string&);          \
  template GradientSubspaces<T> probe_gradients(Module<T>&, const std::string&,                    \
                                                const AdapterOptions&, const Rng&,                 \
                                                const std::function<Var<T>()>&);                   \
  template void attach_adapters(Module<T>&, const std::string&, const AdapterOptions&, const Rng&, \
                                const GradientSubspaces<T>&);                                      \
  template std::vector<ParameterGroup<T>> trainable_groups(Module<T>&, double);                    \
  template Tensor<T> update_spectrum(const Adapter<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
