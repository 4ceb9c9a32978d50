// A differentiable operation defined outside the library, and the check of its gradient.
#include <parsimony/gradcheck.hpp>
#include <parsimony/ops.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

using namespace parsimony;

// softplus(x) = log(1 + exp(x)), whose slope is 1 / (1 + exp(-x)): the value, then what flows back.
template <class T>
Var<T> softplus(const Var<T>& x) {
  Tensor<T> y(x.shape());
  std::transform(x.value().begin(), x.value().end(), y.mutable_data(),
                 [](T v) { return std::max(v, T(0)) + std::log1p(std::exp(-std::abs(v))); });
  return make_op("softplus", y, {x}, [x = x.value()](const auto&, const Tensor<T>& dy, auto& d) {
    d.add(0, [&] {  // not called if x needs no gradient
      Tensor<T> dx(x.shape());
      std::transform(x.begin(), x.end(), dy.begin(), dx.mutable_data(),
                     [](T v, T g) { return g / (1 + std::exp(-v)); });
      return dx;
    });
  });
}

int main() {
  Rng rng(1);
  const auto f = [](const std::vector<Var<double>>& x) { return softplus(matmul(x[0], x[1])); };
  const auto result =
      gradcheck(f, {rng.normal<double>({3, 4}), rng.normal<double>({4, 2})}, rng.split("check"));
  std::printf("softplus: %s, relative error %.1e\n", result.ok ? "gradient agrees" : "WRONG",
              result.worst);
  if (!result.ok) std::printf("%s\n", result.message.c_str());
  return result.ok ? 0 : 1;
}
