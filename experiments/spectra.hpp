// What the subspace experiments measure on a factor in training: its blocks in the bases of the
// invariant-subspace theorem, and how its SVD evolves (spec 1.2, 2.3).
#pragma once

#include "support.hpp"

#include <charconv>

namespace parsimony::lab {

/// A number with the digits that read back to the same bits, in every locale.
inline std::string exact_number(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

/// Deviations of UᵀWV from blockdiag(2 r̂ x 2 r̂, ρ I).
struct BlockDeviation {
  double middle = 0;        // max |U_2ᵀ W V_2 - ρ I|
  double off_diagonal = 0;  // max |U_1ᵀ W V_2|, |U_2ᵀ W V_1|
  double mean = 0;          // mean of the middle diagonal: the measured ρ
};

/// @param block UᵀWV (d, d); @param width 2 r̂; a NaN `rho` stands for the measured mean.
inline BlockDeviation block_deviation(const Tensor<double>& block, index_t width, double rho) {
  BlockDeviation out;
  const index_t d = block.dim(0);
  const double* b = block.data();
  for (index_t i = width; i < d; ++i) out.mean += b[i * d + i] / static_cast<double>(d - width);
  const double level = std::isnan(rho) ? out.mean : rho;
  for (index_t i = 0; i < d; ++i) {
    for (index_t j = 0; j < d; ++j) {
      const double value = b[i * d + j];
      if (i >= width && j >= width) {
        out.middle = std::max(out.middle, std::abs(value - (i == j ? level : 0.0)));
      } else if (i >= width || j >= width) {
        out.off_diagonal = std::max(out.off_diagonal, std::abs(value));
      }
    }
  }
  return out;
}

/// U_lᵀ W V_l for layer l = 1 ... L.
inline Tensor<double> in_bases(const InvariantSubspace<double>& bases, const Tensor<double>& w,
                               int l) {
  const auto i = static_cast<std::size_t>(l - 1);
  return matmul(matmul(bases.u[i], w, true, false), bases.v[i]);
}

/// The SVD of every factor over the first iterations. Angles are taken against iterate 1, since all
/// singular values tie at the start; row 0 holds zeros. Indices r ... d-r-1 are the middle: one
/// number, the largest principal angle between the middle subspaces, stands for all of them.
class SvdEvolution {
 public:
  SvdEvolution(int depth, index_t d, index_t r, index_t iterations)
      : d_(d), r_(r), iterations_(iterations) {
    const auto zeros = [](index_t rows, index_t cols) {
      return Tensor<double>::zeros({rows, cols});
    };
    for (int l = 1; l <= depth; ++l) {
      layers_.push_back({zeros(iterations + 1, d), zeros(iterations + 1, d),
                         zeros(iterations + 1, d), zeros(d, d), zeros(d, d)});
    }
  }

  /// Everything measured so far survives a kill.
  void track(Stage& stage) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const std::string l = std::to_string(i + 1);
      stage.track("svd.values" + l, layers_[i].values);
      stage.track("svd.right" + l, layers_[i].right);
      stage.track("svd.left" + l, layers_[i].left);
      stage.track("svd.reference_right" + l, layers_[i].reference_right);
      stage.track("svd.reference_left" + l, layers_[i].reference_left);
    }
  }

  /// Measures iterate t of a network; does nothing past the last iteration.
  void measure(index_t t, const DeepLinear<double>& net) {
    if (t > iterations_) return;
    for (int l = 1; l <= net.depth(); ++l) {
      Layer& layer = layers_[static_cast<std::size_t>(l - 1)];
      const Svd<double> s = svd(net.factor(l).value());
      const Tensor<double> right = transpose(s.vt);
      std::copy(s.s.begin(), s.s.end(), layer.values.mutable_data() + t * d_);
      if (t == 0) continue;
      if (t == 1) {
        std::copy(right.begin(), right.end(), layer.reference_right.mutable_data());
        std::copy(s.u.begin(), s.u.end(), layer.reference_left.mutable_data());
      }
      angles(right, layer.reference_right, layer.right.mutable_data() + t * d_);
      angles(s.u, layer.reference_left, layer.left.mutable_data() + t * d_);
    }
  }

  /// Keeps "svd.values{l}", "svd.right{l}" and "svd.left{l}", each (iterations + 1, d).
  void keep(Stage& stage) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const std::string l = std::to_string(i + 1);
      stage.keep("svd.values" + l, layers_[i].values);
      stage.keep("svd.right" + l, layers_[i].right);
      stage.keep("svd.left" + l, layers_[i].left);
    }
  }

 private:
  struct Layer {
    Tensor<double> values, right, left;
    Tensor<double> reference_right, reference_left;
  };

  void angles(const Tensor<double>& now, const Tensor<double>& reference, double* out) const {
    const auto angle = [&](index_t first, index_t last) {
      return principal_angles(slice(now, 1, first, last), slice(reference, 1, first, last)).back();
    };
    for (index_t i = 0; i < r_; ++i) {
      out[i] = angle(i, i + 1);
      out[d_ - 1 - i] = angle(d_ - 1 - i, d_ - i);
    }
    std::fill(out + r_, out + d_ - r_, angle(r_, d_ - r_));
  }

  index_t d_, r_, iterations_;
  std::vector<Layer> layers_;
};

/// A surface over (index of the singular value, iteration) of a kept (iterations + 1, d) tensor.
inline void evolution_panel(Figure& figure, const std::string& title, const std::string& z_label,
                            const Tensor<double>& values) {
  Panel& panel = figure.panel(title);
  panel.x_label = "index";
  panel.y_label = "iteration";
  panel.z_label = z_label;
  std::vector<double> x;
  std::vector<double> y;
  for (index_t j = 0; j < values.dim(1); ++j) x.push_back(static_cast<double>(j + 1));
  for (index_t i = 0; i < values.dim(0); ++i) y.push_back(static_cast<double>(i));
  panel.surface(x, y, values.to_vector());
}

}  // namespace parsimony::lab
