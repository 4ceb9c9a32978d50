// Linear layers: of one weight, with or without an adapter, or factored.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/layers.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "kernels/gemm.hpp"

namespace parsimony {

template <class T>
struct Linear<T>::Pair {
  Pair(const Var<T>& a, const Var<T>& b, const Var<T>& bias)
      : reduce(a, Var<T>()), expand(b, bias) {}
  Linear reduce, expand;
};

template <class T>
Linear<T>::Linear(index_t in, index_t out, const Initializer& init, double std, bool with_bias)
    : in_(in), out_(out) {
  this->weight = this->parameter("weight", init.normal<T>({out, in}, std));
  if (with_bias) bias = this->parameter("bias", Tensor<T>::zeros({out}));
}

template <class T>
Linear<T>::Linear(const Var<T>& weight, const Var<T>& bias)
    : in_(weight.dim(1)), out_(weight.dim(0)) {
  unfactor(weight, bias);
}

template <class T>
Linear<T>::~Linear() = default;

template <class T>
Var<T> Linear<T>::operator()(const Var<T>& x, Pass& pass) const {
  if (pair_) return pair_->expand(pair_->reduce(x, pass), pass);
  if (this->adapter() != nullptr) return this->adapter()->linear(x, this->weight, bias, pass);
  return this->times(x, bias);
}

template <class T>
std::optional<LayerWeight<T>> Linear<T>::as_weight(const Pass& pass) const {
  if (pair_) {
    if (pair_->reduce.adapter() != nullptr || pair_->expand.adapter() != nullptr) return {};
    return LayerWeight<T>{{}, {pair_->expand.weight, pair_->reduce.weight, {}}, pair_->expand.bias};
  }
  if (this->adapter() == nullptr) return LayerWeight<T>{this->weight, {}, bias};
  auto found = this->adapter()->as_weight(this->weight, pass);
  if (found) found->bias = bias;
  return found;
}

/// Drops what the layer holds.
template <class T>
void Linear<T>::clear(const char* op) {
  if (this->adapter() != nullptr ||
      (pair_ && (pair_->reduce.adapter() != nullptr || pair_->expand.adapter() != nullptr))) {
    throw ValueError(fmt::format("{}: expected a layer without an adapter", op));
  }
  for (const char* name : {"weight", "bias"}) this->drop_parameter(name);
  for (const char* name : {"reduce", "expand"}) this->drop_child(name);
  pair_.reset();
  this->weight = Var<T>();
  bias = Var<T>();
}

template <class T>
void Linear<T>::factor(const Var<T>& reduce, const Var<T>& expand, const Var<T>& new_bias) {
  const Shape& a = reduce.shape();
  const Shape& b = expand.shape();
  if (a.rank() != 2 || b.rank() != 2 || a[1] != in_ || b[0] != out_ || a[0] != b[1] || a[0] < 1) {
    throw ShapeError(
        fmt::format("factor: expected reduce (r, {}) and expand ({}, r) with r >= 1; got {} and {}",
                    in_, out_, a.str(), b.str()));
  }
  auto pair = std::make_unique<Pair>(reduce, expand, new_bias);
  clear("factor");
  pair_ = std::move(pair);
  this->child("reduce", pair_->reduce);
  this->child("expand", pair_->expand);
}

template <class T>
void Linear<T>::unfactor(const Var<T>& new_weight, const Var<T>& new_bias) {
  if (new_weight.shape() != Shape{out_, in_} ||
      (new_bias.defined() && new_bias.shape() != Shape{out_})) {
    throw ShapeError(fmt::format("linear: expected a weight ({}, {}) and a bias ({}); got {}{}",
                                 out_, in_, out_, new_weight.shape().str(),
                                 new_bias.defined() ? " and " + new_bias.shape().str() : ""));
  }
  clear("unfactor");
  this->weight = this->parameter("weight", new_weight);
  if (new_bias.defined()) bias = this->parameter("bias", new_bias);
}

template <class T>
index_t Linear<T>::rank() const {
  return pair_ ? pair_->reduce.out() : 0;
}

template <class T>
Linear<T>& Linear<T>::reduce() const {
  if (!pair_) throw ValueError("reduce: the layer is not factored");
  return pair_->reduce;
}

template <class T>
Linear<T>& Linear<T>::expand() const {
  if (!pair_) throw ValueError("expand: the layer is not factored");
  return pair_->expand;
}

template <class T>
void Adaptable<T>::keep_transposed() {
  transposed_of_ = weight.value();
  version_ = transposed_of_.version();
  transposed_ = transpose(transposed_of_);
}

template <class T>
Var<T> Adaptable<T>::times(const Var<T>& x, const Var<T>& bias) const {
  const bool kept = transposed_.defined() && !grad_enabled() && x.rank() > 0 &&
                    x.value().size() == x.dim(-1) && x.dim(-1) == weight.dim(1) &&
                    weight.value().data() == transposed_of_.data() &&
                    transposed_of_.version() == version_;
  if (!kept) return linear(x, weight, bias);
  const index_t in = weight.dim(1);
  const index_t out = weight.dim(0);
  Shape shape = x.shape();
  shape.set(-1, out);
  Tensor<T> y(shape);
  if (bias.defined()) std::copy_n(bias.value().data(), out, y.mutable_data());
  kernels::gemm(false, false, 1, out, in, T(1), x.value().data(), in, transposed_.data(), out,
                bias.defined() ? T(1) : T(0), y.mutable_data(), out);
  return Var<T>(std::move(y));
}

template void Adaptable<float>::keep_transposed();
template void Adaptable<double>::keep_transposed();
template Var<float> Adaptable<float>::times(const Var<float>&, const Var<float>&) const;
template Var<double> Adaptable<double>::times(const Var<double>&, const Var<double>&) const;
template class Linear<float>;
template class Linear<double>;

}  // namespace parsimony
