// Pairs from principal components of features, and from SVDs of the weight.
#include <parsimony/error.hpp>
#include <parsimony/feature_pca.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

void require_input(const Shape& weight, const InputMoments& inputs) {
  if (weight.rank() != 2 || inputs.mean.shape() != Shape{weight[1]}) {
    throw ShapeError(fmt::format("factors: a weight {} with inputs of {}", weight.str(),
                                 inputs.mean.shape().str()));
  }
}

template <class T>
Tensor<double> bias_or_zeros(const Tensor<T>& bias, index_t out) {
  return bias.defined() ? cast<double>(bias) : Tensor<double>::zeros({out});
}

Tensor<double> squares(const Tensor<double>& s) { return mul(s, s); }

/// u diag(s)^½ and diag(s)^½ vt.
void balance(const Svd<double>& parts, Tensor<double>& left, Tensor<double>& right) {
  const index_t k = parts.s.size();
  Tensor<double> roots({k});
  for (index_t i = 0; i < k; ++i) roots.mutable_data()[i] = std::sqrt(parts.s.data()[i]);
  left = mul(parts.u, roots);
  right = mul(parts.vt, roots.reshape({k, 1}));
}

}  // namespace

bool calibration_is_short(const InputMoments& m) { return m.tokens < 10 * m.mean.size(); }

double shrink_covariance(InputMoments& m) {
  const auto p = static_cast<double>(m.mean.size());
  const auto n = static_cast<double>(m.tokens);
  double trace = 0;
  for (index_t i = 0; i < m.mean.size(); ++i) trace += m.covariance.at({i, i});
  const double squared = dot(m.covariance, m.covariance);  // tr(S²)
  const double above = (1 - 2 / p) * squared + trace * trace;
  const double below = (n + 1 - 2 / p) * (squared - trace * trace / p);
  const double rho = below > 0 ? std::min(1.0, above / below) : 1.0;
  Tensor<double> shrunk = scale(m.covariance, 1 - rho);
  for (index_t i = 0; i < m.mean.size(); ++i) {
    shrunk.mutable_data()[i * m.mean.size() + i] += rho * trace / p;
  }
  m.covariance = shrunk;
  return rho;
}

// Where m > n the outputs lie in the n columns of W = Q_w R: the eigenvectors of the smaller R Cov
// Rᵀ, times Q_w, are those of W Cov Wᵀ with eigenvalues that can differ from 0.
template <class T>
LayerFactors<T> LayerFactors<T>::from_features(const Tensor<T>& weight, const Tensor<T>& bias,
                                               const InputMoments& inputs) {
  require_input(weight.shape(), inputs);
  const Tensor<double> w = cast<double>(weight);
  const index_t m = w.dim(0);
  const index_t n = w.dim(1);
  Tensor<double> inner = w;
  Tensor<double> basis;
  if (m > n) {
    const Qr<double> parts = qr(w);
    basis = parts.q;
    inner = parts.r;
  }
  const SymmetricEigen<double> eigen =
      symmetric_eigen(matmul(matmul(inner, inputs.covariance), inner, false, true));
  const Tensor<double> q = basis.defined() ? matmul(basis, eigen.vectors) : eigen.vectors;
  LayerFactors out;
  out.left_ = cast<T>(q);
  out.right_ = cast<T>(matmul(q, w, true, false));
  const Tensor<double> mean_out = matmul(w, inputs.mean.reshape({n, 1}));  // (m, 1)
  out.bias_ = add(bias_or_zeros(bias, m), mean_out.reshape({m}));
  out.components_ = matmul(q, mean_out, true, false).reshape({q.dim(1)});
  out.spectrum_ = eigen.values.clone();
  double* values = out.spectrum_.mutable_data();
  for (index_t i = 0; i < out.spectrum_.size(); ++i) values[i] = std::max(0.0, values[i]);
  return out;
}

template <class T>
LayerFactors<T> LayerFactors<T>::from_svd(const Tensor<T>& weight, const Tensor<T>& bias) {
  const Svd<double> parts = svd(cast<double>(weight));
  Tensor<double> left;
  Tensor<double> right;
  balance(parts, left, right);
  LayerFactors out;
  out.left_ = cast<T>(left);
  out.right_ = cast<T>(right);
  out.bias_ = bias_or_zeros(bias, weight.dim(0));
  out.spectrum_ = squares(parts.s);
  return out;
}

template <class T>
LayerFactors<T> LayerFactors<T>::from_activations(const Tensor<T>& weight, const Tensor<T>& bias,
                                                  const InputMoments& inputs) {
  require_input(weight.shape(), inputs);
  const index_t n = weight.dim(1);
  // Inputs that are hardly ever on keep a scale that can be divided by.
  const double least = 1e-6 * std::max(1e-30, max_abs(inputs.magnitude));
  Tensor<double> scales({n});
  for (index_t i = 0; i < n; ++i) {
    scales.mutable_data()[i] = std::sqrt(std::max(least, inputs.magnitude.data()[i]));
  }
  const Svd<double> parts = svd(mul(cast<double>(weight), scales));
  Tensor<double> left;
  Tensor<double> right;
  balance(parts, left, right);
  LayerFactors out;
  out.left_ = cast<T>(left);
  out.right_ = cast<T>(div(right, scales));
  out.bias_ = bias_or_zeros(bias, weight.dim(0));
  out.spectrum_ = squares(parts.s);
  return out;
}

template <class T>
FactoredWeights<T> LayerFactors<T>::at(index_t rank) const {
  if (rank < 1 || rank > max_rank()) {
    throw ValueError(fmt::format("factors: expected a rank of 1..{}; got {}", max_rank(), rank));
  }
  FactoredWeights<T> out;
  out.expand = slice(left_, 1, 0, rank);
  out.reduce = right_.rows(0, rank).clone();
  Tensor<double> bias = bias_;
  if (components_.defined()) {
    const Tensor<double> taken =
        matmul(cast<double>(out.expand), components_.rows(0, rank).reshape({rank, 1}));
    bias = sub(bias_, taken.reshape({bias_.size()}));
  }
  out.bias = cast<T>(bias);
  return out;
}

template class LayerFactors<float>;
template class LayerFactors<double>;

}  // namespace parsimony
