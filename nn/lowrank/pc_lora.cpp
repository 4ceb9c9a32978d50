// PC-LoRA's layers and the decay of their weights.
#include <parsimony/error.hpp>
#include <parsimony/pc_lora.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

std::vector<std::string> decay_schedules() { return {"sine", "linear", "1-cosine", "identity"}; }

double decay_factor(const std::string& schedule, double u) {
  constexpr double half_pi = 1.57079632679489661923;
  const std::vector<std::string> known = decay_schedules();
  if (std::find(known.begin(), known.end(), schedule) == known.end()) {
    const std::string near = nearest_name(schedule, known);
    throw ValueError(fmt::format("decay: expected one of {}; got '{}'{}", fmt::join(known, ", "),
                                 schedule, near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  if (u >= 1) return 0;
  if (schedule == "linear") return 1 - u;
  if (schedule == "sine") return 1 - std::sin(half_pi * u);
  if (schedule == "1-cosine") return std::cos(half_pi * u);
  return 1;
}

template <class T>
PcLora<T>::PcLora(const Shape& weight, index_t rank, const Rng& rng)
    : Adapter<T>(weight, "pc_lora") {
  const index_t out = weight[0];
  const index_t in = weight[1];
  if (rank < 1 || rank > std::min(in, out)) {
    throw ValueError(fmt::format("rank: expected 1..{} for a weight {}; got {}", std::min(in, out),
                                 weight.str(), rank));
  }
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  Rng draws = rng.split("A");
  down = this->parameter("A", draws.uniform<T>({rank, in}, -bound, bound));
  up = this->parameter("B", Tensor<T>::zeros({out, rank}));
  bias = this->parameter("bias", Tensor<T>::zeros({out}));
}

template <class T>
void PcLora<T>::set_share(double share) {
  if (!(share >= 0 && share <= 1)) {
    throw ValueError(fmt::format("pc-lora: expected a share in [0, 1]; got {}", share));
  }
  share_ = share;
}

template <class T>
Var<T> PcLora<T>::linear(const Var<T>& x, const Var<T>& weight, const Var<T>& base_bias,
                         Pass&) const {
  if (share_ == 0) return parsimony::linear(parsimony::linear(x, down), up, bias);
  const Var<T> base(share_ == 1 ? weight.value() : scale(weight.value(), share_));
  const Var<T> sum =
      base_bias.defined() ? add(Var<T>(scale(base_bias.value(), share_)), bias) : bias;
  return low_rank_linear(x, base, sum, up, down);
}

namespace {

/// Layers with a PcLora, and it.
template <class T>
std::vector<std::pair<Linear<T>*, PcLora<T>*>> decaying(Module<T>& model) {
  std::vector<std::pair<Linear<T>*, PcLora<T>*>> found;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Linear<T>*>(module);
    auto* adapter = layer == nullptr ? nullptr : dynamic_cast<PcLora<T>*>(layer->adapter());
    if (adapter != nullptr) found.emplace_back(layer, adapter);
  }
  return found;
}

}  // namespace

template <class T>
void attach_pc_lora(Module<T>& model, const FactoredRanks& ranks, const Rng& rng) {
  std::map<std::string, Linear<T>*> layers;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Linear<T>*>(module);
    if (layer != nullptr && !layer->factored()) layers[name] = layer;
  }
  std::vector<std::pair<Linear<T>*, std::unique_ptr<PcLora<T>>>> made;
  for (const auto& [name, rank] : ranks) {
    const auto found = layers.find(name);
    if (found == layers.end()) {
      throw ValueError(fmt::format("pc-lora: the model has no dense layer '{}'", name));
    }
    made.emplace_back(found->second, std::make_unique<PcLora<T>>(found->second->weight.shape(),
                                                                 rank, rng.split(name)));
  }
  model.set_requires_grad(false);
  for (auto& [layer, adapter] : made) layer->adapt(std::move(adapter));
}

template <class T>
void set_base_share(Module<T>& model, double share) {
  for (const auto& [layer, adapter] : decaying(model)) adapter->set_share(share);
}

template <class T>
void drop_bases(Module<T>& model) {
  for (const auto& [layer, adapter] : decaying(model)) {
    const auto owned = layer->release_adapter();
    layer->factor(adapter->down, adapter->up, adapter->bias);
  }
}

template class PcLora<float>;
template class PcLora<double>;
#define PARSIMONY_INSTANTIATE(T)                                              \
  template void attach_pc_lora(Module<T>&, const FactoredRanks&, const Rng&); \
  template void set_base_share(Module<T>&, double);                           \
  template void drop_bases(Module<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
