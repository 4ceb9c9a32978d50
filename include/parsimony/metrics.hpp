// The numbers that text tasks are judged by, and the statistics of paired runs: the same seeds with
// one method and with another. All in double; sums are two-pass.
#pragma once

#include <parsimony/tensor.hpp>

#include <string>
#include <vector>

namespace parsimony {

/// Pearson's correlation, in [-1, 1]. 0 where it is not defined, that is if one side is constant
/// (a model that answers the same to everything has learnt nothing) or there are fewer than two
/// values; NumPy and SciPy say NaN. @throws ValueError if the sizes differ or a value is not
/// finite.
double pearson(const std::vector<double>& x, const std::vector<double>& y);

/// Spearman's correlation: Pearson's of the ranks, ties sharing their mean rank; otherwise as
/// pearson().
double spearman(const std::vector<double>& x, const std::vector<double>& y);

/// Ranks from 1, ties sharing their mean rank. @throws ValueError if a value is not finite.
std::vector<double> average_ranks(const std::vector<double>& x);

/// Share of equal entries; 0 for none. @throws ValueError if the sizes differ.
double accuracy(const std::vector<index_t>& predicted, const std::vector<index_t>& actual);

/// Matthews' correlation of two labellings, with any number of classes (for two: (tp tn - fp fn) /
/// √((tp+fp)(tp+fn)(tn+fp)(tn+fn))); 0 where one side has only one class.
/// @throws ValueError if the sizes differ or a class is negative.
double matthews(const std::vector<index_t>& predicted, const std::vector<index_t>& actual);

/// F1 of the class `positive` against all others: 2 tp / (2 tp + fp + fn); 0 if the class occurs on
/// neither side. @throws ValueError if the sizes differ.
double f1(const std::vector<index_t>& predicted, const std::vector<index_t>& actual,
          index_t positive = 1);

/// Largest entry of each row of (n, k), the first of equal ones: the classes that logits predict.
/// @throws ShapeError unless the rank is 2 and k >= 1; NumericalError on NaN.
template <class T>
std::vector<index_t> argmax_rows(const Tensor<T>& logits);

/// A metric by name: "pearson", "spearman" (on the values), "accuracy", "matthews", "f1" (on
/// classes). @throws ValueError on another name, with the nearest.
double metric(const std::string& name, const std::vector<double>& predicted,
              const std::vector<double>& actual);
/// The names metric() knows.
const std::vector<std::string>& metric_names();

/// Mean and spread of some values.
struct Spread {
  index_t count = 0;
  double mean = 0;
  double population_std = 0;  // √(Σ(x - mean)² / n), NumPy's default
  double sample_std = 0;      // with n - 1; NaN for one value
};
/// @throws ValueError on no values or one that is not finite.
Spread spread(const std::vector<double>& values);

/// Differences a - b of runs that share a seed.
struct PairedStatistics {
  Spread difference;
  index_t wins = 0;    // a > b
  index_t ties = 0;    // a == b
  index_t losses = 0;  // a < b
  double t = 0;        // mean / (sample_std / √n); ±inf if all differences are equal and not 0
  double p = 1;        // two-sided, Student's t with n - 1 degrees of freedom
};
/// If every difference is 0, t = 0 and p = 1; for one pair both are NaN.
/// @throws ValueError if the sizes differ, there are no values, or one is not finite.
PairedStatistics paired_statistics(const std::vector<double>& a, const std::vector<double>& b);

/// P(|T| >= |t|) for Student's t with `degrees` > 0. @throws ValueError on degrees <= 0 or NaN.
double student_t_two_sided(double t, double degrees);

/// The regularised incomplete beta function I_x(a, b), to about 1e-14 for moderate a, b.
/// @throws ValueError unless a, b > 0 and 0 <= x <= 1.
double incomplete_beta(double a, double b, double x);

}  // namespace parsimony
