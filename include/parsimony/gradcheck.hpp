// Checks an op's gradient against finite differences, in double precision.
//
// For each argument alone and all together: the directional derivative along a random direction,
// by central differences with Richardson extrapolation, against backward(); the difference is
// relative to the norms of the two, never absolute, so a gradient that is missing at scale 1e-3
// fails.
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/variable.hpp>

#include <functional>
#include <string>
#include <vector>

namespace parsimony {

struct GradCheckResult {
  bool ok = false;
  /// Largest relative error over the arguments.
  double worst = 0;
  /// Which argument, and both derivatives.
  std::string message;
};

using GradCheckFunction = std::function<Var<double>(const std::vector<Var<double>>&)>;

/// @param tolerance relative; 1e-6 suits smooth ops at any input scale.
GradCheckResult gradcheck(const GradCheckFunction& f, const std::vector<Tensor<double>>& inputs,
                          Rng rng, double tolerance = 1e-6);

}  // namespace parsimony
