#include <parsimony/error.hpp>
#include <parsimony/module.hpp>

#include <fmt/format.h>

namespace parsimony {

template <class T>
NamedParameters<T> Module<T>::named_parameters() const {
  NamedParameters<T> all = parameters_;
  for (const auto& [name, module] : children_) {
    for (auto& [inner, var] : module->named_parameters()) all.emplace_back(name + "." + inner, var);
  }
  return all;
}

template <class T>
std::vector<std::pair<std::string, Module<T>*>> Module<T>::named_modules() {
  std::vector<std::pair<std::string, Module*>> all{{"", this}};
  for (const auto& [name, module] : children_) {
    for (auto& [inner, found] : module->named_modules()) {
      all.emplace_back(inner.empty() ? name : name + "." + inner, found);
    }
  }
  return all;
}

template <class T>
index_t Module<T>::parameter_count() const {
  index_t count = 0;
  for (const auto& [name, var] : named_parameters()) {
    if (var.requires_grad()) count += var.value().size();
  }
  return count;
}

template <class T>
void Module<T>::set_requires_grad(bool value) {
  for (auto& [name, var] : named_parameters()) var.set_requires_grad(value);
}

template <class T>
Var<T> Module<T>::parameter(const std::string& name, Tensor<T> initial) {
  return parameter(name, Var<T>(std::move(initial), true));
}

template <class T>
Var<T> Module<T>::parameter(const std::string& name, const Var<T>& leaf) {
  for (const auto& [other, var] : parameters_) {
    if (other == name) throw ValueError(fmt::format("parameter: the name '{}' is taken", name));
  }
  parameters_.emplace_back(name, leaf);
  return leaf;
}

template <class T>
void Module<T>::drop_parameter(const std::string& name) {
  for (auto it = parameters_.begin(); it != parameters_.end(); ++it) {
    if (it->first != name) continue;
    parameters_.erase(it);
    return;
  }
}

template <class T>
void Module<T>::child(const std::string& name, Module& module) {
  for (const auto& [other, pointer] : children_) {
    if (other == name) throw ValueError(fmt::format("child: the name '{}' is taken", name));
  }
  children_.emplace_back(name, &module);
}

template <class T>
void Module<T>::drop_child(const std::string& name) {
  for (auto it = children_.begin(); it != children_.end(); ++it) {
    if (it->first != name) continue;
    children_.erase(it);
    return;
  }
}

template class Module<float>;
template class Module<double>;

}  // namespace parsimony
