// Metrics of text tasks, see the header.
#include <parsimony/error.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

template <class T>
void require_same_size(const char* op, const std::vector<T>& x, const std::vector<T>& y) {
  if (x.size() != y.size()) {
    throw ValueError(fmt::format("{}: expected as many values on both sides; got {} and {}", op,
                                 x.size(), y.size()));
  }
}

void require_finite(const char* op, const std::vector<double>& x) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) {
      throw ValueError(fmt::format("{}: expected finite values; got {} at {}", op, x[i], i));
    }
  }
}

double mean_of(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

bool is_constant(const std::vector<double>& x) {
  return std::all_of(x.begin(), x.end(), [&x](double v) { return v == x.front(); });
}

double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  // Said of the values, not of the sums: rounding makes the spread of a constant tiny, not 0.
  if (x.size() < 2 || is_constant(x) || is_constant(y)) return 0;
  const double mean_x = mean_of(x);
  const double mean_y = mean_of(y);
  // Scaled by the largest deviation, so that no square overflows or vanishes.
  double largest_x = 0;
  double largest_y = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    largest_x = std::max(largest_x, std::abs(x[i] - mean_x));
    largest_y = std::max(largest_y, std::abs(y[i] - mean_y));
  }
  if (largest_x == 0 || largest_y == 0) return 0;
  double xx = 0;
  double yy = 0;
  double xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double dx = (x[i] - mean_x) / largest_x;
    const double dy = (y[i] - mean_y) / largest_y;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  return std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0);
}

std::vector<index_t> classes_of(const std::string& metric, const std::vector<double>& values) {
  std::vector<index_t> out;
  out.reserve(values.size());
  for (const double v : values) {
    if (!(std::abs(v) < 1e9) || v != std::floor(v)) {
      throw ValueError(fmt::format("{}: expected class numbers; got {}", metric, v));
    }
    out.push_back(static_cast<index_t>(v));
  }
  return out;
}

}  // namespace

double pearson(const std::vector<double>& x, const std::vector<double>& y) {
  require_same_size("pearson", x, y);
  require_finite("pearson", x);
  require_finite("pearson", y);
  return correlation(x, y);
}

std::vector<double> average_ranks(const std::vector<double>& x) {
  require_finite("ranks", x);
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&x](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  std::vector<double> ranks(x.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t stop = first + 1;
    while (stop < order.size() && x[order[stop]] == x[order[first]]) ++stop;
    // The mean of first + 1 ... stop.
    const double rank = 0.5 * static_cast<double>(first + 1 + stop);
    for (std::size_t i = first; i < stop; ++i) ranks[order[i]] = rank;
    first = stop;
  }
  return ranks;
}

double spearman(const std::vector<double>& x, const std::vector<double>& y) {
  require_same_size("spearman", x, y);
  return correlation(average_ranks(x), average_ranks(y));
}

double accuracy(const std::vector<index_t>& predicted, const std::vector<index_t>& actual) {
  require_same_size("accuracy", predicted, actual);
  if (predicted.empty()) return 0;
  std::size_t hits = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) hits += predicted[i] == actual[i] ? 1 : 0;
  return static_cast<double>(hits) / static_cast<double>(predicted.size());
}

double matthews(const std::vector<index_t>& predicted, const std::vector<index_t>& actual) {
  require_same_size("matthews", predicted, actual);
  // The R_K statistic: a covariance of indicator vectors, from counts alone. With c right of n,
  // p_k predicted and a_k actual of class k:
  // (c n - Σ p_k a_k) / √((n² - Σ p_k²)(n² - Σ a_k²)).
  std::map<index_t, std::pair<double, double>> counts;
  double right = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    if (predicted[i] < 0 || actual[i] < 0) throw ValueError("matthews: expected classes from 0");
    counts[predicted[i]].first += 1;
    counts[actual[i]].second += 1;
    right += predicted[i] == actual[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(predicted.size());
  double both = 0;
  double of_predicted = n * n;
  double of_actual = n * n;
  for (const auto& [unused, count] : counts) {
    both += count.first * count.second;
    of_predicted -= count.first * count.first;
    of_actual -= count.second * count.second;
  }
  if (of_predicted <= 0 || of_actual <= 0) return 0;
  return (right * n - both) / (std::sqrt(of_predicted) * std::sqrt(of_actual));
}

double f1(const std::vector<index_t>& predicted, const std::vector<index_t>& actual,
          index_t positive) {
  require_same_size("f1", predicted, actual);
  double hits = 0;
  double said = 0;
  double there = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const bool p = predicted[i] == positive;
    const bool a = actual[i] == positive;
    hits += p && a ? 1 : 0;
    said += p ? 1 : 0;
    there += a ? 1 : 0;
  }
  return said + there > 0 ? 2 * hits / (said + there) : 0;
}

template <class T>
std::vector<index_t> argmax_rows(const Tensor<T>& logits) {
  if (logits.rank() != 2 || logits.dim(1) < 1) {
    throw ShapeError(
        fmt::format("argmax_rows: expected (n, k) with k >= 1; got {}", logits.shape().str()));
  }
  const index_t k = logits.dim(1);
  std::vector<index_t> out;
  out.reserve(static_cast<std::size_t>(logits.dim(0)));
  for (index_t i = 0; i < logits.dim(0); ++i) {
    const T* row = logits.data() + i * k;
    if (std::any_of(row, row + k, [](T v) { return std::isnan(v); })) {
      throw NumericalError(fmt::format("argmax_rows: NaN in row {}", i));
    }
    out.push_back(std::max_element(row, row + k) - row);
  }
  return out;
}

const std::vector<std::string>& metric_names() {
  static const std::vector<std::string> names = {"pearson", "spearman", "accuracy", "matthews",
                                                 "f1"};
  return names;
}

double metric(const std::string& name, const std::vector<double>& predicted,
              const std::vector<double>& actual) {
  if (name == "pearson") return pearson(predicted, actual);
  if (name == "spearman") return spearman(predicted, actual);
  const bool known = name == "accuracy" || name == "matthews" || name == "f1";
  if (!known) {
    const std::string near = nearest_name(name, metric_names());
    throw ValueError(fmt::format("metric: there is no '{}'{}; there are {}", name,
                                 near.empty() ? "" : fmt::format(", did you mean '{}'?", near),
                                 fmt::join(metric_names(), ", ")));
  }
  const std::vector<index_t> p = classes_of(name, predicted);
  const std::vector<index_t> a = classes_of(name, actual);
  if (name == "accuracy") return accuracy(p, a);
  return name == "f1" ? f1(p, a) : matthews(p, a);
}

template std::vector<index_t> argmax_rows(const Tensor<float>&);
template std::vector<index_t> argmax_rows(const Tensor<double>&);

}  // namespace parsimony
