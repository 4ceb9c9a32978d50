// Adapters: a trained update ΔW of a frozen weight matrix W (m, n), in W's own orientation - (out,
// in) for a linear layer, (count, width) for an embedding.
//
// A new adapter is one file in nn/lowrank: a subclass whose fields are its parameters and whose
// update() says what ΔW is, and a line that registers a maker under a name.
#pragma once

#include <parsimony/deep_linear.hpp>
#include <parsimony/layers.hpp>
#include <parsimony/optim.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace parsimony {

/// ΔW as the ops want it: `left` (m, r) times `right` (r, n), or `dense` (m, n).
template <class T>
struct WeightUpdate {
  Var<T> left, right;
  Var<T> dense;
};

template <class T>
class Adapter : public Module<T> {
 public:
  /// ΔW as a function of the adapter's parameters. @throws what the ops throw.
  virtual WeightUpdate<T> update() const = 0;
  /// x (W + ΔW)ᵀ + b. Override where ΔW is not all there is (dropout on the adapter's input).
  virtual Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                        Pass& pass) const;
  /// Rows of W + ΔW.
  virtual Var<T> rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const;
  /// The name its parameters are listed under: "lora" gives "<module>.lora.<parameter>".
  virtual std::string name() const = 0;
  /// Parameters whose step is γ times the learning rate (empty: none); by name, as listed here.
  virtual std::vector<std::string> slow_parameters() const { return {}; }

  /// ΔW (m, n) in full.
  Tensor<T> delta() const;
  /// Shape of the weight that it is for.
  const Shape& shape() const { return shape_; }

 protected:
  explicit Adapter(const Shape& shape) : shape_(shape) {}

 private:
  Shape shape_;
};

/// What a method's maker is told. Not every method reads every field.
struct AdapterOptions {
  std::string method = "deep-lora";
  index_t rank = 8;
  /// Deep LoRA: number of factors, at least 3.
  index_t depth = 3;
  /// Deep LoRA: scale ε of the orthogonal initial factors.
  double eps = 1e-3;
  /// Deep LoRA: "narrow" (random factors of width rank), "full" (width min(m, n), or max with
  /// `wide`), "compressed" (outer factors from the gradient).
  std::string form = "narrow";
  bool wide = false;
  /// Deep LoRA, compressed: step of the outer factors over that of the inner ones.
  double gamma = 1e-2;
  /// LoRA: "paper" (N(0, 1) on the output side, 0 on the input side, no scaling) or "peft"
  /// (Kaiming-uniform A, B = 0, scaled by alpha / rank).
  std::string init = "paper";
  double alpha = 8;
  /// LoRA, PEFT's: dropout on the adapter's input.
  double dropout = 0;
};

/// Where an adapter goes.
template <class T>
struct AdapterSite {
  Tensor<T> weight;
  Rng rng{0};
  /// True for an embedding, whose rows are inputs; a linear layer's rows are outputs.
  bool rows_are_inputs = false;
  /// Leading singular triplets of the gradient of the loss by the weight at the start; given to
  /// methods that ask for it (AdapterMethod::wants_gradient).
  const TopSingular<T>* gradient = nullptr;
};

/// A method by name: how its adapters are made.
template <class T>
struct AdapterMethod {
  std::function<std::unique_ptr<Adapter<T>>(const AdapterSite<T>&, const AdapterOptions&)> make;
  /// Half-rank h of the gradient subspace that the maker needs; 0: none.
  std::function<index_t(const AdapterOptions&)> wants_gradient;
};

/// Every method. @throws ValueError on an unknown one, with the nearest name.
template <class T>
const AdapterMethod<T>& adapter_method(const std::string& name);
std::vector<std::string> adapter_methods();

/// Outer factors of the compressed form for an O that is Haar-random among the matrices (m, n) with
/// orthonormal rows or columns, drawn without forming O (section 1.4, "even cheaper"): the narrower
/// side's factor is orth[V_h, OᵀU_h] (or orth[U_h, O V_h]), the other O's (or Oᵀ's) image of it.
/// u (m, h), v (n, h) orthonormal. O((m + n) h) memory.
/// @throws ValueError unless 2h <= min(m, n).
template <class T>
OuterFactors<T> outer_factors_of_isometry(const Tensor<T>& u, const Tensor<T>& v, const Rng& rng);

/// A stand-in adapter with ΔW = 0 that finds the top h singular triplets of dloss/dW in the next
/// backward, from the factored gradient dyᵀx: no (m, n) matrix is formed.
template <class T>
class GradientProbe : public Adapter<T> {
 public:
  /// @throws ValueError unless 1 <= h and 2h <= the smaller side.
  GradientProbe(const Shape& shape, index_t h, const Rng& rng);
  WeightUpdate<T> update() const override;
  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                Pass& pass) const override;
  Var<T> rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const override;
  std::string name() const override { return "probe"; }
  /// Valid after backward; u is undefined if none reached the module.
  const TopSingular<T>& result() const { return *result_; }

 private:
  index_t h_;
  Rng rng_;
  Var<T> token_;  // makes backward come here where the input needs no gradient
  std::shared_ptr<TopSingular<T>> result_;
};

/// A layer of a model that an adapter goes to.
template <class T>
struct AdapterTarget {
  std::string name;  // of the module: "bert.encoder.layer.0.attention.self.query"
  Adaptable<T>* layer = nullptr;
  bool rows_are_inputs = false;
};

/// The layers of a set, in the model's order: "query-value", "attention-mlp" (every linear layer of
/// the encoder), "all-dense" (those, the pooler and the word embedding), or ends of module names,
/// separated by commas ("query,value"). @throws ValueError if the set is empty in this model.
template <class T>
std::vector<AdapterTarget<T>> adapter_targets(Module<T>& model, const std::string& set);

template <class T>
using GradientSubspaces = std::map<std::string, TopSingular<T>>;

/// The gradient subspaces of the targets from one backward of `loss()`, for methods that want them
/// (an empty map for others); dropout should be off. @throws what the maker throws on bad options.
template <class T>
GradientSubspaces<T> probe_gradients(Module<T>& model, const std::string& set,
                                     const AdapterOptions& options, const Rng& rng,
                                     const std::function<Var<T>()>& loss);

/// Freezes the model and gives every target its adapter, each from its own stream of `rng`.
/// Nothing is attached if one cannot be made.
template <class T>
void attach_adapters(Module<T>& model, const std::string& set, const AdapterOptions& options,
                     const Rng& rng, const GradientSubspaces<T>& gradients = {});

/// What trains, in two groups: the fast parameters, and those that adapters call slow with
/// rate_factor = gamma.
template <class T>
std::vector<ParameterGroup<T>> trainable_groups(Module<T>& model, double gamma);

/// Singular values of an adapter's ΔW, descending, without forming it where it is a thin pair; at
/// most min(m, n), or the rank of the pair.
template <class T>
Tensor<T> update_spectrum(const Adapter<T>& adapter);

/// Writes adapter_config.json and adapter_model.safetensors: every adapter's parameters under
/// "<module>.<adapter>.<parameter>", and `extras`, parameters of the model that the base does not
/// have or that were trained (a head). @throws IoError.
template <class T>
void save_adapters(Module<T>& model, const std::string& folder, const std::string& set,
                   const AdapterOptions& options, const std::vector<std::string>& extras);

/// What an adapter folder says of itself.
struct AdapterFolder {
  std::string set;
  AdapterOptions options;
  bool adapted = true;  // false: trained or fresh parameters only
};
/// @throws InputError naming file and key.
AdapterFolder read_adapter_config(const std::string& folder);
/// Attaches what is in a folder. @throws InputError listing what does not fit the model: an adapter
/// for another model.
template <class T>
AdapterFolder load_adapters(Module<T>& model, const std::string& folder);

/// Adds a method for both scalars; Make and Wants are as in AdapterMethod, generic in the site.
template <class T>
void register_adapter(const std::string& name, AdapterMethod<T> method);
template <class Make, class Wants>
void register_adapter(const std::string& name, Make make, Wants wants) {
  register_adapter<float>(name, AdapterMethod<float>{make, wants});
  register_adapter<double>(name, AdapterMethod<double>{make, wants});
}

extern template class Adapter<float>;
extern template class Adapter<double>;
extern template class GradientProbe<float>;
extern template class GradientProbe<double>;

}  // namespace parsimony
