// Linear layers, with or without an adapter.
#include <parsimony/adapter.hpp>
#include <parsimony/layers.hpp>

namespace parsimony {

template <class T>
Linear<T>::Linear(index_t in, index_t out, Rng rng, double std, bool with_bias) {
  this->weight = this->parameter("weight", rng.normal<T>({out, in}, std));
  if (with_bias) bias = this->parameter("bias", Tensor<T>::zeros({out}));
}

template <class T>
Var<T> Linear<T>::operator()(const Var<T>& x, Pass& pass) const {
  if (this->adapter() != nullptr) return this->adapter()->linear(x, this->weight, bias, pass);
  return linear(x, this->weight, bias);
}

template class Linear<float>;
template class Linear<double>;

}  // namespace parsimony
