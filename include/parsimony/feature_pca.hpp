// Low-rank pairs for the linear layers of a trained model, without gradients: from the principal
// components of a layer's outputs over calibration data (Bolaco: Ji et al. 2024, arXiv 2405.10616,
// section 3), from the SVD of its weight, and from the SVD with activation-aware scales (ASVD: Yuan
// et al. 2023, arXiv 2312.05821, section 3.2).
#pragma once

#include <parsimony/factored.hpp>
#include <parsimony/linalg.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace parsimony {

/// What is known of the inputs of a layer.
struct InputMoments {
  Tensor<double> mean;        // (n)
  Tensor<double> covariance;  // (n, n)
  Tensor<double> magnitude;   // (n), mean |x|
  index_t tokens = 0;         // rows that these are of
  index_t groups = 0;         // whole groups averaged; 0: one that was not whole
};

/// Mean and covariance pooled over groups of sequences: within a group the exact running
/// statistics, n' = n + l, mean' = (n mean + l mean_l) / n', M' = M + M_l + (n l / n') δδᵀ with δ =
/// mean_l - mean and M the scatter matrix; over groups the plain average of means and unbiased
/// covariances. So the scatter between groups is left out. A last group that is not whole is
/// dropped, unless it is the only one.
class PooledCovariance {
 public:
  /// @throws ValueError unless width and group, the number of sequences, are at least 1.
  PooledCovariance(index_t width, index_t group);
  /// One sequence, x (..., width). @throws ShapeError on another width; NumericalError if x is not
  /// finite.
  template <class T>
  void add(const Tensor<T>& x);
  /// @throws ValueError if there were fewer than two rows.
  InputMoments result() const;

 private:
  struct Sums {
    double rows = 0;
    Tensor<double> mean, scatter, magnitude;
  };
  void close_group();
  index_t width_, group_;
  index_t in_group_ = 0, groups_ = 0, tokens_ = 0;
  Sums current_;
  Tensor<double> mean_, covariance_, magnitude_;  // sums over groups
};

/// Moments of the distinct inputs of layers, and which input each layer has.
struct LayerInputs {
  std::vector<InputMoments> inputs;
  std::map<std::string, std::size_t> input_of;
  const InputMoments& of(const std::string& layer) const { return inputs.at(input_of.at(layer)); }
};

/// Runs `forward(i)` for i in [0, sequences), without gradients, and collects the inputs of the
/// layers, one set where layers share an input (query, key and value). @throws ValueError if a
/// layer is factored, has an adapter or is not run.
template <class T>
LayerInputs collect_inputs(const std::vector<CompressibleLayer<T>>& layers, index_t sequences,
                           index_t group, const std::function<void(index_t)>& forward);

/// True if there are so few rows that the covariance of an input is poor: fewer than 10 a variable.
bool calibration_is_short(const InputMoments& moments);
/// (1 - ρ) covariance + ρ (trace / n) I, with the ρ of the oracle approximating shrinkage estimator
/// (Chen et al. 2010, arXiv 0907.4698, equation 23). Returns ρ.
double shrink_covariance(InputMoments& moments);

/// A pair y = expand (reduce x) + bias for one layer.
template <class T>
struct FactoredWeights {
  Tensor<T> reduce, expand, bias;  // (r, n), (m, r), (m)
};

/// The pairs of all ranks for one layer; a rank costs a copy of its slices.
template <class T>
class LayerFactors {
 public:
  /// Principal components of the outputs W x + b: expand = Q_r, reduce = Q_rᵀ W, bias = b + (I -
  /// Q_r Q_rᵀ) W mean, with Q the eigenvectors of W Cov Wᵀ. Among all affine maps of rank r that
  /// with the least mean squared error, the sum of the eigenvalues left out. `bias` may be
  /// undefined.
  static LayerFactors from_features(const Tensor<T>& weight, const Tensor<T>& bias,
                                    const InputMoments& inputs);
  /// The best approximation of W itself; the bias stays.
  static LayerFactors from_svd(const Tensor<T>& weight, const Tensor<T>& bias);
  /// SVD of W D with D = diag(mean |x|)^½, D⁻¹ after it; the bias stays.
  static LayerFactors from_activations(const Tensor<T>& weight, const Tensor<T>& bias,
                                       const InputMoments& inputs);

  /// @throws ValueError unless 1 <= rank <= max_rank().
  FactoredWeights<T> at(index_t rank) const;
  index_t max_rank() const { return spectrum_.size(); }
  /// What each rank adds, descending: eigenvalues of the outputs' covariance, or squared singular
  /// values. The sum of those left out is the error.
  const Tensor<double>& spectrum() const { return spectrum_; }

 private:
  Tensor<T> left_, right_;  // (m, k), (k, n)
  Tensor<double> bias_;     // (m)
  Tensor<double>
      components_;  // (k) of W mean, which the bias loses as the pair takes it; or undefined
  Tensor<double> spectrum_;
};

extern template class LayerFactors<float>;
extern template class LayerFactors<double>;

}  // namespace parsimony
