// Tables of rows by number, with or without an adapter.
#include <parsimony/adapter.hpp>
#include <parsimony/layers.hpp>

namespace parsimony {

template <class T>
Embedding<T>::Embedding(index_t count, index_t width, const Initializer& init, double std) {
  this->weight = this->parameter("weight", init.normal<T>({count, width}, std));
}

template <class T>
Var<T> Embedding<T>::operator()(const Tensor<std::int64_t>& ids) const {
  if (this->adapter() != nullptr) return this->adapter()->rows(ids, this->weight);
  return gather_rows(this->weight, ids);
}

template class Embedding<float>;
template class Embedding<double>;

}  // namespace parsimony
