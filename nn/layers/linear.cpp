// Linear layers, with or without an adapter.
#include <parsimony/adapter.hpp>
#include <parsimony/layers.hpp>

#include <algorithm>

#include "kernels/gemm.hpp"

namespace parsimony {

template <class T>
Linear<T>::Linear(index_t in, index_t out, Rng rng, double std, bool with_bias) {
  this->weight = this->parameter("weight", rng.normal<T>({out, in}, std));
  if (with_bias) bias = this->parameter("bias", Tensor<T>::zeros({out}));
}

template <class T>
Var<T> Linear<T>::operator()(const Var<T>& x, Pass& pass) const {
  if (this->adapter() != nullptr) return this->adapter()->linear(x, this->weight, bias, pass);
  return this->times(x, bias);
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
