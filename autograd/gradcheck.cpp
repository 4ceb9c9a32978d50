// Directional derivatives by central differences, D(h) = (f(x + h v) - f(x - h v)) / 2h, with one
// step of Richardson extrapolation, (4 D(h/2) - D(h)) / 3, whose error is O(h⁴); against <∇f, v>
// from backward(). A value that is not a scalar is weighted with random numbers first.
#include <parsimony/gradcheck.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

constexpr int directions = 3;
/// Step relative to the input's norm: truncation h⁴ and rounding ε/h both stay far below 1e-6.
constexpr double step = 2e-4;

using Tensors = std::vector<Tensor<double>>;

std::vector<Var<double>> variables(const Tensors& values, const std::vector<bool>& active) {
  std::vector<Var<double>> out;
  for (std::size_t i = 0; i < values.size(); ++i) out.emplace_back(values[i].clone(), active[i]);
  return out;
}

/// Σ weights (f(x + h v) - f(x - h v)) / 2h. The difference is taken entry by entry: that of two
/// sums would lose digits.
double difference(const GradCheckFunction& f, const Tensors& x, const Tensors& v, double h,
                  const Tensor<double>& weights) {
  const NoGrad no_grad;
  const std::vector<bool> none(x.size(), false);
  Tensors ahead, behind;
  for (std::size_t i = 0; i < x.size(); ++i) {
    ahead.push_back(add(x[i], scale(v[i], h)));
    behind.push_back(sub(x[i], scale(v[i], h)));
  }
  const Tensor<double> y1 = f(variables(ahead, none)).value();
  const Tensor<double> y0 = f(variables(behind, none)).value();
  return dot(sub(y1, y0), weights) / (2 * h);
}

/// Relative error over the directions with only the `active` arguments moving.
double relative_error(const GradCheckFunction& f, const Tensors& inputs,
                      const std::vector<bool>& active, Rng& rng, std::string& message) {
  const std::vector<Var<double>> x = variables(inputs, active);
  const Var<double> y = f(x);
  const Tensor<double> weights = rng.normal<double>(y.shape());
  if (y.requires_grad()) backward(y, weights);  // else the gradients are zero, and compared as such

  double worst = 0;
  for (int k = 0; k < directions; ++k) {
    Tensors v;
    double by_backward = 0;
    double magnitude = 0;  // what <∇f, v> comes to for a random v
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor<double> direction = rng.normal<double>(inputs[i].shape());
      const double norm = frobenius(direction);
      const double size = frobenius(inputs[i]);
      // As long as the argument itself, so that the step is relative to it; 0 if it stands still.
      const double factor = !active[i] || norm == 0 ? 0.0 : (size > 0 ? size : 1.0) / norm;
      v.push_back(scale(direction, factor));
      if (factor == 0.0 || !x[i].has_grad()) continue;
      by_backward += dot(x[i].grad(), v[i]);
      magnitude = std::hypot(magnitude, frobenius(x[i].grad()) * frobenius(v[i]) /
                                            std::sqrt(static_cast<double>(inputs[i].size())));
    }
    const double by_difference = (4 * difference(f, inputs, v, step / 2, weights) -
                                  difference(f, inputs, v, step, weights)) /
                                 3;
    const double scale_of_both =
        std::max({std::abs(by_difference), std::abs(by_backward), magnitude});
    const double gap = std::abs(by_difference - by_backward);
    const double error = gap == 0 ? 0.0 : gap / scale_of_both;
    if (!(error <= worst)) {  // NaN counts as worse, and stays
      worst = error;
      message = fmt::format("directional derivative {} by differences, {} by backward",
                            by_difference, by_backward);
      if (std::isnan(error)) break;
    }
  }
  return worst;
}

}  // namespace

GradCheckResult gradcheck(const GradCheckFunction& f, const std::vector<Tensor<double>>& inputs,
                          Rng rng, double tolerance) {
  GradCheckResult result;
  result.ok = true;
  // Each argument alone, then (if there are several) all of them.
  const std::size_t rounds = inputs.size() > 1 ? inputs.size() + 1 : inputs.size();
  for (std::size_t round = 0; round < rounds; ++round) {
    const bool all = round == inputs.size();
    std::vector<bool> active(inputs.size(), all);
    if (!all) active[round] = true;
    std::string message;
    const double error = relative_error(f, inputs, active, rng, message);
    if (!(error <= tolerance)) result.ok = false;
    if (!(error <= result.worst) && !std::isnan(result.worst)) {
      result.worst = error;
      result.message = fmt::format("{}: {} (relative error {:.3g}, tolerance {:.3g})",
                                   all ? "all arguments" : fmt::format("argument {}", round),
                                   message, error, tolerance);
    }
  }
  return result;
}

}  // namespace parsimony
