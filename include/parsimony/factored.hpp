// Models with factored layers: which layers are stored as a pair and of what rank, and the
// arithmetic of ranks and parameters.
#pragma once

#include <parsimony/layers.hpp>

#include <map>
#include <string>
#include <vector>

namespace parsimony {

/// Rank of every factored layer, by the name of its module: what config.json keeps under
/// "factored_ranks", so that a loader builds the model's structure before it reads the weights.
using FactoredRanks = std::map<std::string, index_t>;

/// Makes the named linear layers pairs of zeros, with a bias, for a loader to fill. Layers that the
/// model does not have (of another head) are left out. @throws ValueError on a rank outside
/// 1..min(in, out) or a name that is no linear layer.
template <class T>
void factor_layers(Module<T>& model, const FactoredRanks& ranks);

template <class T>
FactoredRanks factored_ranks(Module<T>& model);

/// A linear layer that a compressor may factor.
template <class T>
struct CompressibleLayer {
  std::string name;   // of the module
  std::string group;  // "qk", "v", "o", "up", ...: layers of one role, at all depths
  Linear<T>* layer = nullptr;
};

/// The linear layers of attention and MLP in the model's order, by role: "qk" (query and key), "v",
/// "qkv" (fused), "o" (the output of attention), "gate", "up" and "down". Names are those of BERT,
/// GPT-2, LLaMA and ViT. Layers that are factored already are among them.
template <class T>
std::vector<CompressibleLayer<T>> compressible_layers(Module<T>& model);

/// The largest rank, a multiple of `multiple` where one of at least 1 exists, with which a pair
/// keeps at most `share` of the in · out weights of a dense layer; at least 1.
/// @throws ValueError unless share > 0 and multiple >= 1.
index_t rank_for_share(double share, index_t in, index_t out, index_t multiple = 1);
/// Weights of a pair.
inline index_t pair_size(index_t rank, index_t in, index_t out) { return rank * (in + out); }

}  // namespace parsimony
