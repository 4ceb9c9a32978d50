// What every completion method predicts with and is measured by, and the simple baselines: the
// mean, regularised biases, and the truncated SVD of the zero-filled residual.
#include <parsimony/completion.hpp>

#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "kernels/parallel.hpp"

namespace parsimony {

namespace {

void require_table(const char* op, const IndexSet& omega, const Tensor<double>& values) {
  if (omega.size() < 1) throw ValueError(fmt::format("{}: expected at least one rating", op));
  if (values.size() != omega.size()) {
    throw ShapeError(fmt::format("{}: expected {} values on the index set; got {}", op,
                                 omega.size(), values.shape().str()));
  }
}

/// Σ over each row of a CSR-like order of what `entry` gives, divided by decay + count. Returns the
/// largest change.
template <class F>
double ridge_means(const std::vector<std::int32_t>& offsets, double decay, double* out, F&& entry) {
  const auto rows = static_cast<index_t>(offsets.size()) - 1;
  double change = 0;
  kernels::parallel_for(rows, 4 * (1 + offsets.back() / rows), [&](index_t first, index_t last) {
    double largest = 0;
    for (index_t r = first; r < last; ++r) {
      const std::int32_t* range = offsets.data() + r;
      double total = 0;
      for (std::int32_t e = range[0]; e < range[1]; ++e)
        total += entry(static_cast<std::size_t>(e));
      const double count = range[1] - range[0];
      const double next = count > 0 ? total / (decay + count) : 0.0;
      largest = std::max(largest, std::abs(next - out[r]));
      out[r] = next;
    }
#pragma omp critical(parsimony_ridge_means)
    change = std::max(change, largest);
  });
  return change;
}

}  // namespace

double CompletionModel::unclamped(index_t user, index_t item) const {
  if (user < -1 || user >= users() || item < -1 || item >= items()) {
    throw ValueError(fmt::format("completion: ({}, {}) is outside the {} x {} table", user, item,
                                 users(), items()));
  }
  double value = mean;
  if (user >= 0) value += user_bias.data()[user];
  if (item >= 0) value += item_bias.data()[item];
  if (user >= 0 && item >= 0 && left.defined()) {
    const index_t k = left.dim(1);
    const double* a = left.data() + user * k;
    const double* b = right.data() + item * k;
    double product = 0;
    for (index_t j = 0; j < k; ++j) product += a[j] * b[j];
    value += product;
  }
  return value;
}

double CompletionModel::predict(index_t user, index_t item) const {
  return std::min(high, std::max(low, unclamped(user, item)));
}

CompletionError completion_error(const CompletionModel& model, const RatedPairs& pairs) {
  const index_t n = pairs.size();
  if (n < 1) throw ValueError("completion error: expected at least one rating");
  const auto total = [&](bool clamped, bool squared) {
    return kernels::blocked_sum(n, [&](index_t first, index_t last) {
      double sum = 0;
      for (index_t e = first; e < last; ++e) {
        const auto i = static_cast<std::size_t>(e);
        const double guess = clamped ? model.predict(pairs.user[i], pairs.item[i])
                                     : model.unclamped(pairs.user[i], pairs.item[i]);
        const double error = std::abs(guess - pairs.value[i]);
        sum += squared ? error * error : error;
      }
      return sum;
    });
  };
  const auto count = static_cast<double>(n);
  return {std::sqrt(total(true, true) / count), total(true, false) / count,
          std::sqrt(total(false, true) / count), total(false, false) / count};
}

CompletionModel fit_global_mean(const IndexSet& omega, const Tensor<double>& values) {
  require_table("global mean", omega, values);
  CompletionModel model;
  model.mean = sum_all(values) / static_cast<double>(values.size());
  model.user_bias = Tensor<double>::zeros({omega.rows()});
  model.item_bias = Tensor<double>::zeros({omega.cols()});
  return model;
}

CompletionModel fit_biases(const IndexSet& omega, const Tensor<double>& values, double decay) {
  if (!(decay >= 0) || !std::isfinite(decay)) {
    throw ValueError(fmt::format("biases: expected a decay >= 0; got {}", decay));
  }
  CompletionModel model = fit_global_mean(omega, values);
  double* user = model.user_bias.mutable_data();
  double* item = model.item_bias.mutable_data();
  const double* v = values.data();
  const auto& columns = omega.columns();
  const auto& rows = omega.rows_by_column();
  const auto& place = omega.csr_position();
  const double enough = 1e-6 * max_abs(values) + 1e-300;
  for (int pass = 0; pass < 50; ++pass) {
    // Items first: they have more ratings each, so that one pass is nearly enough.
    const double moved = ridge_means(omega.col_offsets(), decay, item, [&](std::size_t e) {
      return v[place[e]] - model.mean - user[rows[e]];
    });
    const double moved_too = ridge_means(omega.row_offsets(), decay, user, [&](std::size_t e) {
      return v[e] - model.mean - item[columns[e]];
    });
    if (std::max(moved, moved_too) <= enough) break;
  }
  return model;
}

Tensor<double> residuals(const CompletionModel& model, const IndexSet& omega,
                         const Tensor<double>& values) {
  require_table("residuals", omega, values);
  if (model.users() != omega.rows() || model.items() != omega.cols()) {
    throw ShapeError(fmt::format("residuals: the model is {} x {}, the ratings {} x {}",
                                 model.users(), model.items(), omega.rows(), omega.cols()));
  }
  Tensor<double> out(values.shape());
  double* o = out.mutable_data();
  const double* v = values.data();
  const auto& offsets = omega.row_offsets();
  const auto& columns = omega.columns();
  kernels::parallel_for(omega.rows(), 1 + omega.size() / std::max<index_t>(1, omega.rows()),
                        [&](index_t first, index_t last) {
                          for (index_t r = first; r < last; ++r) {
                            const auto row = static_cast<std::size_t>(r);
                            for (auto e = offsets[row]; e < offsets[row + 1]; ++e) {
                              o[e] =
                                  v[e] - model.unclamped(r, columns[static_cast<std::size_t>(e)]);
                            }
                          }
                        });
  return out;
}

CompletionModel fit_truncated_svd(const CompletionModel& base, const IndexSet& omega,
                                  const Tensor<double>& values, index_t rank, const Rng& rng) {
  const Tensor<double> residual = residuals(base, omega, values);
  const TopSingular<double> top = top_singular(omega, residual, rank, rng.split("svd"));
  CompletionModel model = base;
  model.left = mul(top.u, top.s);
  model.right = top.v;
  return model;
}

}  // namespace parsimony
