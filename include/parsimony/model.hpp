// What fine-tuning needs of a model, whatever its family.
#pragma once

#include <parsimony/layers.hpp>
#include <parsimony/safetensors.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace parsimony {

/// A batch of token sequences, padded at the end, or of images.
struct TokenBatch {
  Tensor<std::int64_t> ids, type_ids;  // (batch, length)
  Tensor<std::uint8_t> mask;           // (batch, length), 0 at padding; undefined: no padding
  Tensor<float> pixels = {};           // (batch, channels, height, width), for a ViT alone
};

/// A model with a classification head.
template <class T>
class Model : public Module<T> {
 public:
  /// model_type of its config.json: "bert", "gpt2", "llama", "vit".
  virtual std::string type() const = 0;
  /// Outputs of the classification head (batch, num_labels). @throws ValueError without one.
  virtual Var<T> logits(const TokenBatch& batch, Pass& pass) const = 0;
  /// Whether a parameter is of the head, which trains beside adapters if it is asked to.
  virtual bool is_head(const std::string& parameter) const = 0;
  /// Writes config.json and model.safetensors; adapters are merged into their weights.
  /// @throws IoError.
  virtual void save(const std::string& folder, FloatFormat format = FloatFormat::f32) = 0;
};

/// What loading did besides reading weights.
struct LoadReport {
  std::vector<std::string> fresh;    // parameters not in the file, left as initialised
  std::vector<std::string> ignored;  // tensors of heads that this model does not have
};

}  // namespace parsimony
