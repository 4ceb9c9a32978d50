// The vision transformer (Dosovitskiy et al. 2021): an image as a sequence of patches, each a
// linear map of its pixels, with a class token whose last state is classified. Names of parameters
// are Hugging Face's.
#pragma once

#include <parsimony/bert.hpp>

#include <memory>
#include <string>
#include <vector>

namespace parsimony {

/// config.json of a ViT.
struct VitConfig {
  index_t hidden_size = 768;
  index_t num_hidden_layers = 12;
  index_t num_attention_heads = 12;
  index_t intermediate_size = 3072;
  index_t image_size = 224;  // of both sides
  index_t patch_size = 16;   // a divisor of image_size
  index_t num_channels = 3;
  bool qkv_bias = true;
  double hidden_dropout_prob = 0;
  double attention_probs_dropout_prob = 0;
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  /// As in BertConfig.
  index_t num_labels = 2;
  std::vector<std::string> labels;
  /// Layers that are stored as pairs.
  FactoredRanks factored_ranks;

  /// "tiny" 2 x 128, "mini" 4 x 256, "small" 4 x 512, "base" 12 x 768, for square images of
  /// `channels` and the largest patches that give 16 or more of them. @throws ValueError on another
  /// name or sizes < 1.
  static VitConfig sized(const std::string& size, index_t image, index_t channels);
  /// Patches of an image.
  index_t patches() const;
  /// @throws ValueError on sizes < 1, or that do not divide what they must.
  void check() const;
};

/// From a model folder's config.json. @throws InputError naming the file and the key.
VitConfig load_vit_config(const std::string& path);

template <class T>
class Vit : public Model<T> {
 public:
  /// Fresh weights: N(0, initializer_range²). @throws ValueError as VitConfig::check.
  Vit(const VitConfig& config, const Initializer& init);
  ~Vit() override;
  const VitConfig& config() const { return config_; }

  /// Last hidden states after the final norm (batch, patches + 1, hidden), the class token first,
  /// of pixels (batch, channels, size, size). @throws ShapeError on pixels of another shape.
  Var<T> hidden(const Tensor<T>& pixels, Pass& pass) const;
  /// Outputs of the classification head (batch, num_labels).
  Var<T> logits(const Tensor<T>& pixels, Pass& pass) const;
  /// The same of batch.pixels.
  Var<T> logits(const TokenBatch& batch, Pass& pass) const override;
  std::string type() const override { return "vit"; }
  bool is_head(const std::string& parameter) const override;
  void save(const std::string& folder, FloatFormat format = FloatFormat::f32) override;

 private:
  struct Body;
  VitConfig config_;
  std::unique_ptr<Body> body_;
  std::unique_ptr<Linear<T>> classifier_;
};

/// Reads a folder, with or without the "vit." prefix. A missing classifier is left fresh (from
/// `rng`), a pooler is ignored, and the report says so. num_labels > 0 replaces the config's; a
/// head of another size is then fresh. @throws InputError as load_bert.
template <class T>
std::unique_ptr<Vit<T>> load_vit(const std::string& folder, const Rng& rng, index_t num_labels = 0,
                                 LoadReport* report = nullptr,
                                 const std::vector<std::string>& labels = {});

extern template class Vit<float>;
extern template class Vit<double>;

}  // namespace parsimony
