// Layer norm (Ba, Kiros and Hinton 2016), alone and at the end of a sublayer; RMS norm (Zhang and
// Sennrich 2019).
#include <parsimony/layers.hpp>

namespace parsimony {

template <class T>
LayerNorm<T>::LayerNorm(index_t width, double eps) : eps_(eps) {
  weight = this->parameter("weight", Tensor<T>::ones({width}));
  bias = this->parameter("bias", Tensor<T>::zeros({width}));
}

template <class T>
Var<T> LayerNorm<T>::operator()(const Var<T>& x) const {
  return layer_norm(x, weight, bias, eps_);
}

template <class T>
Var<T> LayerNorm<T>::of_sum(const Var<T>& x, const Var<T>& residual, double probability,
                            Pass& pass) const {
  return dropout_add_layer_norm(x, residual, weight, bias, eps_, pass.dropout(probability),
                                pass.next(), pass.places(x));
}

template <class T>
RmsNorm<T>::RmsNorm(index_t width, double eps) : eps_(eps) {
  weight = this->parameter("weight", Tensor<T>::ones({width}));
}

template class LayerNorm<float>;
template class LayerNorm<double>;
template class RmsNorm<float>;
template class RmsNorm<double>;

}  // namespace parsimony
