// The full and the compressed factorisation as modules.
#include <parsimony/deep_linear.hpp>
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// One eps a layer.
std::vector<double> per_layer(const std::vector<double>& eps, std::size_t depth) {
  for (const double e : eps) {
    if (!std::isfinite(e)) {
      throw ValueError(fmt::format("deep linear: expected an eps that is finite; got {}", e));
    }
  }
  if (eps.size() == depth) return eps;
  if (eps.size() != 1) {
    throw ValueError(
        fmt::format("deep linear: expected 1 or {} values of eps; got {}", depth, eps.size()));
  }
  return std::vector<double>(depth, eps[0]);
}

/// Product of a chain f_n ··· f_1 from the right, or from the left where that is cheaper.
template <class T>
Var<T> chain_product(const std::vector<Var<T>>& factors) {
  index_t cost_right = 0;
  index_t cost_left = 0;
  const std::size_t n = factors.size();
  for (std::size_t i = 1; i < n; ++i) {
    cost_right += factors[i].dim(0) * factors[i].dim(1) * factors[0].dim(1);
    cost_left += factors[n - 1].dim(0) * factors[i - 1].dim(0) * factors[i - 1].dim(1);
  }
  if (cost_right <= cost_left) {
    Var<T> product = factors[0];
    for (std::size_t i = 1; i < n; ++i) product = matmul(factors[i], product);
    return product;
  }
  Var<T> product = factors[n - 1];
  for (std::size_t i = n - 1; i > 0; --i) product = matmul(product, factors[i - 1]);
  return product;
}

}  // namespace

template <class T>
DeepLinear<T>::DeepLinear(const std::vector<index_t>& dims, const std::vector<double>& eps,
                          const Rng& rng) {
  if (dims.size() < 3) {
    throw ValueError(fmt::format(
        "deep linear: expected depth >= 2, that is at least 3 sizes; got {}", dims.size()));
  }
  for (const index_t d : dims) {
    if (d < 1) throw ValueError(fmt::format("deep linear: expected sizes >= 1; got {}", d));
  }
  const auto scales = per_layer(eps, dims.size() - 1);
  for (std::size_t l = 1; l < dims.size(); ++l) {
    Rng stream = rng.split(fmt::format("w{}", l));
    add_factor(scale(haar_orthogonal<T>(stream, dims[l], dims[l - 1]), scales[l - 1]));
  }
}

template <class T>
DeepLinear<T>::DeepLinear(const std::vector<Tensor<T>>& factors) {
  if (factors.size() < 2) {
    throw ValueError(
        fmt::format("deep linear: expected at least 2 factors; got {}", factors.size()));
  }
  for (const auto& factor : factors) add_factor(factor.clone());
}

template <class T>
void DeepLinear<T>::add_factor(Tensor<T> value) {
  if (value.rank() != 2 || (!factors_.empty() && factors_.back().dim(0) != value.dim(1))) {
    throw ShapeError(fmt::format("deep linear: factor {} of shape {} does not chain",
                                 factors_.size() + 1, value.shape().str()));
  }
  factors_.push_back(this->parameter(fmt::format("w{}", factors_.size() + 1), std::move(value)));
}

template <class T>
Var<T> DeepLinear<T>::product() const {
  return chain_product(factors_);
}

template <class T>
Var<T> DeepLinear<T>::sampled(const IndexSet& omega) const {
  const std::vector<Var<T>> upper(factors_.begin() + 1, factors_.end());
  return sampled_matmul(omega, chain_product(upper), transpose(factors_[0]));
}

template <class T>
Var<T> DeepLinear<T>::completion_loss(const IndexSet& omega, const Tensor<T>& observed) const {
  const std::vector<Var<T>> upper(factors_.begin() + 1, factors_.end());
  return sampled_half_squared_error(omega, chain_product(upper), transpose(factors_[0]), observed);
}

template <class T>
std::vector<Tensor<T>> DeepLinear<T>::values() const {
  std::vector<Tensor<T>> out;
  for (const auto& factor : factors_) out.push_back(factor.value().clone());
  return out;
}

template <class T>
CompressedLinear<T>::CompressedLinear(const Tensor<T>& left, const Tensor<T>& right, int depth,
                                      const std::vector<double>& eps, bool train_outer) {
  if (left.rank() != 2 || right.rank() != 2 || left.dim(1) != right.dim(1)) {
    throw ShapeError(
        fmt::format("compressed linear: expected left (m, k) and right (n, k); got {} and {}",
                    left.shape().str(), right.shape().str()));
  }
  if (depth < 1)
    throw ValueError(fmt::format("compressed linear: expected depth >= 1; got {}", depth));
  const auto scales = per_layer(eps, static_cast<std::size_t>(depth));
  left_ = this->parameter("left", left.clone());
  right_ = this->parameter("right", right.clone());
  left_.set_requires_grad(train_outer);
  right_.set_requires_grad(train_outer);
  for (int l = 1; l <= depth; ++l) {
    cores_.push_back(this->parameter(
        fmt::format("core{}", l),
        Tensor<T>::eye(left.dim(1), static_cast<T>(scales[static_cast<std::size_t>(l - 1)]))));
  }
}

template <class T>
Var<T> CompressedLinear<T>::core() const {
  return chain_product(cores_);
}

template <class T>
Var<T> CompressedLinear<T>::product() const {
  return matmul(matmul(left_, core()), right_, false, true);
}

template <class T>
Var<T> CompressedLinear<T>::sampled(const IndexSet& omega) const {
  return sampled_matmul(omega, matmul(left_, core()), right_);
}

template <class T>
Var<T> CompressedLinear<T>::completion_loss(const IndexSet& omega,
                                            const Tensor<T>& observed) const {
  return sampled_half_squared_error(omega, matmul(left_, core()), right_, observed);
}

template <class T>
NamedParameters<T> CompressedLinear<T>::inner_parameters() const {
  NamedParameters<T> out;
  for (std::size_t l = 0; l < cores_.size(); ++l)
    out.emplace_back(fmt::format("core{}", l + 1), cores_[l]);
  return out;
}

template <class T>
NamedParameters<T> CompressedLinear<T>::outer_parameters() const {
  return {{"left", left_}, {"right", right_}};
}

template class DeepLinear<float>;
template class DeepLinear<double>;
template class CompressedLinear<float>;
template class CompressedLinear<double>;

}  // namespace parsimony
