// Numbers that are none, and how far apart tensors are, for tests.
#pragma once

#include <parsimony/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/catch.hpp"

namespace parsimony::testing {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

/// Over all entries; infinite where one of a pair is not finite.
template <class T, class U>
double largest_difference(const Tensor<T>& a, const Tensor<U>& b) {
  REQUIRE(a.shape() == b.shape());
  double most = 0;
  for (index_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    most = std::isfinite(d) ? std::max(most, d) : infinity;
  }
  return most;
}

}  // namespace parsimony::testing
