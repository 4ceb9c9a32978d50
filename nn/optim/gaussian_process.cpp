// Gaussian processes with a Matérn-5/2 kernel, and L-BFGS in a box for their parameters.
#include <parsimony/error.hpp>
#include <parsimony/gaussian_process.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace parsimony {

namespace {

constexpr double pi = 3.14159265358979323846;

/// Bounds of the logarithms of c, ℓ.., noise.
void log_bounds(std::size_t variables, std::vector<double>& low, std::vector<double>& high) {
  low.assign(variables + 2, std::log(0.00117));
  high.assign(variables + 2, std::log(1.0897));
  low.front() = -10;
  high.front() = 2;
  low.back() = -25;
  high.back() = 2;
}

std::vector<double> logs_of(const GpParameters& p) {
  std::vector<double> logs{std::log(p.variance)};
  for (const double length : p.lengths) logs.push_back(std::log(length));
  logs.push_back(std::log(p.noise));
  return logs;
}

GpParameters from_logs(const std::vector<double>& logs) {
  GpParameters p;
  p.variance = std::exp(logs.front());
  for (std::size_t i = 1; i + 1 < logs.size(); ++i) p.lengths.push_back(std::exp(logs[i]));
  p.noise = std::exp(logs.back());
  return p;
}

/// L y = b in place, for k right-hand sides in the rows of b (k, n).
void forward_substitute(const Tensor<double>& l, double* b, index_t k) {
  const index_t n = l.dim(0);
  for (index_t r = 0; r < k; ++r) {
    double* y = b + r * n;
    for (index_t i = 0; i < n; ++i) {
      const double* row = l.data() + i * n;
      double sum = y[i];
      for (index_t j = 0; j < i; ++j) sum -= row[j] * y[j];
      y[i] = sum / row[i];
    }
  }
}

/// Lᵀ x = y in place.
void back_substitute(const Tensor<double>& l, double* y) {
  const index_t n = l.dim(0);
  for (index_t i = n - 1; i >= 0; --i) {
    y[i] /= l.data()[i * n + i];
    for (index_t j = 0; j < i; ++j) y[j] -= l.data()[i * n + j] * y[i];
  }
}

/// r² and exp(-√5 r) (1 + √5 r + 5/3 r²), exp(-√5 r) 5/3 (1 + √5 r).
struct Matern {
  double value, slope;
};
Matern matern(double squared) {
  const double s = std::sqrt(5.0 * squared);
  const double e = std::exp(-s);
  return {(1.0 + s + s * s / 3.0) * e, 5.0 / 3.0 * (1.0 + s) * e};
}

}  // namespace

double GaussianProcess::kernel(const double* a, const double* b) const {
  double squared = 0;
  for (std::size_t i = 0; i < parameters_.lengths.size(); ++i) {
    const double d = (a[i] - b[i]) / parameters_.lengths[i];
    squared += d * d;
  }
  return parameters_.variance * matern(squared).value;
}

GaussianProcess::GaussianProcess(const Tensor<double>& points, const Tensor<double>& values,
                                 const GpParameters& parameters)
    : points_(points), values_(values), parameters_(parameters) {
  const auto d = static_cast<index_t>(parameters.lengths.size());
  if (points.rank() != 2 || points.dim(0) < 1 || points.dim(1) != d ||
      values.shape() != Shape{points.dim(0)}) {
    throw ShapeError(fmt::format(
        "gaussian process: expected points (n, {}) and values (n), n >= 1; got {} and {}", d,
        points.shape().str(), values.shape().str()));
  }
  if (!all_finite(points) || !all_finite(values)) {
    throw NumericalError("gaussian process: expected finite points and values");
  }
  const index_t n = points.dim(0);
  Tensor<double> k({n, n});
  double* entries = k.mutable_data();
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j <= i; ++j) {
      const double value = kernel(points.data() + i * d, points.data() + j * d);
      entries[i * n + j] = value;
      entries[j * n + i] = value;
    }
    entries[i * n + i] += parameters.noise;
  }
  // Equal points: the least jitter, in steps of 100, that makes the matrix positive definite. A
  // first one nearer to the rounding error would leave weights of few digits.
  constexpr double first = 1e-10;
  for (double next = first * parameters.variance;; next *= 100) {
    try {
      factor_ = cholesky(k);
      break;
    } catch (const NumericalError&) {
      if (next > parameters.variance) throw;
    }
    double* diagonal = k.mutable_data();
    for (index_t i = 0; i < n; ++i) diagonal[i * n + i] += next - jitter_;
    jitter_ = next;
  }
  weights_ = values.clone();
  double* w = weights_.mutable_data();
  forward_substitute(factor_, w, 1);
  double fit = 0;
  double log_determinant = 0;
  for (index_t i = 0; i < n; ++i) {
    fit += w[i] * w[i];
    log_determinant += 2.0 * std::log(factor_.data()[i * n + i]);
  }
  back_substitute(factor_, w);
  log_likelihood_ = -0.5 * (fit + log_determinant + static_cast<double>(n) * std::log(2.0 * pi));
}

std::vector<GaussianProcess::Prediction> GaussianProcess::predict(const Tensor<double>& at) const {
  const index_t n = points_.dim(0);
  const index_t d = points_.dim(1);
  if (at.rank() != 2 || at.dim(1) != d) {
    throw ShapeError(
        fmt::format("gaussian process: expected points (k, {}); got {}", d, at.shape().str()));
  }
  std::vector<Prediction> out(static_cast<std::size_t>(at.dim(0)));
  std::vector<double> k(static_cast<std::size_t>(n));
  for (index_t p = 0; p < at.dim(0); ++p) {
    Prediction& result = out[static_cast<std::size_t>(p)];
    for (index_t i = 0; i < n; ++i) {
      const double value = kernel(at.data() + p * d, points_.data() + i * d);
      k[static_cast<std::size_t>(i)] = value;
      result.mean += value * weights_.data()[i];
    }
    forward_substitute(factor_, k.data(), 1);
    result.variance = parameters_.variance;
    for (const double v : k) result.variance -= v * v;
    result.variance = std::max(0.0, result.variance);
  }
  return out;
}

// d log p / dθ = ½ tr((w wᵀ - K⁻¹) dK/dθ), w = K⁻¹ values (Rasmussen & Williams, equation 5.9).
GaussianProcess::Posterior GaussianProcess::log_posterior() const {
  const index_t n = points_.dim(0);
  const index_t d = points_.dim(1);
  Tensor<double> inverse = Tensor<double>::eye(n);
  double* rows = inverse.mutable_data();
  forward_substitute(factor_, rows, n);
  for (index_t r = 0; r < n; ++r) back_substitute(factor_, rows + r * n);
  Posterior out;
  out.gradient.assign(static_cast<std::size_t>(d) + 2, 0.0);
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j) {
      const double* a = points_.data() + i * d;
      const double* b = points_.data() + j * d;
      const double q = weights_.data()[i] * weights_.data()[j] - rows[i * n + j];
      double squared = 0;
      for (index_t v = 0; v < d; ++v) {
        const double step = (a[v] - b[v]) / parameters_.lengths[static_cast<std::size_t>(v)];
        squared += step * step;
      }
      const Matern m = matern(squared);
      out.gradient[0] += 0.5 * q * parameters_.variance * m.value;
      for (index_t v = 0; v < d; ++v) {
        const double step = (a[v] - b[v]) / parameters_.lengths[static_cast<std::size_t>(v)];
        out.gradient[static_cast<std::size_t>(v) + 1] +=
            0.5 * q * parameters_.variance * m.slope * step * step;
      }
      if (i == j) out.gradient.back() += 0.5 * q * parameters_.noise;
    }
  }
  // The priors' densities of c and of the noise, at the logarithms u.
  const double u = std::log(parameters_.variance);
  const double horseshoe = 3.0 * 0.01 / (parameters_.noise * parameters_.noise);
  const double inner = std::log1p(horseshoe);
  out.value = log_likelihood_ - u - 0.5 * u * u + std::log(inner + 1e-16);
  out.gradient.front() += -1.0 - u;
  out.gradient.back() += -2.0 * horseshoe / (1.0 + horseshoe) / (inner + 1e-16);
  return out;
}

GaussianProcess GaussianProcess::fit(const Tensor<double>& points, const Tensor<double>& values,
                                     const GpParameters& start, index_t restarts, Rng rng) {
  std::vector<double> low;
  std::vector<double> high;
  log_bounds(start.lengths.size(), low, high);
  const auto loss = [&](const std::vector<double>& logs, std::vector<double>& gradient) {
    const Posterior p = GaussianProcess(points, values, from_logs(logs)).log_posterior();
    gradient = p.gradient;
    for (double& g : gradient) g = -g;
    return -p.value;
  };
  std::vector<double> best;
  double least = std::numeric_limits<double>::infinity();
  for (index_t r = 0; r <= restarts; ++r) {
    std::vector<double> logs = logs_of(start);
    if (r > 0) {
      for (std::size_t i = 0; i < logs.size(); ++i) {
        logs[i] = low[i] + (high[i] - low[i]) * rng.uniform();
      }
    }
    for (std::size_t i = 0; i < logs.size(); ++i) logs[i] = std::clamp(logs[i], low[i], high[i]);
    const std::vector<double> found = minimize_in_box(loss, logs, low, high);
    std::vector<double> unused;
    const double value = loss(found, unused);
    if (best.empty() || value < least) {
      least = value;
      best = found;
    }
  }
  return GaussianProcess(points, values, from_logs(best));
}

double expected_improvement(double best, double mean, double variance) {
  if (!(variance > 0)) return 0;
  const double s = std::sqrt(variance);
  const double z = (best - mean) / s;
  const double density = std::exp(-0.5 * z * z) / std::sqrt(2.0 * pi);
  const double below = 0.5 * std::erfc(-z / std::sqrt(2.0));
  return std::max(0.0, (best - mean) * below + s * density);
}

namespace {

using Vector = std::vector<double>;

double inner(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// -H g by the two loops of L-BFGS (Nocedal 1980).
Vector quasi_newton(const std::deque<std::pair<Vector, Vector>>& pairs, Vector g) {
  Vector alphas;
  for (auto p = pairs.rbegin(); p != pairs.rend(); ++p) {
    alphas.push_back(inner(p->first, g) / inner(p->first, p->second));
    for (std::size_t i = 0; i < g.size(); ++i) g[i] -= alphas.back() * p->second[i];
  }
  if (!pairs.empty()) {
    const auto& [s, y] = pairs.back();
    const double scale = inner(s, y) / inner(y, y);
    for (double& x : g) x *= scale;
  }
  for (const auto& [s, y] : pairs) {
    const double beta = inner(y, g) / inner(s, y);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] += (alphas.back() - beta) * s[i];
    alphas.pop_back();
  }
  for (double& x : g) x = -x;
  return g;
}

}  // namespace

std::vector<double> minimize_in_box(
    const std::function<double(const std::vector<double>&, std::vector<double>&)>& f,
    std::vector<double> x, const std::vector<double>& low, const std::vector<double>& high) {
  constexpr int iterations = 100;
  constexpr std::size_t memory = 8;
  constexpr double tolerance = 1e-6;
  const std::size_t n = x.size();
  Vector g(n);
  double value = f(x, g);
  std::deque<std::pair<Vector, Vector>> pairs;
  for (int it = 0; it < iterations; ++it) {
    // Variables at a bound that the descent would cross stay there.
    std::vector<bool> held(n);
    Vector free = g;
    double largest = 0;
    for (std::size_t i = 0; i < n; ++i) {
      held[i] = (x[i] <= low[i] && g[i] > 0) || (x[i] >= high[i] && g[i] < 0);
      if (held[i]) free[i] = 0;
      largest = std::max(largest, std::abs(free[i]));
    }
    if (!(largest > tolerance)) break;
    Vector step = quasi_newton(pairs, free);
    for (std::size_t i = 0; i < n; ++i) step[i] = held[i] ? 0 : step[i];
    if (!(inner(step, free) < 0)) {
      pairs.clear();
      for (std::size_t i = 0; i < n; ++i) step[i] = -free[i];
    }
    bool descended = false;
    Vector next(n);
    Vector next_g(n);
    double length = pairs.empty() ? std::min(1.0, 1.0 / largest) : 1.0;
    for (int halving = 0; halving < 30 && !descended; ++halving, length *= 0.5) {
      double predicted = 0;
      for (std::size_t i = 0; i < n; ++i) {
        next[i] = std::clamp(x[i] + length * step[i], low[i], high[i]);
        predicted += g[i] * (next[i] - x[i]);
      }
      const double there = f(next, next_g);
      if (!(there <= value + 1e-4 * predicted) || !(predicted < 0)) continue;
      descended = true;
      Vector s(n);
      Vector y(n);
      for (std::size_t i = 0; i < n; ++i) {
        s[i] = next[i] - x[i];
        y[i] = next_g[i] - g[i];
      }
      if (inner(s, y) > 1e-10 * inner(y, y)) {
        pairs.emplace_back(s, y);
        if (pairs.size() > memory) pairs.pop_front();
      }
      value = there;
      x = next;
      g = next_g;
    }
    if (!descended) {
      if (pairs.empty()) break;
      pairs.clear();  // once more, along the gradient
    }
  }
  return x;
}

}  // namespace parsimony
