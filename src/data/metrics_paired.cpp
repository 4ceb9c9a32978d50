// Statistics of paired runs. The p value of Student's t is I_x(n/2, 1/2) at x = n / (n + t²), the
// incomplete beta function by its continued fraction (Lentz's evaluation; Abramowitz & Stegun
// 26.5.8), which converges fast on the side where x < (a + 1) / (a + b + 2); the other side is its
// mirror image.
#include <parsimony/error.hpp>
#include <parsimony/metrics.hpp>

#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace parsimony {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// lgamma writes a global sign; the reentrant one does not.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < tiny ? tiny : v; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double value = d;
  // About √max(a, b) terms are needed.
  for (int m = 1; m <= 100000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    value *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    value *= c * d;
    if (std::abs(c * d - 1) < 1e-16) break;
  }
  return value;
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  if (!(a > 0) || !(b > 0) || !(x >= 0 && x <= 1) || std::isinf(a) || std::isinf(b)) {
    throw ValueError(fmt::format(
        "incomplete_beta: expected a, b > 0 and 0 <= x <= 1; got {}, {} and {}", a, b, x));
  }
  if (x == 0 || x == 1) return x;
  const double front = std::exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * std::log(x) +
                                b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_t_two_sided(double t, double degrees) {
  if (std::isnan(t) || !(degrees > 0) || std::isinf(degrees)) {
    throw ValueError(
        fmt::format("student t: expected a number and degrees > 0; got {} and {}", t, degrees));
  }
  if (std::isinf(t) || std::isinf(t * t)) return 0;
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

Spread spread(const std::vector<double>& values) {
  if (values.empty()) throw ValueError("spread: expected at least one value");
  Spread s;
  s.count = static_cast<index_t>(values.size());
  const auto n = static_cast<double>(values.size());
  bool constant = true;
  for (const double v : values) {
    if (!std::isfinite(v))
      throw ValueError(fmt::format("spread: expected finite values; got {}", v));
    s.mean += v / n;
    constant = constant && v == values.front();
  }
  // Rounding must not give a constant a spread, from which t would be huge instead of infinite.
  if (constant) s.mean = values.front();
  double squares = 0;
  for (const double v : values) squares += (v - s.mean) * (v - s.mean);
  s.population_std = std::sqrt(squares / n);
  s.sample_std = values.size() > 1 ? std::sqrt(squares / (n - 1)) : nan;
  return s;
}

PairedStatistics paired_statistics(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) {
    throw ValueError(
        fmt::format("paired statistics: expected as many values on both sides; got {} "
                    "and {}",
                    a.size(), b.size()));
  }
  PairedStatistics s;
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differences.push_back(a[i] - b[i]);
    s.wins += a[i] > b[i] ? 1 : 0;
    s.ties += a[i] == b[i] ? 1 : 0;
    s.losses += a[i] < b[i] ? 1 : 0;
  }
  s.difference = spread(differences);
  if (a.size() == 1) {
    s.t = nan;
    s.p = nan;
    return s;
  }
  const double mean = s.difference.mean;
  if (mean == 0) return s;  // t = 0, p = 1, also where there is no spread
  s.t = mean / (s.difference.sample_std / std::sqrt(static_cast<double>(a.size())));
  s.p = student_t_two_sided(s.t, static_cast<double>(a.size() - 1));
  return s;
}

}  // namespace parsimony
