// Values and gradients against PyTorch's, read from tests/fixtures/ops.safetensors (see README.md
// there). A case that is missing in the file, or has no function here, fails.
#include <parsimony/ops.hpp>
#include <parsimony/safetensors.hpp>

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "support/catch.hpp"

using namespace parsimony;

namespace {

using Inputs = std::vector<Var<double>>;

struct Parity {
  std::function<Var<double>(const Inputs&, const TensorMap&)> f;
  double tolerance = 1e-14;  // relative to the norm
};

/// Input 1 where it holds integers.
Tensor<std::int64_t> integers(const TensorMap& file, const std::string& op) {
  return file.get<std::int64_t>(op + ".in1");
}

const std::map<std::string, Parity>& cases() {
  using X = const Inputs&;
  using M = const TensorMap&;
  static const std::map<std::string, Parity> table = {
      {"add", {[](X x, M) { return add(x[0], x[1]); }}},
      {"add_both_broadcast", {[](X x, M) { return add(x[0], x[1]); }}},
      {"mul", {[](X x, M) { return mul(x[0], x[1]); }}},
      {"div", {[](X x, M) { return div(x[0], x[1]); }}},
      {"matmul", {[](X x, M) { return matmul(x[0], x[1]); }}},
      {"matmul_batched", {[](X x, M) { return matmul(x[0], x[1]); }}},
      {"matmul_batch_by_matrix", {[](X x, M) { return matmul(x[0], x[1]); }}},
      {"matmul_trans_a", {[](X x, M) { return matmul(x[0], x[1], true); }}},
      {"matmul_trans_b", {[](X x, M) { return matmul(x[0], x[1], false, true); }}},
      {"matmul_trans_ab", {[](X x, M) { return matmul(x[0], x[1], true, true); }}},
      {"softmax", {[](X x, M) { return softmax(x[0]); }}},
      // Rows near a corner: the gradient is a small difference of rounded numbers.
      {"softmax_large", {[](X x, M) { return softmax(x[0]); }, 1e-12}},
      {"log_softmax", {[](X x, M) { return log_softmax(x[0]); }}},
      {"layer_norm", {[](X x, M) { return layer_norm(x[0], x[1], x[2], 1e-5); }}},
      {"rms_norm", {[](X x, M) { return rms_norm(x[0], x[1], 1e-6); }}},
      {"gelu", {[](X x, M) { return gelu(x[0]); }}},
      {"gelu_tanh", {[](X x, M) { return gelu_tanh(x[0]); }}},
      {"tanh", {[](X x, M) { return tanh(x[0]); }}},
      {"exp", {[](X x, M) { return exp(x[0]); }}},
      {"logsumexp", {[](X x, M) {
         return logsumexp(transpose(x[0], {0, 2, 1}));
       }}},
      {"mean", {[](X x, M) { return mean(x[0], {1}); }}},
      {"sum_keepdim", {[](X x, M) { return sum(x[0], {1}, true); }}},
      {"embedding", {[](X x, M m) { return gather_rows(x[0], integers(m, "embedding")); }}},
      {"concat", {[](X x, M) { return concat(x, 1); }}},
      {"slice", {[](X x, M) { return slice(slice(slice(x[0], 0, 0, 2), 1, 1, 3), 2, 2, 5); }}},
      {"cross_entropy",
       {[](X x, M m) { return cross_entropy(x[0], integers(m, "cross_entropy")); }}},
      // The fixture differentiates both sides; mean_squared_error takes its target as a constant.
      {"mse", {[](X x, M) {
         return mean_squared_error(sub(x[0], x[1]), Tensor<double>::zeros({4, 3}));
       }}},
      {"max", {[](X x, M) { return max(x[0], 1); }}},
  };
  return table;
}

double relative(const Tensor<double>& ours, const Tensor<double>& theirs) {
  const double norm = frobenius(theirs);
  return frobenius(sub(ours, theirs)) / (norm > 0 ? norm : 1.0);
}

}  // namespace

TEST_CASE("ops agree with PyTorch", "[grad][parity]") {
  const TensorMap file = load_safetensors(PARSIMONY_SOURCE_ROOT "/tests/fixtures/ops.safetensors");
  std::set<std::string> names;
  for (const std::string& name : file.names()) names.insert(name.substr(0, name.find('.')));
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(cases().count(name) == 1);
  }
  for (const auto& [name, parity] : cases()) {
    CAPTURE(name);
    REQUIRE(names.count(name) == 1);
    Inputs x;
    for (int i = 0; file.contains(name + ".in" + std::to_string(i)); ++i) {
      const std::string input = name + ".in" + std::to_string(i);
      if (file.dtype(input) == "F64") x.emplace_back(file.get<double>(input), true);
    }
    const Var<double> y = parity.f(x, file);
    const auto& expected = file.get<double>(name + ".out");
    REQUIRE(y.shape() == expected.shape());
    CHECK(relative(y.value(), expected) < parity.tolerance);
    backward(y, file.get<double>(name + ".dout"));
    for (std::size_t i = 0; i < x.size(); ++i) {
      CAPTURE(i);
      const auto& gradient = file.get<double>(name + ".din" + std::to_string(i));
      REQUIRE(x[i].grad().shape() == gradient.shape());
      CHECK(relative(x[i].grad(), gradient) < parity.tolerance);
    }
  }
}

TEST_CASE("the loss of the theory is half the entries times the mean", "[grad]") {
  const TensorMap file = load_safetensors(PARSIMONY_SOURCE_ROOT "/tests/fixtures/ops.safetensors");
  const Var<double> x(file.get<double>("mse.in0"), true);
  const auto& target = file.get<double>("mse.in1");
  CHECK(mean_squared_error(x, target).item() ==
        Approx(file.get<double>("mse.out").item()).epsilon(1e-14));
  CHECK(half_squared_error(x, target).item() ==
        Approx(0.5 * 12 * file.get<double>("mse.out").item()).epsilon(1e-14));
}
