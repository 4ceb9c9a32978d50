// What all adapters share: application of ΔW, its dense form, and the registry of methods.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>

#include <fmt/format.h>

namespace parsimony {

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
Var<T> Adapter<T>::linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias, Pass&) const {
  const WeightUpdate<T> u = update();
  if (u.dense.defined()) return parsimony::linear(x, add(weight, u.dense), bias);
  return low_rank_linear(x, weight, bias, u.left, u.right);
}

template <class T>
Var<T> Adapter<T>::rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const {
  const WeightUpdate<T> u = update();
  const Var<T> rows = gather_rows(weight, ids);
  if (u.dense.defined()) return add(rows, gather_rows(u.dense, ids));
  return add(rows, matmul(gather_rows(u.left, ids), u.right));
}

template <class T>
Tensor<T> Adapter<T>::delta() const {
  const NoGrad no_grad;
  const WeightUpdate<T> u = update();
  return u.dense.defined() ? u.dense.value() : matmul(u.left.value(), u.right.value());
}

// One line an adapter; each is defined in its own file.
void register_lora();
void register_deep_lora();

namespace {

template <class T>
std::map<std::string, AdapterMethod<T>>& registry() {
  static std::map<std::string, AdapterMethod<T>> methods;
  return methods;
}

void register_all() {
  static const bool once = [] {
    register_lora();
    register_deep_lora();
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

template <class T>
void register_adapter(const std::string& name, AdapterMethod<T> method) {
  registry<T>()[name] = std::move(method);
}

std::vector<std::string> adapter_methods() {
  register_all();
  std::vector<std::string> names;
  for (const auto& [name, method] : registry<float>()) names.push_back(name);
  return names;
}

template <class T>
const AdapterMethod<T>& adapter_method(const std::string& name) {
  register_all();
  const auto found = registry<T>().find(name);
  if (found == registry<T>().end()) {
    const std::string near = nearest_name(name, adapter_methods());
    const std::string did_you_mean = near.empty() ? "" : "; did you mean '" + near + "'?";
    throw ValueError(fmt::format("method: expected one of {}; got '{}'{}",
                                 fmt::join(adapter_methods(), ", "), name, did_you_mean));
  }
  return found->second;
}

#define PARSIMONY_INSTANTIATE(T)                                       \
  template class Adaptable<T>;                                         \
  template class Adapter<T>;                                           \
  template const AdapterMethod<T>& adapter_method(const std::string&); \
  template void register_adapter(const std::string&, AdapterMethod<T>);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
