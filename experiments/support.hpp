// What several matrix experiments share: the problem, the start that original and compressed runs
// have in common, and the path of end-to-end matrices in principal components.
#pragma once

#include <parsimony/deep_linear.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace parsimony::lab {

/// A low-rank target with some of its entries observed.
struct CompletionProblem {
  Tensor<double> phi;
  IndexSet omega;
  Tensor<std::uint8_t> mask;
  Tensor<double> observed;  // phi on omega
};

/// @throws ValueError if the mask leaves a row or a column without an observation: no method could
/// recover it.
inline CompletionProblem completion_problem(index_t d, index_t rank, double fraction,
                                            const Rng& rng) {
  CompletionProblem p;
  p.phi = low_rank_target(d, d, rank, rng.split("target"));
  p.omega = random_index_set(d, d, fraction, rng.split("mask"));
  for (const auto* offsets : {&p.omega.row_offsets(), &p.omega.col_offsets()}) {
    const bool rows = offsets == &p.omega.row_offsets();
    for (std::size_t i = 0; i + 1 < offsets->size(); ++i) {
      if ((*offsets)[i] == (*offsets)[i + 1]) {
        throw ValueError("mask: " + std::string(rows ? "row " : "column ") + std::to_string(i) +
                         " has no observed entry; raise p (the observed fraction) or d");
      }
    }
  }
  p.mask = p.omega.mask();
  p.observed = gather_entries(p.omega, p.phi);
  return p;
}

/// Square factors W_1 ... W_L of width d, drawn from the run's "init" stream.
inline std::vector<Tensor<double>> initial_factors(index_t d, int depth, double eps,
                                                   const Rng& rng) {
  const std::vector<index_t> dims(static_cast<std::size_t>(depth) + 1, d);
  return DeepLinear<double>(dims, {eps}, rng.split("init")).values();
}

/// dl/dW_1 at the start, by backward through `loss(net)`.
template <class Loss>
Tensor<double> first_gradient(const std::vector<Tensor<double>>& initial, const Loss& loss) {
  DeepLinear<double> net(initial);
  for (int l = 2; l <= net.depth(); ++l) {
    Var<double> frozen = net.factor(l);
    frozen.set_requires_grad(false);
  }
  backward(loss(net));
  return net.factor(1).grad();
}

/// Groups with the discrepant learning rate: inner factors at the full step, outer ones at γ of it.
inline std::vector<ParameterGroup<double>> discrepant_groups(const CompressedLinear<double>& net,
                                                             double gamma) {
  std::vector<ParameterGroup<double>> groups{{net.inner_parameters(), 1.0, 0.0}};
  if (gamma > 0) groups.push_back({net.outer_parameters(), gamma, 0.0});
  return groups;
}

/// η p (L σ₁^(2(L-1)/L) + 2γσ₁²): below 2 gradient descent is stable (section 1.6).
inline double stability_number(double eta, double fraction, double sigma1, int depth,
                               double gamma) {
  return eta * fraction *
         (depth * std::pow(sigma1, 2.0 * (depth - 1) / depth) + 2 * gamma * sigma1 * sigma1);
}

/// Iterations to convergence from eps-orthogonal factors: 1.25 times the escape from the plateau,
/// 1 / (η p σ₁ eps) at depth 3 (section 1.6). Good to a fifth; for the time left only.
inline index_t expected_iterations(double eta, double fraction, double sigma1, int depth,
                                   double eps) {
  const double rate = eta * fraction * sigma1;
  const double escape =
      depth == 2 ? std::log(1 / eps) / rate : std::pow(eps, 2 - depth) / ((depth - 2) * rate);
  return escape > 0 && escape < 1e15 ? static_cast<index_t>(1.25 * escape) : 0;
}

/// A sketch of the end-to-end matrix: its entries at fixed random positions, which keeps distances
/// to about 1 % and costs a checkpoint kilobytes where 30 matrices of d = 1000 would cost 240 MB.
class PathSketch {
 public:
  PathSketch(index_t d, index_t snapshots, const Rng& rng) : snapshots_(snapshots) {
    Rng stream = rng.split("path sketch");
    positions_ = stream.choose(d * d, std::min<index_t>(d * d, 20000));
  }
  /// Keeps the k-th snapshot with the stage, forgetting the one `snapshots` before it.
  void keep(Stage& stage, index_t k, const Tensor<double>& product) const {
    Tensor<double> sample({static_cast<index_t>(positions_.size())});
    double* s = sample.mutable_data();
    for (std::size_t i = 0; i < positions_.size(); ++i) s[i] = product.data()[positions_[i]];
    stage.keep(name(k), sample);
    stage.keep("snapshots", static_cast<double>(k + 1));
  }
  /// The kept snapshots (n, positions), oldest first.
  Tensor<double> matrix(const Record& record) const {
    const auto total = static_cast<index_t>(record.scalar("snapshots"));
    std::vector<Tensor<double>> rows;
    for (index_t k = std::max<index_t>(0, total - snapshots_); k < total; ++k) {
      const Tensor<double>& sample = record.tensor(name(k));
      rows.push_back(sample.reshape({1, sample.size()}));
    }
    return concat(rows, 0);
  }

 private:
  std::string name(index_t k) const { return "snapshot." + std::to_string(k % snapshots_); }
  index_t snapshots_;
  std::vector<index_t> positions_;
};

/// First two principal components of `reference` (n, features), and both sets projected on them.
struct PrincipalPaths {
  std::vector<double> x1, y1, x2, y2;
};
inline PrincipalPaths principal_paths(const Tensor<double>& reference,
                                      const Tensor<double>& other) {
  const Tensor<double> mean =
      scale(sum_to(reference, {1, reference.dim(1)}), 1.0 / static_cast<double>(reference.dim(0)));
  const Svd<double> s = svd(sub(reference, mean));
  const Tensor<double> axes = s.vt.rows(0, std::min<index_t>(2, s.vt.dim(0)));
  const auto column = [&](const Tensor<double>& data, index_t j) {
    const Tensor<double> projected = matmul(sub(data, mean), axes, false, true);
    std::vector<double> out;
    for (index_t i = 0; i < projected.dim(0); ++i) {
      out.push_back(j < projected.dim(1) ? projected.at({i, j}) : 0.0);
    }
    return out;
  };
  return {column(reference, 0), column(reference, 1), column(other, 0), column(other, 1)};
}

/// A number for a claim: "1.23e-10", "415", "0.95".
inline std::string number(double value) {
  char buffer[32];
  // Counts (iterations) in full: 14300, not 1.43e+04.
  const bool count = std::abs(value) < 1e9 && value == std::floor(value);
  std::snprintf(buffer, sizeof buffer, count ? "%.0f" : "%.4g", value);
  return buffer;
}

}  // namespace parsimony::lab
