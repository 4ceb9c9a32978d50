// The structure of models with factored layers.
#include <parsimony/error.hpp>
#include <parsimony/factored.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// The role of a layer by the end of its name, or "".
std::string group_of(const std::string& name) {
  static const std::pair<const char*, const char*> roles[] = {
      // BERT and ViT
      {"attention.self.query", "qk"},
      {"attention.self.key", "qk"},
      {"attention.self.value", "v"},
      {"attention.attention.query", "qk"},
      {"attention.attention.key", "qk"},
      {"attention.attention.value", "v"},
      {"attention.output.dense", "o"},
      {"intermediate.dense", "up"},
      {"output.dense", "down"},  // after attention.output.dense
      // LLaMA
      {"self_attn.q_proj", "qk"},
      {"self_attn.k_proj", "qk"},
      {"self_attn.v_proj", "v"},
      {"self_attn.o_proj", "o"},
      {"mlp.gate_proj", "gate"},
      {"mlp.up_proj", "up"},
      {"mlp.down_proj", "down"},
      // GPT-2
      {"attn.c_attn", "qkv"},
      {"attn.c_proj", "o"},
      {"mlp.c_fc", "up"},
      {"mlp.c_proj", "down"},
  };
  for (const auto& [end, group] : roles) {
    if (ends_with(name, std::string(".") + end)) return group;
  }
  return "";
}

}  // namespace

template <class T>
void factor_layers(Module<T>& model, const FactoredRanks& ranks) {
  if (ranks.empty()) return;
  for (const auto& [name, module] : model.named_modules()) {
    const auto found = ranks.find(name);
    if (found == ranks.end()) continue;
    const index_t rank = found->second;
    auto* layer = dynamic_cast<Linear<T>*>(module);
    if (layer == nullptr) {
      throw ValueError(fmt::format("factored_ranks: '{}' is no linear layer", name));
    }
    const index_t most = std::min(layer->in(), layer->out());
    if (rank < 1 || rank > most) {
      throw ValueError(
          fmt::format("factored_ranks: '{}': expected a rank of 1..{}; got {}", name, most, rank));
    }
    layer->factor(Var<T>(Tensor<T>::zeros({rank, layer->in()}), true),
                  Var<T>(Tensor<T>::zeros({layer->out(), rank}), true),
                  Var<T>(Tensor<T>::zeros({layer->out()}), true));
  }
}

template <class T>
FactoredRanks factored_ranks(Module<T>& model) {
  FactoredRanks ranks;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Linear<T>*>(module);
    if (layer != nullptr && layer->factored()) ranks[name] = layer->rank();
  }
  return ranks;
}

template <class T>
std::vector<CompressibleLayer<T>> compressible_layers(Module<T>& model) {
  std::vector<CompressibleLayer<T>> layers;
  for (const auto& [name, module] : model.named_modules()) {
    auto* layer = dynamic_cast<Linear<T>*>(module);
    const std::string group = layer == nullptr ? "" : group_of(name);
    if (!group.empty()) layers.push_back({name, group, layer});
  }
  return layers;
}

index_t rank_for_share(double share, index_t in, index_t out, index_t multiple) {
  if (!(share > 0) || multiple < 1) {
    throw ValueError(
        fmt::format("rank: expected a share above 0 and a multiple of at least 1; got "
                    "{} and {}",
                    share, multiple));
  }
  const double most =
      share * static_cast<double>(in) * static_cast<double>(out) / static_cast<double>(in + out);
  // 0.5 of a (64, 64) layer is 16 exactly, whatever the last bit of the product says.
  const auto rank = static_cast<index_t>(std::floor(most * (1 + 1e-12)));
  const index_t rounded = rank / multiple * multiple;
  return std::clamp<index_t>(rounded > 0 ? rounded : rank, 1, std::min(in, out));
}

#define PARSIMONY_INSTANTIATE(T)                                 \
  template void factor_layers(Module<T>&, const FactoredRanks&); \
  template FactoredRanks factored_ranks(Module<T>&);             \
  template std::vector<CompressibleLayer<T>> compressible_layers(Module<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
