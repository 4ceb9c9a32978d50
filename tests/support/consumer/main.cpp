// A program outside the project that uses the installed library: two gradients that are known by
// hand, one through an op of its own. Exits 1 if a number is wrong.
#include <parsimony/parsimony.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "consumer.hpp"

namespace {

int wrong = 0;

void expect(const char* what, const parsimony::Tensor<double>& got,
            const std::vector<double>& expected) {
  bool same = static_cast<std::size_t>(got.size()) == expected.size();
  for (std::size_t i = 0; same && i < expected.size(); ++i) {
    same = std::abs(got.data()[i] - expected[i]) < 1e-12;
  }
  if (!same) {
    std::printf("%s: got %s\n", what, got.str().c_str());
    ++wrong;
  }
}

}  // namespace

int main() {
  using parsimony::Tensor;
  using parsimony::Var;

  // 0.5 ||W x - t||²: the residual is (3, 1), so dW = r xᵀ and dx = Wᵀ r.
  const Var<double> w(Tensor<double>({2, 2}, {1, 2, 3, 4}), true);
  const Var<double> x(Tensor<double>({2, 1}, {1, -1}), true);
  const Tensor<double> target({2, 1}, {-4, -2});
  const Var<double> loss = parsimony::half_squared_error(parsimony::matmul(w, x), target);
  parsimony::backward(loss);
  expect("loss", loss.value(), {5});
  expect("dW", w.grad(), {3, -3, 1, -1});
  expect("dx", x.grad(), {6, 10});

  // sum(y³ + y): 3 y² + 1.
  const Var<double> y(Tensor<double>({1, 3}, {1, -2, 0.5}), true);
  parsimony::backward(parsimony::sum(cube(y) + y));
  expect("dy", y.grad(), {4, 13, 1.75});

  if (entry_through_xtensor(w.value(), 1, 0) != 3) {
    std::printf("entry_through_xtensor: got something else than 3\n");
    ++wrong;
  }
  try {
    parsimony::matmul(w.value(), target.reshape({1, 2}));
    std::printf("matmul: took (2, 2) and (1, 2)\n");
    ++wrong;
  } catch (const parsimony::ShapeError&) {
    // An error type crosses the library's border.
  }
  return wrong == 0 ? 0 : 1;
}
