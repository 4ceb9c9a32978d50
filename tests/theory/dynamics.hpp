// What the theory tests share: a target, gradient descent on it through the engine, and the blocks
// of a factor in the bases of the invariant-subspace theorem.
#pragma once

#include <parsimony/deep_linear.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

namespace parsimony::testing {

struct Setting {
  index_t d = 30;
  index_t r = 3;
  index_t rhat = 3;
  std::vector<double> eps = {1.0, 1.0, 1.0};  // one a layer
  double eta = 1.0 / 900;
  double weight_decay = 0;
  double momentum = 0;
  std::uint64_t seed = 0;

  int depth() const { return static_cast<int>(eps.size()); }
  Tensor<double> target() const { return low_rank_target(d, d, r, Rng(seed).split("target")); }
  std::vector<Tensor<double>> initial() const {
    const std::vector<index_t> dims(eps.size() + 1, d);
    return DeepLinear<double>(dims, eps, Rng(seed).split("init")).values();
  }
};

/// The largest deviations of U_lᵀ W_l V_l from blockdiag(anything, ρ_l I).
struct Deviation {
  double middle = 0;  // of the m x m block from ρ_l I
  double off_diagonal = 0;
};

template <class T>
Tensor<T> in_bases(const InvariantSubspace<T>& bases, const Tensor<T>& w, std::size_t l) {
  return matmul(matmul(bases.u[l], w, true, false), bases.v[l]);
}

/// @param width 2 r̂, the side of the active block.
template <class T>
Deviation deviation(const Tensor<T>& block, index_t width, double rho) {
  Deviation out;
  const index_t d = block.dim(0);
  for (index_t i = 0; i < d; ++i) {
    for (index_t j = 0; j < d; ++j) {
      const double value = static_cast<double>(block.at({i, j}));
      if (i >= width && j >= width) {
        out.middle = std::max(out.middle, std::abs(value - (i == j ? rho : 0.0)));
      } else if (i >= width || j >= width) {
        out.off_diagonal = std::max(out.off_diagonal, std::abs(value));
      }
    }
  }
  return out;
}

template <class T>
Deviation largest_deviation(const InvariantSubspace<T>& bases, const DeepLinear<T>& net,
                            index_t width, const Tensor<double>& rho, index_t t) {
  Deviation out;
  for (int l = 1; l <= net.depth(); ++l) {
    const auto i = static_cast<std::size_t>(l - 1);
    const Deviation here = deviation(in_bases(bases, net.factor(l).value(), i), width,
                                     rho.at({t, static_cast<index_t>(i)}));
    out.middle = std::max(out.middle, here.middle);
    out.off_diagonal = std::max(out.off_diagonal, here.off_diagonal);
  }
  return out;
}

/// One step of `optimizer` on half the squared error of the product; the loss before it.
template <class T>
double descend(const DeepLinear<T>& net, const Tensor<T>& target, Optimizer<T>& optimizer) {
  const Var<T> loss = half_squared_error(net.product(), target);
  backward(loss);
  optimizer.step();
  return static_cast<double>(loss.item());
}

/// The gradient at W_1 of half the squared error, over the mask where there is one.
inline Tensor<double> gradient_at_first(const std::vector<Tensor<double>>& initial,
                                        const Tensor<double>& target,
                                        const Tensor<std::uint8_t>* mask = nullptr) {
  const DeepLinear<double> net(initial);
  backward(mask == nullptr ? half_squared_error(net.product(), target)
                           : masked_half_squared_error(net.product(), target, *mask));
  return net.factor(1).grad();
}

/// max |a - b|
template <class T>
double distance(const Tensor<T>& a, const Tensor<T>& b) {
  return max_abs(sub(a, b));
}

/// The orthogonal projector on the columns of a basis.
inline Tensor<double> projector(const Tensor<double>& basis) {
  return matmul(basis, basis, false, true);
}

}  // namespace parsimony::testing
