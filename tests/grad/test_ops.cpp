// Every row of the gradient table: finite differences at two input scales, the float twin beside
// the double one, the shapes of the gradients, and that no op declared in ops.hpp lacks a row.
#include <parsimony/gradcheck.hpp>
#include <parsimony/ops.hpp>

#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

#include "grad/op_table.hpp"
#include "support/catch.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

template <class T>
std::vector<Var<T>> leaves(const std::vector<Tensor<double>>& values) {
  std::vector<Var<T>> out;
  for (const auto& value : values) out.emplace_back(cast<T>(value), true);
  return out;
}

/// ||a - b|| relative to ||b||; absolute where b = 0.
double difference(const Tensor<float>& a, const Tensor<double>& b) {
  const double norm = frobenius(b);
  return frobenius(sub(cast<double>(a), b)) / (norm > 0 ? norm : 1.0);
}

/// The identifiers that follow a marker.
std::set<std::string> words_after(const std::string& text, const std::string& marker) {
  std::set<std::string> out;
  for (std::size_t at = text.find(marker); at != std::string::npos;
       at = text.find(marker, at + 1)) {
    std::size_t end = at + marker.size();
    while (end < text.size() && (std::isalnum(text[end]) != 0 || text[end] == '_')) ++end;
    out.insert(text.substr(at + marker.size(), end - at - marker.size()));
  }
  return out;
}

}  // namespace

TEST_CASE("gradients agree with finite differences", "[grad]") {
  for (const double scale : {1.0, 1e-3}) {
    for (const OpRow& row : op_table()) {
      CAPTURE(row.name, scale);
      const auto result = gradcheck(row.f64, row.draw(Rng(7).split(row.name), scale), Rng(11));
      INFO(result.message);
      CHECK(result.ok);
      CHECK(result.worst <= 1e-6);
    }
  }
}

TEST_CASE("gradients have the shapes of their inputs", "[grad]") {
  for (const OpRow& row : op_table()) {
    CAPTURE(row.name);
    const auto x = leaves<double>(row.draw(Rng(3), 1.0));
    const Var<double> y = row.f64(x);
    backward(y, Tensor<double>::ones(y.shape()));
    for (const auto& input : x) {
      REQUIRE(input.has_grad());
      CHECK(input.grad().shape() == input.shape());
      CHECK(all_finite(input.grad()));
    }
  }
}

TEST_CASE("float agrees with double", "[grad]") {
  for (const OpRow& row : op_table()) {
    CAPTURE(row.name);
    const auto inputs = row.draw(Rng(5).split(row.name), 1.0);
    const auto x64 = leaves<double>(inputs);
    const auto x32 = leaves<float>(inputs);
    const Var<double> y64 = row.f64(x64);
    const Var<float> y32 = row.f32(x32);
    REQUIRE(y32.shape() == y64.shape());
    CHECK(difference(y32.value(), y64.value()) < 1e-5);
    const auto upstream = Rng(6).normal<double>(y64.shape());
    backward(y64, upstream);
    backward(y32, cast<float>(upstream));
    for (std::size_t i = 0; i < x64.size(); ++i) {
      CAPTURE(i);
      CHECK(difference(x32[i].grad(), x64[i].grad()) < 2e-5);
    }
  }
}

TEST_CASE("every op that the header declares has a row", "[grad]") {
  std::ifstream header(PARSIMONY_SOURCE_ROOT "/include/parsimony/ops.hpp");
  REQUIRE(header);
  std::stringstream text;
  text << header.rdbuf();
  std::set<std::string> declared = words_after(text.str(), "\nVar<T> ");
  declared.erase("operator");
  REQUIRE(declared.size() >= 40);

  std::set<std::string> tested;
  for (const OpRow& row : op_table()) {
    const std::string dot = to_dot(row.f64(leaves<double>(row.draw(Rng(1), 1.0))));
    tested.merge(words_after(dot, "label=\""));
  }
  for (const std::string& op : declared) {
    CAPTURE(op);
    CHECK(tested.count(op) == 1);
  }
}
