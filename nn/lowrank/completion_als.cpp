// Alternating least squares: with one side's factors fixed, every row of the other side solves its
// own regularised normal equations (Σ_j b_j b_jᵀ + λ I) a = Σ_j r_j b_j by Cholesky, in parallel.
#include <parsimony/completion.hpp>

#include <parsimony/error.hpp>

#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "kernels/parallel.hpp"

namespace parsimony {

namespace {

/// Solves g x = b in place for a symmetric positive definite g (k, k), of which the lower triangle
/// is read and overwritten; x takes the place of b. False if g is not positive definite.
bool cholesky_solve(double* g, double* b, index_t k) {
  for (index_t i = 0; i < k; ++i) {
    for (index_t j = 0; j <= i; ++j) {
      double sum = g[i * k + j];
      for (index_t l = 0; l < j; ++l) sum -= g[i * k + l] * g[j * k + l];
      if (i == j) {
        if (!(sum > 0)) return false;
        g[i * k + i] = std::sqrt(sum);
      } else {
        g[i * k + j] = sum / g[j * k + j];
      }
    }
  }
  for (index_t i = 0; i < k; ++i) {
    for (index_t l = 0; l < i; ++l) b[i] -= g[i * k + l] * b[l];
    b[i] /= g[i * k + i];
  }
  for (index_t i = k - 1; i >= 0; --i) {
    for (index_t l = i + 1; l < k; ++l) b[i] -= g[l * k + i] * b[l];
    b[i] /= g[i * k + i];
  }
  return true;
}

/// One half step. `place` maps an entry of this order to its value (null: the same).
void solve_rows(index_t rows, const std::int32_t* offsets, const std::int32_t* others,
                const std::int32_t* place, const double* values, const double* fixed, index_t k,
                const AlternatingOptions& options, double* out) {
  const index_t mean_count = rows > 0 ? offsets[rows] / rows : 0;
  kernels::parallel_for(rows, (mean_count + 1) * k * k, [=](index_t first, index_t last) {
    std::vector<double> gram(static_cast<std::size_t>(k * k));
    for (index_t r = first; r < last; ++r) {
      double* x = out + r * k;
      std::fill(x, x + k, 0.0);
      const index_t count = offsets[r + 1] - offsets[r];
      if (count == 0) continue;
      std::fill(gram.begin(), gram.end(), 0.0);
      double* g = gram.data();
      for (std::int32_t e = offsets[r]; e < offsets[r + 1]; ++e) {
        const double* b = fixed + static_cast<index_t>(others[e]) * k;
        const double value = values[place != nullptr ? place[e] : e];
        for (index_t i = 0; i < k; ++i) {
          const double bi = b[i];
          // Whole rows: twice the work of the triangle, but loops of one length.
#pragma omp simd
          for (index_t j = 0; j < k; ++j) g[i * k + j] += bi * b[j];
          x[i] += value * bi;
        }
      }
      const double decay = options.decay * (options.weighted ? static_cast<double>(count) : 1.0);
      for (index_t i = 0; i < k; ++i) g[i * k + i] += decay;
      // Rounding beats a tiny decay only where the row is free to be anything: leave it at zero.
      if (!cholesky_solve(g, x, k)) std::fill(x, x + k, 0.0);
    }
  });
}

}  // namespace

AlternatingLeastSquares::AlternatingLeastSquares(const CompletionModel& base, const IndexSet& omega,
                                                 const Tensor<double>& values,
                                                 const AlternatingOptions& options, Rng rng)
    : base_(base), omega_(omega), residual_(residuals(base, omega, values)), options_(options) {
  if (options.rank < 1) {
    throw ValueError(
        fmt::format("alternating least squares: expected a rank >= 1; got {}", options.rank));
  }
  if (!(options.decay > 0) || !std::isfinite(options.decay)) {
    throw ValueError(
        fmt::format("alternating least squares: expected a decay > 0; got {}", options.decay));
  }
  const double spread = frobenius(residual_) / std::sqrt(static_cast<double>(residual_.size()));
  right_ = rng.split("als").normal<double>({omega.cols(), options.rank},
                                           0.1 * std::sqrt(spread > 0 ? spread : 1.0));
  left_ = Tensor<double>::zeros({omega.rows(), options.rank});
}

void AlternatingLeastSquares::iterate() {
  // In place: a resumed run restores these very buffers.
  solve_rows(omega_.rows(), omega_.row_offsets().data(), omega_.columns().data(), nullptr,
             residual_.data(), right_.data(), options_.rank, options_, left_.mutable_data());
  solve_rows(omega_.cols(), omega_.col_offsets().data(), omega_.rows_by_column().data(),
             omega_.csr_position().data(), residual_.data(), left_.data(), options_.rank, options_,
             right_.mutable_data());
}

CompletionModel AlternatingLeastSquares::model() const {
  CompletionModel model = base_;
  model.left = left_.clone();
  model.right = right_.clone();
  return model;
}

CompletionModel fit_als(const CompletionModel& base, const IndexSet& omega,
                        const Tensor<double>& values, const AlternatingOptions& options, Rng rng) {
  AlternatingLeastSquares als(base, omega, values, options, rng);
  for (index_t i = 0; i < options.iterations; ++i) als.iterate();
  return als.model();
}

}  // namespace parsimony
