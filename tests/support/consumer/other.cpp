// The consumer's second translation unit: an op of the user's own, and a view as an xtensor
// expression.
#include <parsimony/parsimony.hpp>
#include <parsimony/xtensor.hpp>

#include "consumer.hpp"

parsimony::Var<double> cube(const parsimony::Var<double>& x) {
  using parsimony::Gradients;
  using parsimony::Tensor;
  const Tensor<double> squared = parsimony::mul(x.value(), x.value());
  return parsimony::make_op(
      "cube", parsimony::mul(squared, x.value()), {x},
      [squared](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
        d.add(0, [&] { return parsimony::scale(parsimony::mul(squared, dy), 3.0); });
      });
}

double entry_through_xtensor(const parsimony::Tensor<double>& x, std::size_t i, std::size_t j) {
  return parsimony::as_xtensor(x)(i, j);
}
