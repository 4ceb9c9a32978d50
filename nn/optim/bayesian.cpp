// Bayesian optimisation over the feasible part of a box.
#include <parsimony/error.hpp>
#include <parsimony/gaussian_process.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <fmt/format.h>

namespace parsimony {

namespace {

using Point = std::vector<double>;

/// The problem on [0, 1]^d.
class Unit {
 public:
  explicit Unit(const BoxProblem& p) : p_(p) {
    if (p.low.empty() || p.low.size() != p.high.size() || !p.value) {
      throw ValueError("minimize: expected as many lower bounds as upper ones, and a value");
    }
    for (std::size_t i = 0; i < p.low.size(); ++i) {
      if (!(p.low[i] < p.high[i])) {
        throw ValueError(fmt::format("minimize: variable {}: expected low < high; got {} and {}", i,
                                     p.low[i], p.high[i]));
      }
    }
  }
  std::size_t size() const { return p_.low.size(); }
  Point outside(const Point& u) const {
    Point x(u.size());
    for (std::size_t i = 0; i < u.size(); ++i) {
      x[i] = p_.low[i] + (p_.high[i] - p_.low[i]) * u[i];
    }
    return x;
  }
  Point inside(const Point& x) const {
    Point u(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      u[i] = std::clamp((x[i] - p_.low[i]) / (p_.high[i] - p_.low[i]), 0.0, 1.0);
    }
    return u;
  }
  bool feasible(const Point& u) const { return !p_.feasible || p_.feasible(outside(u)); }
  Point draw(Rng& rng) const {
    if (p_.draw) return inside(p_.draw(rng));
    constexpr int most = 100000;
    Point u(size());
    for (int i = 0; i < most; ++i) {
      for (double& x : u) x = rng.uniform();
      if (feasible(u)) return u;
    }
    throw ValueError(fmt::format("minimize: no feasible point in {} random ones", most));
  }
  std::vector<Point> start() const {
    std::vector<Point> points;
    for (const Point& x : p_.start) {
      bool ok = x.size() == size();
      for (std::size_t i = 0; ok && i < size(); ++i) ok = x[i] >= p_.low[i] && x[i] <= p_.high[i];
      if (!ok || (p_.feasible && !p_.feasible(x))) {
        throw ValueError(
            fmt::format("minimize: expected a feasible start; got ({})", fmt::join(x, ", ")));
      }
      points.push_back(inside(x));
    }
    return points;
  }

 private:
  const BoxProblem& p_;
};

double squared_distance(const Point& a, const Point& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

/// The one of 100 random points whose nearest neighbour is farthest.
Point far_from(const std::vector<Point>& others, const Unit& unit, Rng& rng) {
  Point best;
  double farthest = -1;
  for (int i = 0; i < 100; ++i) {
    const Point u = unit.draw(rng);
    double nearest = std::numeric_limits<double>::infinity();
    for (const Point& other : others) nearest = std::min(nearest, squared_distance(u, other));
    if (nearest > farthest) {
      farthest = nearest;
      best = u;
    }
  }
  return best;
}

Tensor<double> as_rows(const std::vector<Point>& points) {
  Tensor<double> out({static_cast<index_t>(points.size()), static_cast<index_t>(points[0].size())});
  double* to = out.mutable_data();
  for (const Point& p : points) to = std::copy(p.begin(), p.end(), to);
  return out;
}

/// What was evaluated, the values standardised; those that are not finite as the worst.
Tensor<double> standardised(const std::vector<double>& values) {
  double worst = -std::numeric_limits<double>::infinity();
  for (const double v : values) {
    if (std::isfinite(v)) worst = std::max(worst, v);
  }
  Tensor<double> out({static_cast<index_t>(values.size())});
  double* y = out.mutable_data();
  for (std::size_t i = 0; i < values.size(); ++i) {
    y[i] = std::isfinite(values[i]) ? values[i] : (std::isfinite(worst) ? worst : 0.0);
  }
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(out.begin(), out.end(), 0.0) / n;
  double squares = 0;
  for (const double v : out) squares += (v - mean) * (v - mean);
  const double deviation = squares > 0 ? std::sqrt(squares / n) : 1.0;
  for (index_t i = 0; i < out.size(); ++i) y[i] = (y[i] - mean) / deviation;
  return out;
}

/// A feasible point that differs from u in one variable, or u if none is found in 20 draws.
Point neighbour(const Point& u, const Unit& unit, Rng& rng) {
  constexpr double spread = 0.2;
  for (int i = 0; i < 20; ++i) {
    Point v = u;
    const auto at = static_cast<std::size_t>(rng.below(static_cast<index_t>(u.size())));
    v[at] = std::clamp(v[at] + spread * rng.normal(), 0.0, 1.0);
    if (v[at] != u[at] && unit.feasible(v)) return v;
  }
  return u;
}

/// The point of largest expected improvement that was not evaluated.
Point propose(const GaussianProcess& gp, const std::vector<Point>& seen, double best,
              const Unit& unit, const BayesOptions& o, Rng& rng) {
  const auto improvement = [&](const std::vector<Point>& points) {
    std::vector<double> out;
    for (const auto& p : gp.predict(as_rows(points))) {
      out.push_back(expected_improvement(best, p.mean, p.variance));
    }
    return out;
  };
  std::vector<Point> candidates;
  // Local searches from the evaluated points with the most to expect: the first neighbour that is
  // better is taken, until none of a few is.
  const std::vector<double> of_seen = improvement(seen);
  std::vector<std::size_t> order(seen.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return of_seen[a] > of_seen[b]; });
  constexpr std::size_t searches = 10;
  constexpr int tries = 16;
  constexpr int moves = 60;
  for (std::size_t s = 0; s < std::min(searches, order.size()); ++s) {
    Point at = seen[order[s]];
    double here = of_seen[order[s]];
    for (int move = 0; move < moves; ++move) {
      std::vector<Point> around;
      for (int i = 0; i < tries; ++i) around.push_back(neighbour(at, unit, rng));
      const std::vector<double> values = improvement(around);
      const auto better =
          std::find_if(values.begin(), values.end(), [&](double v) { return v > here; });
      if (better == values.end()) break;
      here = *better;
      at = around[static_cast<std::size_t>(better - values.begin())];
    }
    candidates.push_back(at);
  }
  while (static_cast<index_t>(candidates.size()) < o.candidates) {
    candidates.push_back(unit.draw(rng));
  }
  const std::vector<double> values = improvement(candidates);
  std::size_t chosen = candidates.size();
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (chosen < candidates.size() && values[i] <= values[chosen]) continue;
    if (std::find(seen.begin(), seen.end(), candidates[i]) != seen.end()) continue;
    chosen = i;
  }
  return chosen < candidates.size() ? candidates[chosen] : unit.draw(rng);
}

/// Evaluates points and keeps the account.
class Account {
 public:
  Account(const BoxProblem& problem, const Unit& unit,
          std::function<void(const Evaluation&)> observe)
      : problem_(problem), unit_(unit), observe_(std::move(observe)) {}
  void evaluate(const Point& u) {
    const Point x = unit_.outside(u);
    const Evaluation e{x, problem_.value(x)};
    points.push_back(u);
    values.push_back(e.value);
    result.history.push_back(e);
    const double least = result.history[result.best].value;
    if (e.value < least || !std::isfinite(least)) result.best = result.history.size() - 1;
    if (observe_) observe_(e);
  }
  std::vector<Point> points;
  std::vector<double> values;
  BayesResult result;

 private:
  const BoxProblem& problem_;
  const Unit& unit_;
  std::function<void(const Evaluation&)> observe_;
};

}  // namespace

BayesResult bayes_minimize(const BoxProblem& problem, const BayesOptions& o, const Rng& rng,
                           const std::function<void(const Evaluation&)>& observe) {
  const Unit unit(problem);
  if (o.evaluations < 1 || o.initial < 1 || o.candidates < 1 || o.restarts < 0 ||
      !(o.random_share >= 0 && o.random_share <= 1)) {
    throw ValueError(
        "minimize: expected evaluations, initial points and candidates of at least 1, and a share "
        "of "
        "random points in [0, 1]");
  }
  Account account(problem, unit, observe);
  const std::vector<Point> start = unit.start();
  GpParameters parameters;
  parameters.lengths.assign(unit.size(), 0.9);
  for (index_t step = 0; step < o.evaluations; ++step) {
    Rng draws = rng.split(static_cast<std::uint64_t>(step));
    if (step < static_cast<index_t>(start.size())) {
      account.evaluate(start[static_cast<std::size_t>(step)]);
    } else if (step < o.initial) {
      account.evaluate(account.points.empty() ? unit.draw(draws)
                                              : far_from(account.points, unit, draws));
    } else if (draws.uniform() < o.random_share) {
      account.evaluate(unit.draw(draws));
    } else {
      const Tensor<double> y = standardised(account.values);
      const GaussianProcess gp = GaussianProcess::fit(as_rows(account.points), y, parameters,
                                                      o.restarts, draws.split("restarts"));
      parameters = gp.parameters();
      const double best = *std::min_element(y.begin(), y.end());
      account.evaluate(propose(gp, account.points, best, unit, o, draws));
    }
  }
  return account.result;
}

BayesResult random_minimize(const BoxProblem& problem, index_t evaluations, const Rng& rng) {
  const Unit unit(problem);
  if (evaluations < 1) throw ValueError("minimize: expected at least 1 evaluation");
  Account account(problem, unit, {});
  const std::vector<Point> start = unit.start();
  Rng draws = rng;
  for (index_t step = 0; step < evaluations; ++step) {
    const auto at = static_cast<std::size_t>(step);
    account.evaluate(at < start.size() ? start[at] : unit.draw(draws));
  }
  return account.result;
}

}  // namespace parsimony
