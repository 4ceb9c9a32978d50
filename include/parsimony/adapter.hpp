// Adapters: a trained update ΔW of a frozen weight matrix W (m, n), in W's own orientation - (out,
// in) for a linear layer, (count, width) for an embedding.
//
// A new adapter is one file in nn/lowrank/adapters: a subclass of Adapter whose fields are its
// parameters and whose update() says what ΔW is, and at its end register_adapter<Subclass>(info),
// where `info` names the method and lists its options with defaults and help. One line in
// nn/meson.build adds it. From the list come the flags of `parsimony finetune`, the keys of
// adapter_config.json and the messages about wrong values; from update() come training, merge,
// spectra, conversion to a plain LoRA pair, and saving. Options reach a method as a Config of its
// own (adapter_config); AdapterOptions holds a method's name and what differs from the defaults:
// AdapterOptions o{"lora"}; o.set("rank", 4).set("init", "peft"). A method overrides more only
// where it must: applied() to put another base in the place of W (OLoRA, PiSSA), linear() and
// rows() for what is no sum of base and update or computes one in its own way (is_sum() says
// which), exact_pair() where the pair is not what update() computes with, rate_factors() for
// parameters with a learning rate of their own.
#pragma once

#include <parsimony/config.hpp>
#include <parsimony/deep_linear.hpp>
#include <parsimony/layers.hpp>
#include <parsimony/optim.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// ΔW as the ops want it: `left` (m, r) times `right` (r, n), or `dense` (m, n).
template <class T>
struct WeightUpdate {
  Var<T> left, right;
  Var<T> dense;
};

/// What a layer computes with: base + update, either of which may be undefined.
template <class T>
struct LayerWeight {
  Var<T> base;  // (m, n)
  WeightUpdate<T> update;
  Var<T> bias = {};  // (m), where Linear::as_weight knows it
};

/// A plain LoRA pair with scaling 1 (alpha = rank): b a is ΔW of a linear layer, and the transpose
/// of an embedding's.
template <class T>
struct LoraPair {
  Tensor<T> a, b;  // (r, in), (out, r)
  index_t rank() const { return a.dim(0); }
};

/// Where an adapter goes.
template <class T>
struct AdapterSite {
  Tensor<T> weight;
  Rng rng{0};
  /// True for an embedding, whose rows are inputs; a linear layer's rows are outputs.
  bool rows_are_inputs = false;
  /// Leading singular triplets of the gradient of the loss by the weight at the start; given to
  /// methods that ask for it (AdapterInfo::gradient_rank).
  const TopSingular<T>* gradient = nullptr;
  /// Of the module: "bert.encoder.layer.0.attention.self.query".
  std::string name;
  /// The method's name, which AdapterMethod::make sets.
  std::string method;
  /// Tensors that adapters attached together share, by name; null for an adapter on its own.
  std::map<std::string, Tensor<T>>* shared = nullptr;
  /// Largest sides of the weights attached together; 0 for an adapter on its own.
  index_t widest_in = 0, widest_out = 0;
  /// A rank above min(in, out) is taken too: PEFT has one rank for all layers, however narrow.
  bool any_rank = false;

  index_t in() const { return weight.dim(rows_are_inputs ? 0 : 1); }
  index_t out() const { return weight.dim(rows_are_inputs ? 1 : 0); }
  /// W as a linear layer's, (out, in): the transpose for an embedding.
  Tensor<T> matrix() const { return rows_are_inputs ? transpose(weight) : weight; }
  /// The option "rank". @throws ValueError unless it is in 1..min(in, out), or 1 or more of
  /// any_rank.
  index_t rank(const Config& options) const;
};

template <class T>
class Adapter : public Module<T> {
 public:
  /// ΔW as a function of the adapter's parameters, against the weight of the model as it was
  /// loaded.
  /// @throws what the ops throw.
  virtual WeightUpdate<T> update() const = 0;
  /// What linear() and rows() compute with: the weight and update(), unless the method trains on
  /// another base.
  virtual LayerWeight<T> applied(const Var<T>& weight) const;
  /// x (W + ΔW)ᵀ + b, with dropout on the input of a low-rank update in training.
  virtual Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                        Pass& pass) const;
  /// True where linear() is the product with applied(), however it is computed, and nothing else
  /// but adapter_dropout, so that a caller may use the weight in another way. A method says so
  /// itself.
  virtual bool is_sum() const { return false; }
  /// applied(), where linear() in this pass is the product with it; null where not.
  std::optional<LayerWeight<T>> as_weight(const Var<T>& weight, const Pass& pass) const;
  /// Rows of W + ΔW.
  virtual Var<T> rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const;
  /// Parameters, as listed here, whose step is not the learning rate but a multiple of it.
  virtual std::vector<std::pair<std::string, double>> rate_factors() const { return {}; }

  /// The method's name with underscores; its parameters are listed under it: "lora" gives
  /// "<module>.lora.<parameter>".
  const std::string& name() const { return name_; }
  /// Shape of the weight that it is for.
  const Shape& shape() const { return shape_; }
  /// ΔW (m, n) in full.
  Tensor<T> delta() const;
  /// ΔW as an exact plain LoRA pair. @throws ValueError where there is none, saying why.
  LoraPair<T> to_lora() const;

 protected:
  /// Takes the option "adapter_dropout" where the method has it.
  Adapter(const AdapterSite<T>& site, const Config& options);
  Adapter(const Shape& shape, std::string name) : name_(std::move(name)), shape_(shape) {}

  /// The pair that to_lora() hands out; by default update()'s.
  /// @throws ValueError saying why there is none.
  virtual WeightUpdate<T> exact_pair() const;
  /// up (out, r) times down (r, in) in the orientation of W.
  WeightUpdate<T> pair(const Var<T>& up, const Var<T>& down) const;
  /// True for an embedding.
  bool rows_are_inputs() const { return rows_are_inputs_; }
  double dropout() const { return dropout_; }

 private:
  std::string name_;
  Shape shape_;
  bool rows_are_inputs_ = false;
  double dropout_ = 0;
};

/// A method and what differs from its defaults, by the option's name. A text is parsed into the
/// option's type.
struct AdapterOptions {
  std::string method = "deep-lora";
  std::map<std::string, Setting> values = {};

  AdapterOptions& set(const std::string& option, Setting value) {
    values[option] = std::move(value);
    return *this;
  }
};

/// An option that means something only beside some values of another one.
struct OptionCondition {
  std::string option, other;
  std::vector<std::string> values;  // of `other`
};

/// What a method says of itself.
struct AdapterInfo {
  std::string name;     // "lora-xs"
  std::string summary;  // a line for lists of methods
  /// Options with their defaults and help. One that several methods have is of one type.
  std::vector<Config::Entry> options;
  /// False: for linear layers only.
  bool embeddings = true;
  /// True: saved as one tensor for all layers, where a header entry a layer would outweigh it.
  bool stacked = false;
  /// Half-rank h of the gradient subspace that the maker needs; undefined or 0: none.
  std::function<index_t(const Config&)> gradient_rank = {};
  std::vector<OptionCondition> conditions = {};
};

/// A method by name: how its adapters are made.
template <class T>
struct AdapterMethod {
  AdapterInfo info;
  std::function<std::unique_ptr<Adapter<T>>(const AdapterSite<T>&, const Config&)> maker;

  /// @throws ValueError on an unknown option, a value out of its range or a layer that the method
  /// has no form for.
  std::unique_ptr<Adapter<T>> make(AdapterSite<T> site, const AdapterOptions& options) const;
  /// Half-rank of the gradient subspace that make() needs; 0: none.
  index_t wants_gradient(const AdapterOptions& options) const;
};

/// Every method. @throws ValueError on an unknown one, with the nearest name.
template <class T>
const AdapterMethod<T>& adapter_method(const std::string& name);
std::vector<std::string> adapter_methods();
/// What a method says of itself. @throws as adapter_method.
const AdapterInfo& adapter_info(const std::string& method);
/// All of a method's options, with the values that were given. @throws ValueError naming the method
/// and the option: unknown (with the nearest name, or the methods that have it) or of another type.
Config adapter_config(const AdapterOptions& options);
/// The condition under which a given option would count and does not; null if it counts.
/// @throws as adapter_config.
const OptionCondition* unmet_condition(const AdapterOptions& options, const std::string& option);

/// Adds a method for both scalars. `make` is generic: make(site, config) for a site of float or
/// double, returning a unique_ptr to an adapter.
template <class T>
void register_adapter(AdapterMethod<T> method);
template <class Make>
void register_adapter(const AdapterInfo& info, Make make) {
  register_adapter<float>(AdapterMethod<float>{info, make});
  register_adapter<double>(AdapterMethod<double>{info, make});
}
/// The same for a class template with a constructor (site, config).
template <template <class> class Subclass>
void register_adapter(const AdapterInfo& info) {
  register_adapter(info, [](const auto& site, const Config& options) {
    using T = typename std::decay_t<decltype(site.weight)>::value_type;
    return std::unique_ptr<Adapter<T>>(std::make_unique<Subclass<T>>(site, options));
  });
}

/// Options that many methods share.
Config::Entry rank_option(index_t value = 8);
Config::Entry alpha_option(double value = 8);
Config::Entry dropout_option();
Config::Entry basis_seed_option();

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

/// The layers of a set, in the model's order: "query-value" (of the attention; GPT-2's one layer
/// for queries, keys and values), "attention-mlp" (every linear layer of the blocks), "all-linear"
/// (those and a BERT's pooler), "all-dense" (those and a BERT's word embedding), or ends of module
/// names, separated by commas ("query,value", "q_proj"). @throws ValueError if a name means no
/// layer of this model, with the nearest.
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

/// Freezes the model and gives every target its adapter, each from its own stream of `rng`. A
/// method for linear layers only leaves the embedding of "all-dense" out. Nothing is attached if
/// one cannot be made. @throws ValueError naming the layer.
template <class T>
void attach_adapters(Module<T>& model, const std::string& set, const AdapterOptions& options,
                     const Rng& rng, const GradientSubspaces<T>& gradients = {});

/// Adds the adapters' updates to their weights and takes the adapters off.
template <class T>
void merge_adapters(Module<T>& model);

/// What trains, in groups by the multiple of the learning rate that adapters ask for; the first has
/// factor 1.
template <class T>
std::vector<ParameterGroup<T>> trainable_groups(Module<T>& model);

/// Singular values of an adapter's ΔW, descending, without forming it where it is a thin pair; at
/// most min(m, n), or the rank of the pair.
template <class T>
Tensor<T> update_spectrum(const Adapter<T>& adapter);

/// The rank that the paper counts for an update with these singular values: NumPy's numerical rank
/// in single precision; of Deep LoRA's 0 where the largest is at most 1e-3, and 8 at most (it keeps
/// eight).
template <class T>
index_t paper_rank(const Tensor<T>& spectrum, index_t largest_side, bool deep);

/// Writes adapter_config.json, adapter_model.safetensors with every adapter's parameters under
/// "<module>.<adapter>.<parameter>" (one tensor "<adapter>" in the model's order where the method
/// says so), and, if there are any, head.safetensors with `extras`: parameters of the model that
/// the base does not have or that were trained (a head). @throws IoError.
template <class T>
void save_adapters(Module<T>& model, const std::string& folder, const std::string& set,
                   const AdapterOptions& options, const std::vector<std::string>& extras);

/// What an adapter folder says of itself.
struct AdapterFolder {
  std::string set;
  AdapterOptions options;
  bool adapted = true;              // false: trained or fresh parameters only
  std::string base_weights;         // of all weights of the model that it does not hold itself
  std::vector<std::string> extras;  // parameters of the model that it holds whole
};
/// @throws InputError naming file and key.
AdapterFolder read_adapter_config(const std::string& folder);
/// Attaches what is in a folder. @throws InputError listing what does not fit the model: an adapter
/// for another model, or trained on other weights.
template <class T>
AdapterFolder load_adapters(Module<T>& model, const std::string& folder);

extern template class Adapter<float>;
extern template class Adapter<double>;
extern template class GradientProbe<float>;
extern template class GradientProbe<double>;

}  // namespace parsimony
