// Modules: a layer is a struct whose fields are its parameters; names, freezing and listing come
// with the base class.
//
//   template <class T> struct Linear : Module<T> {
//     Linear(index_t in, index_t out, Rng rng) {
//       weight = this->parameter("weight", rng.normal<T>({out, in}, 1 / std::sqrt(in)));
//       bias = this->parameter("bias", Tensor<T>::zeros({out}));
//     }
//     Var<T> operator()(const Var<T>& x) const { return matmul(x, weight, false, true) + bias; }
//     Var<T> weight, bias;
//   };
#pragma once

#include <parsimony/variable.hpp>

#include <string>
#include <utility>
#include <vector>

namespace parsimony {

template <class T>
using NamedParameters = std::vector<std::pair<std::string, Var<T>>>;

template <class T>
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  // Children are registered by address.
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Own parameters, then the children's under "child.", in the order of registration.
  NamedParameters<T> named_parameters() const;
  /// This module's descendants with their dotted names, parents before children, in the order of
  /// registration; the name of the module itself is "".
  std::vector<std::pair<std::string, Module*>> named_modules();
  /// Total entries of the parameters that require a gradient.
  index_t parameter_count() const;
  /// Freezes or thaws every parameter below.
  void set_requires_grad(bool value);

 protected:
  /// Registers a parameter. @throws ValueError if the name is taken.
  Var<T> parameter(const std::string& name, Tensor<T> initial);
  /// Registers a leaf that exists, which other handles may share.
  Var<T> parameter(const std::string& name, const Var<T>& leaf);
  /// Takes a parameter out of the lists again; nothing if there is none.
  void drop_parameter(const std::string& name);
  /// Registers a member module, which must live as long as this one.
  void child(const std::string& name, Module& module);
  /// Takes a member module out of the lists again; nothing if there is none.
  void drop_child(const std::string& name);

 private:
  NamedParameters<T> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
};

extern template class Module<float>;
extern template class Module<double>;

}  // namespace parsimony
