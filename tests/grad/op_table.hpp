// The gradient table: each differentiable op is a row, with inputs that keep clear of its kinks, in
// double and in float.
#pragma once

#include <parsimony/ops.hpp>
#include <parsimony/rng.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony::testing {

/// How an input is drawn, before the table's scale is multiplied in.
enum class Draw {
  normal,
  nonzero,   // ±[0.5, 1.5]: clear of 0
  positive,  // [0.5, 1.5]
  distinct   // a permutation with gaps of 0.25 around 0: clear of ties
};

struct Input {
  Shape shape;
  Draw draw = Draw::normal;
};

struct OpRow {
  std::string name;
  std::vector<Input> inputs;
  std::function<Var<double>(const std::vector<Var<double>>&)> f64;
  std::function<Var<float>(const std::vector<Var<float>>&)> f32;

  std::vector<Tensor<double>> draw(Rng rng, double scale) const;
};

/// Every row. Built once.
const std::vector<OpRow>& op_table();

}  // namespace parsimony::testing
