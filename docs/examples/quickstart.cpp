// README: a deep linear model and its compressed form, trained side by side.
#include <parsimony/parsimony.hpp>

#include <cstdio>

using namespace parsimony;

int main() {
  const Rng rng(0);
  const index_t d = 60, r = 3, iterations = 2000;
  const double eps = 0.1, eta = 0.01;
  const auto phi = low_rank_target(d, d, r, rng.split("target"));

  // The full factorisation W₃W₂W₁, and the gradient that its compression starts from.
  DeepLinear<double> full({d, d, d, d}, {eps}, rng.split("init"));
  const auto initial = full.values();
  backward(half_squared_error(full.product(), phi));
  const auto outer = outer_factors(initial, full.factor(1).grad(), r);
  CompressedLinear<double> compressed(outer.left, outer.right, 3, {eps}, false);

  GradientDescent<double> full_step(one_group(full.named_parameters()), eta);
  GradientDescent<double> compressed_step(one_group(compressed.inner_parameters()), eta);
  full_step.zero_grad();
  for (index_t t = 0; t < iterations; ++t) {
    backward(half_squared_error(full.product(), phi));
    full_step.step();
    backward(half_squared_error(compressed.product(), phi));
    compressed_step.step();
  }
  const double gap = frobenius(sub(full.product().value(), compressed.product().value()));
  std::printf("loss %.1e with %lld trained parameters instead of %lld, products differ by %.1e\n",
              half_squared_error(compressed.product(), phi).item(),
              static_cast<long long>(compressed.parameter_count()),
              static_cast<long long>(full.parameter_count()), gap);
  return gap < 1e-2 ? 0 : 1;  // the compression bound: sqrt(d - 2r) eps³
}
