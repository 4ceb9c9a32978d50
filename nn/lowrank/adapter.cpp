// What all adapters share: application of ΔW, its dense form, its LoRA pair.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace parsimony {

namespace {

std::string module_name(std::string method) {
  std::replace(method.begin(), method.end(), '-', '_');
  return method;
}

}  // namespace

template <class T>
Adaptable<T>::Adaptable() = default;
template <class T>
Adaptable<T>::~Adaptable() = default;

template <class T>
void Adaptable<T>::adapt(std::unique_ptr<Adapter<T>> adapter) {
  if (adapter_) throw ValueError("adapt: the module has an adapter already");
  if (adapter->shape() != weight.shape()) {
    throw ShapeError(fmt::format("adapt: expected an adapter of a weight {}; got one of {}",
                                 weight.shape().str(), adapter->shape().str()));
  }
  adapter_ = std::move(adapter);
  this->child(adapter_->name(), *adapter_);
}

template <class T>
std::unique_ptr<Adapter<T>> Adaptable<T>::release_adapter() {
  if (adapter_) this->drop_child(adapter_->name());
  return std::move(adapter_);
}

template <class T>
index_t AdapterSite<T>::rank(const Config& options) const {
  return options.integer("rank", 1,
                         any_rank ? std::numeric_limits<index_t>::max() : std::min(in(), out()));
}

template <class T>
Adapter<T>::Adapter(const AdapterSite<T>& site, const Config& options)
    : name_(module_name(site.method)),
      shape_(site.weight.shape()),
      rows_are_inputs_(site.rows_are_inputs) {
  if (!options.has("adapter_dropout")) return;
  dropout_ = options.real("adapter_dropout");
  if (!(dropout_ >= 0 && dropout_ < 1)) {
    throw ValueError(fmt::format("adapter_dropout: expected 0 or more, below 1; got {}", dropout_));
  }
}

template <class T>
WeightUpdate<T> Adapter<T>::pair(const Var<T>& up, const Var<T>& down) const {
  if (rows_are_inputs_) return {transpose(down), transpose(up), {}};
  return {up, down, {}};
}

template <class T>
LayerWeight<T> Adapter<T>::applied(const Var<T>& weight) const {
  return {weight, update()};
}

template <class T>
Var<T> Adapter<T>::linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                          Pass& pass) const {
  const LayerWeight<T> w = applied(weight);
  const auto& [left, right, dense] = w.update;
  if (dense.defined()) return parsimony::linear(x, add(w.base, dense), bias);
  const double p = pass.dropout(dropout_);
  if (p == 0) return low_rank_linear(x, w.base, bias, left, right);
  const Var<T> rows =
      matmul(parsimony::dropout(x, p, pass.next(), pass.places(x)), right, false, true);
  return add(parsimony::linear(x, w.base, bias), matmul(rows, left, false, true));
}

template <class T>
std::optional<LayerWeight<T>> Adapter<T>::as_weight(const Var<T>& weight, const Pass& pass) const {
  if (!is_sum() || pass.dropout(dropout_) != 0) return std::nullopt;
  return applied(weight);
}

template <class T>
Var<T> Adapter<T>::rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const {
  const LayerWeight<T> w = applied(weight);
  const auto& [left, right, dense] = w.update;
  const Var<T> rows = gather_rows(w.base, ids);
  if (dense.defined()) return add(rows, gather_rows(dense, ids));
  return add(rows, matmul(gather_rows(left, ids), right));
}

template <class T>
Tensor<T> Adapter<T>::delta() const {
  const NoGrad no_grad;
  const WeightUpdate<T> u = update();
  return u.dense.defined() ? u.dense.value() : matmul(u.left.value(), u.right.value());
}

template <class T>
WeightUpdate<T> Adapter<T>::exact_pair() const {
  WeightUpdate<T> u = update();
  if (u.dense.defined())
    throw ValueError(name_ + ": its update is no product of two thin matrices");
  return u;
}

template <class T>
LoraPair<T> Adapter<T>::to_lora() const {
  const NoGrad no_grad;
  const WeightUpdate<T> u = exact_pair();
  if (rows_are_inputs_) return {transpose(u.left.value()), transpose(u.right.value())};
  return {u.right.value(), u.left.value()};
}

#define PARSIMONY_INSTANTIATE(T)  \
  template class Adaptable<T>;    \
  template struct AdapterSite<T>; \
  template class Adapter<T>;
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
