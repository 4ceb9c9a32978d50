// The layers of a transformer. Names of parameters are PyTorch's, so that a model's names are those
// of its Hugging Face checkpoint. A layer with a weight matrix can carry an adapter (adapter.hpp).
#pragma once

#include <parsimony/initializer.hpp>
#include <parsimony/module.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/rng.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace parsimony {

/// One run of a model forward: whether dropout is on, and the streams it draws from. Every dropout
/// takes the next stream, so two passes over the same model from the same stream are equal.
class Pass {
 public:
  /// Evaluation: no dropout.
  Pass() = default;
  /// Training.
  explicit Pass(const Rng& rng) : training_(true), rng_(rng) {}
  /// Training with one probability in every dropout, whatever the layers were made with.
  Pass(const Rng& rng, double dropout) : training_(true), dropout_(dropout), rng_(rng) {}

  bool training() const { return training_; }
  /// `probability`, or the pass's own, while training, else 0.
  double dropout(double probability) const {
    return training_ ? dropout_.value_or(probability) : 0.0;
  }
  Rng next() { return rng_.split(count_++); }

  /// From here on layers see these rows of a padded batch alone; {}: all.
  void pack(RowPlaces places) { places_ = std::move(places); }
  /// Where the rows of x lie, for dropout, if it has those alone.
  template <class T>
  RowPlaces places(const Var<T>& x) const {
    const bool packed = places_.rows.defined() && x.rank() == 2 && x.dim(0) == places_.rows.size();
    return packed ? places_ : RowPlaces();
  }

  /// Has the outputs of the model's blocks appended to `outputs` as they are computed.
  template <class T>
  void watch(std::vector<Var<T>>& outputs) {
    std::get<std::vector<Var<T>>*>(watched_) = &outputs;
  }
  /// What a model calls with the output of each of its blocks.
  template <class T>
  void block(const Var<T>& output) {
    auto* outputs = std::get<std::vector<Var<T>>*>(watched_);
    if (outputs != nullptr) outputs->push_back(output);
  }

 private:
  std::tuple<std::vector<Var<float>>*, std::vector<Var<double>>*> watched_{nullptr, nullptr};
  bool training_ = false;
  std::optional<double> dropout_;
  Rng rng_{0};
  std::uint64_t count_ = 0;
  RowPlaces places_;
};

template <class T>
class Adapter;
template <class T>
struct LayerWeight;

/// A module around one weight matrix, which may carry an adapter: then the module computes with
/// weight + ΔW, and the adapter's parameters are listed under the module's name.
template <class T>
class Adaptable : public Module<T> {
 public:
  ~Adaptable() override;
  /// @throws ValueError if the module has an adapter; ShapeError if the adapter is for another
  /// shape.
  void adapt(std::unique_ptr<Adapter<T>> adapter);
  Adapter<T>* adapter() const { return adapter_.get(); }
  /// Takes the adapter off.
  std::unique_ptr<Adapter<T>> release_adapter();
  /// x weightᵀ + bias (or undefined), the adapter left aside.
  Var<T> times(const Var<T>& x, const Var<T>& bias = Var<T>()) const;
  /// Keeps weightᵀ too, from which times() computes single rows without gradients: the same bits,
  /// and faster, for generation goes row by row. No longer used once the weight changes.
  void keep_transposed();

  Var<T> weight;

 protected:
  Adaptable();

 private:
  std::unique_ptr<Adapter<T>> adapter_;
  Tensor<T> transposed_;
  Tensor<T> transposed_of_;  // the weight that it was made of, at that version
  std::uint32_t version_ = 0;
};

/// y = x Wᵀ + b, W (out, in). A factored layer has no W but a pair of layers, y =
/// expand(reduce(x)), the second with the bias: r(in + out) weights and products instead of in ·
/// out, r the rank. Its parameters are "reduce.weight" (r, in), "expand.weight" (out, r) and
/// "expand.bias" (out); adapters go to the two layers.
template <class T>
class Linear : public Adaptable<T> {
 public:
  /// Entries of W from N(0, std²), b = 0, or no b.
  Linear(index_t in, index_t out, const Initializer& init, double std, bool with_bias = true);
  ~Linear() override;
  /// Over parameters that exist: weight (out, in), bias (out) or undefined for none.
  /// @throws ShapeError if they do not fit.
  Linear(const Var<T>& weight, const Var<T>& bias);
  /// x (..., in) to (..., out).
  Var<T> operator()(const Var<T>& x, Pass& pass) const;
  /// The weight and bias of the affine map that operator() is in this pass, with an adapter's
  /// update, or the pair alone; null where it is something else: by an adapter that is no sum or
  /// drops out its input, or one on a pair.
  std::optional<LayerWeight<T>> as_weight(const Pass& pass) const;

  /// Makes it a pair, in the place of what it was: reduce (r, in), expand (out, r), bias (out) or
  /// undefined. @throws ShapeError if they do not fit the layer; ValueError if it has an adapter.
  void factor(const Var<T>& reduce, const Var<T>& expand, const Var<T>& bias);
  /// Gives it one weight again. @throws as factor.
  void unfactor(const Var<T>& weight, const Var<T>& bias);
  bool factored() const { return pair_ != nullptr; }
  /// Rank of the pair; 0 if it is not factored.
  index_t rank() const;
  index_t in() const { return in_; }
  index_t out() const { return out_; }
  /// The layers of the pair. @throws ValueError unless factored.
  Linear& reduce() const;
  Linear& expand() const;

  /// Undefined where there is none, and like `weight` in a factored layer.
  Var<T> bias;

 private:
  struct Pair;
  void clear(const char* op);
  index_t in_, out_;
  std::unique_ptr<Pair> pair_;
};

/// attention(query, key(x), value(x), heads, mask, probability, pass.next()) of one query a
/// sequence, as the class token's of a classifier's last layer (Touvron et al. 2021), without the
/// two products over all rows: the query goes through the keys' weight, and what it sees of x
/// through the values'. The same numbers to rounding, for 1 / (heads * width) of the work. x
/// (batch, length, in), query and result (batch, 1, heads * width). Null where a layer has no
/// such weights (Linear::as_weight).
/// @throws ShapeError
template <class T>
std::optional<Var<T>> class_attention(const Var<T>& query, const Var<T>& x, const Linear<T>& key,
                                      const Linear<T>& value, index_t heads,
                                      const Tensor<std::uint8_t>& mask, double probability,
                                      Pass& pass);

/// Rows of W (count, width) by number.
template <class T>
class Embedding : public Adaptable<T> {
 public:
  /// Entries of W from N(0, std²).
  Embedding(index_t count, index_t width, const Initializer& init, double std);
  /// ids of any shape to ids.shape() + (width). @throws ValueError on an id outside [0, count).
  Var<T> operator()(const Tensor<std::int64_t>& ids) const;
};

/// (x - mean) / sqrt(var + eps) * weight + bias over the last axis.
template <class T>
class LayerNorm : public Module<T> {
 public:
  LayerNorm(index_t width, double eps);
  Var<T> operator()(const Var<T>& x) const;
  /// Of dropout(x, probability) + residual, in one pass.
  Var<T> of_sum(const Var<T>& x, const Var<T>& residual, double probability, Pass& pass) const;

  Var<T> weight, bias;

 private:
  double eps_;
};

/// x / sqrt(mean(x²) + eps) * weight over the last axis.
template <class T>
class RmsNorm : public Module<T> {
 public:
  RmsNorm(index_t width, double eps);
  Var<T> operator()(const Var<T>& x) const { return rms_norm(x, weight, eps_); }

  Var<T> weight;

 private:
  double eps_;
};

/// Modules of one kind under their numbers, "0", "1", ...
template <class T, class Item>
class ModuleList : public Module<T> {
 public:
  void add(std::unique_ptr<Item> item) {
    this->child(std::to_string(items_.size()), *item);
    items_.push_back(std::move(item));
  }
  std::size_t size() const { return items_.size(); }
  const Item& operator[](std::size_t i) const { return *items_[i]; }

 private:
  std::vector<std::unique_ptr<Item>> items_;
};

extern template class Adaptable<float>;
extern template class Adaptable<double>;
extern template class Linear<float>;
extern template class Linear<double>;
extern template class Embedding<float>;
extern template class Embedding<double>;
extern template class LayerNorm<float>;
extern template class LayerNorm<double>;
extern template class RmsNorm<float>;
extern template class RmsNorm<double>;

}  // namespace parsimony
