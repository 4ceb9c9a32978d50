#include <parsimony/error.hpp>
#include <parsimony/fixed_subspace.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

template <class T>
FixedSubspace<T>::FixedSubspace(const Tensor<T>& weight, index_t dimensions, const Rng& rng)
    : Adapter<T>(weight.shape(), "fixed_subspace") {
  if (dimensions < 1) {
    throw ValueError(fmt::format("subspace: expected at least 1 dimension; got {}", dimensions));
  }
  const index_t out = weight.dim(0);
  const index_t rank = weight.dim(1);
  const index_t count = std::min(dimensions, rank);
  Rng draws = rng.split("dimensions");
  const std::vector<index_t> dims = draws.choose(rank, count);
  Tensor<T> chosen = Tensor<T>::zeros({count, rank});
  for (index_t i = 0; i < count; ++i) {
    chosen.mutable_data()[i * rank + dims[static_cast<std::size_t>(i)]] = 1;
  }
  columns_ = Var<T>(matmul(weight, chosen, false, true));
  chosen_ = Var<T>(std::move(chosen));
  inner_ = this->parameter("d", Tensor<T>::full({count}, static_cast<T>(0.1)));
  outer_ = this->parameter("g", Tensor<T>::zeros({out}));
}

template <class T>
WeightUpdate<T> FixedSubspace<T>::update() const {
  return this->pair(mul(reshape(outer_, {outer_.dim(0), 1}), columns_),
                    mul(reshape(inner_, {inner_.dim(0), 1}), chosen_));
}

template class FixedSubspace<float>;
template class FixedSubspace<double>;

}  // namespace parsimony
