// What the ops compute at the places the gradient table keeps away from (kinks, ties, infinities,
// large and ignored entries), and what they refuse.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/threads.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "grad/op_table.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using namespace parsimony::testing;
using Ids = Tensor<std::int64_t>;

namespace {

Var<double> leaf(const Shape& shape, const std::vector<double>& values) {
  return Var<double>(Tensor<double>(shape, values), true);
}

Var<double> leaf(const Shape& shape) { return Var<double>(Tensor<double>::ones(shape), true); }

/// Gradient of Σ f(x).
std::vector<double> gradient(const Var<double>& x, const Var<double>& y) {
  backward(sum(y));
  return x.grad().to_vector();
}

/// The largest error of f over n places in [first, last], in units in the last place of the value.
template <class T>
double units_off(Var<T> (*f)(const Var<T>&), long double (*exact)(long double), double first,
                 double last, index_t n = 20001) {
  Tensor<T> x({n});
  for (index_t i = 0; i < n; ++i) {
    x.mutable_data()[i] = static_cast<T>(first + (last - first) * static_cast<double>(i) /
                                                     static_cast<double>(n - 1));
  }
  const Tensor<T> y = f(Var<T>(x)).value();
  double most = 0;
  for (index_t i = 0; i < n; ++i) {
    const long double value = exact(x.data()[i]);
    const T size = static_cast<T>(std::abs(value));
    const T unit = std::nextafter(size, std::numeric_limits<T>::infinity()) - size;
    most = std::max(most, static_cast<double>(std::abs(y.data()[i] - value) / unit));
  }
  return most;
}

}  // namespace

TEST_CASE("exp and erf are within two units in the last place", "[grad]") {
  const auto exp_of = [](long double v) { return std::exp(v); };
  const auto erf_of = [](long double v) { return std::erf(v); };
  for (const auto& [first, last] :
       {std::pair{-1.0, 1.0}, {-745, -700}, {-700, 700}, {700, 709.7}}) {
    CAPTURE(first);
    CHECK(units_off<double>(exp, exp_of, first, last) < 2);
  }
  for (const auto& [first, last] : {std::pair{-1.0, 1.0}, {-103, -80}, {-80, 80}, {80, 88.7}}) {
    CAPTURE(first);
    CHECK(units_off<float>(exp, exp_of, first, last) < 2);
  }
  for (const auto& [first, last] : {std::pair{-1e-3, 1e-3}, {-2, 2}, {2, 3}, {-7, 7}}) {
    CAPTURE(first);
    CHECK(units_off<double>(erf, erf_of, first, last) < 2);
    CHECK(units_off<float>(erf, erf_of, first, last) < 2);
  }
}

TEST_CASE("exp, erf and gelu at the ends of their ranges", "[grad]") {
  const auto e =
      exp(leaf({8}, {709.78, 709.79, -709, -744.4, -746, infinity, -infinity, std::nan("1")}))
          .value();
  CHECK(e.at({0}) == Approx(std::exp(709.78)).epsilon(1e-15));
  CHECK(e.at({1}) == infinity);
  CHECK(e.at({2}) == Approx(std::exp(-709.0)).epsilon(1e-14));
  CHECK(e.at({3}) == std::numeric_limits<double>::denorm_min());
  CHECK(e.at({4}) == 0);
  CHECK(e.at({5}) == infinity);
  CHECK(e.at({6}) == 0);
  CHECK(std::isnan(e.at({7})));
  const Var<float> single(Tensor<float>({4}, {88.72F, 88.73F, -88.0F, std::nanf("1")}));
  const Tensor<float> s = exp(single).value();
  CHECK(s.at({0}) == Approx(std::exp(88.72F)).epsilon(1e-6));
  CHECK(s.at({1}) == std::numeric_limits<float>::infinity());
  CHECK(s.at({2}) == Approx(std::exp(-88.0F)).epsilon(1e-6));
  CHECK(std::isnan(s.at({3})));
  const auto far = leaf({6}, {1e62, -1e62, 1e100, -1e300, infinity, -infinity});
  CHECK(erf(far).value().to_vector() == std::vector<double>{1, -1, 1, -1, 1, -1});
  CHECK(gradient(far, erf(far)) == std::vector<double>(6, 0.0));
  const auto x = leaf({4}, {1e62, -1e62, 1e300, -1e300});
  const auto y = gelu(x);
  CHECK(y.value().to_vector() == std::vector<double>{1e62, 0, 1e300, 0});
  CHECK(gradient(x, y) == std::vector<double>{1, 0, 1, 0});
  CHECK(std::isnan(erf(leaf({1}, {std::nan("1")})).item()));
  CHECK(std::isnan(gelu(leaf({1}, {nan_value})).item()));
}

TEST_CASE("gradients at kinks and ties are the ones that are promised", "[grad]") {
  const auto x = leaf({3}, {-1, 0, 2});
  CHECK(gradient(x, relu(x)) == std::vector<double>{0, 0, 1});
  const auto z = leaf({3}, {-1, 0, 2});
  CHECK(gradient(z, abs(z)) == std::vector<double>{-1, 0, 1});
  const auto ties = leaf({2, 3}, {1, 4, 4, 2, 2, 2});
  CHECK(gradient(ties, max(ties, 1)) == std::vector<double>{0, 1, 0, 1, 0, 0});
  const auto p = leaf({2}, {0, -2});
  CHECK(gradient(p, pow(p, 1.0)) == std::vector<double>{1, 1});
  const auto q = leaf({2}, {0, -2});
  CHECK(gradient(q, pow(q, 0.0)) == std::vector<double>{0, 0});
}

TEST_CASE("a NaN is passed on, not swallowed", "[grad]") {
  const auto x = leaf({3}, {1, nan_value, 2});
  CHECK(std::isnan(relu(x).value().at({1})));
  CHECK(std::isnan(max(x, 0).item()));
  CHECK(std::isnan(logsumexp(x).item()));
  CHECK(std::isnan(softmax(x).value().at({0})));
}

TEST_CASE("rows of large entries neither overflow nor lose their differences", "[grad]") {
  const auto x = leaf({2, 2}, {1000, 1001, -1e4, -1e4});
  CHECK(logsumexp(x).value().at({0}) == Approx(1001 + std::log1p(std::exp(-1.0))).epsilon(1e-15));
  CHECK(logsumexp(x).value().at({1}) == Approx(-1e4 + std::log(2.0)).epsilon(1e-15));
  CHECK(softmax(x).value().at({0, 1}) == Approx(1 / (1 + std::exp(-1.0))).epsilon(1e-14));
  CHECK(log_softmax(x).value().at({0, 0}) ==
        Approx(-1 - std::log1p(std::exp(-1.0))).epsilon(1e-14));
  CHECK(log_softmax(x).value().at({1, 0}) == Approx(-std::log(2.0)).epsilon(1e-14));
  const auto masked = leaf({3}, {0, -infinity, 0});
  CHECK(softmax(masked).value().to_vector() == std::vector<double>{0.5, 0, 0.5});
  CHECK(logsumexp(leaf({2}, {-infinity, -infinity})).item() == -infinity);
  CHECK(logsumexp(leaf({2}, {infinity, 0})).item() == infinity);
  CHECK(logsumexp(leaf({1, 0})).value().at({0}) == -infinity);
  const auto far = leaf({4}, {-800, -30, 30, 800});
  const auto s = sigmoid(far).value();
  CHECK(s.at({0}) == 0);
  CHECK(s.at({1}) == Approx(std::exp(-30.0)).epsilon(1e-12));
  CHECK(s.at({3}) == 1);
}

TEST_CASE("norms of rows with a large common offset", "[grad]") {
  const auto one = leaf({4});
  const auto zero = Var<double>(Tensor<double>::zeros({4}));
  const auto x = leaf({1, 4}, {1e6 + 1, 1e6 + 2, 1e6 + 3, 1e6 + 4});
  const auto y = layer_norm(x, one, zero, 0.0).value();
  CHECK(y.at({0, 0}) == Approx(-1.5 / std::sqrt(1.25)).epsilon(1e-9));
  CHECK(y.at({0, 3}) == Approx(1.5 / std::sqrt(1.25)).epsilon(1e-9));
}

TEST_CASE("norms refuse a negative eps", "[grad]") {
  const auto x = leaf({2, 4});
  const auto one = leaf({4});
  const auto wrong = [](const std::string& op, const std::function<void()>& f) {
    CHECK_THROWS_AS(f(), ValueError);
    CHECK_THROWS_WITH(f(), contains(op + ": expected eps >= 0; got"));
  };
  for (const double eps : {-1.0, nan_value}) {
    wrong("layer_norm", [&] { layer_norm(x, one, one, eps); });
    wrong("rms_norm", [&] { rms_norm(x, one, eps); });
    wrong("dropout_add_layer_norm",
          [&] { dropout_add_layer_norm(x, x, one, one, eps, 0.0, Rng(1)); });
  }
}

TEST_CASE("reductions over nothing follow NumPy", "[grad]") {
  CHECK(sum(leaf({0, 3})).item() == 0);
  CHECK(sum(leaf({0, 3}), {0}).value().to_vector() == std::vector<double>{0, 0, 0});
  CHECK(std::isnan(mean(leaf({0})).item()));
  CHECK(max(leaf({3, 0}), 0).shape() == Shape{0});
  CHECK_THROWS_WITH(max(leaf({3, 0}), 1), contains("max: axis 1 of shape (3, 0) has no entries"));
}

TEST_CASE("gather and scatter add repeated ids up", "[grad]") {
  const auto table = leaf({3, 2}, {1, 2, 3, 4, 5, 6});
  const auto y = gather_rows(table, Ids({4}, {2, 0, 2, 2}));
  CHECK(y.value().to_vector() == std::vector<double>{5, 6, 1, 2, 5, 6, 5, 6});
  backward(sum(y));
  CHECK(table.grad().to_vector() == std::vector<double>{1, 1, 0, 0, 3, 3});
  const auto x = leaf({3}, {1, 2, 4});
  CHECK(scatter_add_rows(x, Ids({3}, {1, 1, 3}), 5).value().to_vector() ==
        std::vector<double>{0, 3, 0, 4, 0});
}

TEST_CASE("cross entropy counts only rows that are not ignored", "[grad]") {
  const auto x = leaf({3, 2}, {0, 0, 7, -7, 1, 3});
  const auto loss = cross_entropy(x, Ids({3}, {1, -100, 1}));
  CHECK(loss.item() == Approx((std::log(2.0) + std::log1p(std::exp(-2.0))) / 2).epsilon(1e-14));
  backward(loss);
  CHECK(x.grad().at({1, 0}) == 0);
  CHECK(x.grad().at({1, 1}) == 0);
  CHECK(x.grad().at({0, 0}) == Approx(0.25).epsilon(1e-14));
  const auto own = cross_entropy(x, Ids({3}, {1, 9, 1}), 9);
  CHECK(own.item() == loss.item());
}

TEST_CASE("ops refuse shapes that do not fit", "[grad]") {
  const auto a = leaf({2, 3});
  const auto b = leaf({2, 4});
  const auto scalar = leaf({});
  const Tensor<double> target({2, 4});
  const std::vector<std::pair<std::string, std::function<void()>>> wrong = {
      {"add: shapes (2, 3) and (2, 4) do not broadcast", [&] { add(a, b); }},
      {"sub: shapes", [&] { sub(a, b); }},
      {"mul: shapes", [&] { mul(a, b); }},
      {"div: shapes", [&] { div(a, b); }},
      {"where: shapes", [&] { where(Tensor<std::uint8_t>({5}), a, a); }},
      {"reshape: shape (2, 3) has 6", [&] { reshape(a, {4}); }},
      {"transpose: expected 2 axes", [&] { transpose(a, {0}); }},
      {"transpose: axis 0 is named twice",
       [&] {
         transpose(a, {0, 0});
       }},
      {"axis: expected one in [-2, 2)",
       [&] {
         transpose(a, {0, 2});
       }},
      {"slice: [1, 4) is out of range for axis 1", [&] { slice(a, 1, 1, 4); }},
      {"slice: [2, 1) is out of range", [&] { slice(a, 1, 2, 1); }},
      {"concat: shapes (2, 3) and (2, 4) differ outside axis 0",
       [&] {
         concat<double>({a, b}, 0);
       }},
      {"concat: expected at least one", [&] { concat(std::vector<Var<double>>{}, 0); }},
      {"broadcast_to: shape (2, 3) cannot be repeated to (3,)", [&] { broadcast_to(a, {3}); }},
      {"broadcast_to: shapes",
       [&] {
         broadcast_to(a, {2, 4});
       }},
      {"sum: axis 1 is named twice",
       [&] {
         sum(a, {1, -1});
       }},
      {"axis: expected one in [-2, 2)", [&] { mean(a, {2}); }},
      {"axis: expected one in [-2, 2)", [&] { max(a, -3); }},
      {"axis: expected one in [0, 0)", [&] { logsumexp(scalar); }},
      {"matmul: inner sizes differ: (2, 3)·(2, 4), 3 ≠ 2; did you mean trans_a?",
       [&] { matmul(a, b); }},
      {"matmul: inner sizes differ: (2, 3)·(4, 3), 3 ≠ 4; did you mean trans_b?",
       [&] {
         matmul(a, leaf({4, 3}));
       }},
      {"matmul: expected at least two axes", [&] { matmul(a, leaf({3})); }},
      {"matmul: leading axes differ",
       [&] {
         matmul(leaf({2, 3, 4}), leaf({3, 4, 5}));
       }},
      {"softmax: expected at least one axis", [&] { softmax(scalar); }},
      {"log_softmax: expected at least one axis", [&] { log_softmax(scalar); }},
      {"layer_norm: expected weight of shape (3,)",
       [&] { layer_norm(a, leaf({4}), leaf({3}), 0); }},
      {"layer_norm: expected bias of shape (3,)", [&] { layer_norm(a, leaf({3}), scalar, 0); }},
      {"rms_norm: expected weight of shape (3,)", [&] { rms_norm(a, leaf({1}), 0); }},
      {"gather_rows: expected a table", [&] { gather_rows(scalar, Ids({1}, {0})); }},
      {"scatter_add_rows: expected rows",
       [&] {
         scatter_add_rows(a, Ids({3}, {0, 0, 0}), 1);
       }},
      {"half_squared_error: shapes (2, 3) and (2, 4) differ",
       [&] { half_squared_error(a, target); }},
      {"masked_half_squared_error: shapes",
       [&] {
         masked_half_squared_error(b, target, Tensor<std::uint8_t>({2, 3}));
       }},
      {"mean_squared_error: shapes", [&] { mean_squared_error(a, target); }},
      {"cross_entropy: expected logits (..., classes)",
       [&] {
         cross_entropy(a, Ids({3}, {0, 0, 0}));
       }},
      {"cross_entropy: expected logits", [&] { cross_entropy(scalar, Ids({}, {0})); }},
  };
  for (const auto& [message, call] : wrong) {
    CAPTURE(message);
    CHECK_THROWS_AS(call(), ShapeError);
    CHECK_THROWS_WITH(call(), contains(message));
  }
}

TEST_CASE("ops refuse ids and labels out of range", "[grad]") {
  const auto a = leaf({2, 3});
  CHECK_THROWS_AS(gather_rows(a, Ids({1}, {2})), ValueError);
  CHECK_THROWS_WITH(gather_rows(a, Ids({2}, {0, -1})),
                    contains("gather_rows: expected ids in [0, 2); got -1 at position 1"));
  CHECK_THROWS_AS(scatter_add_rows(a, Ids({2}, {0, 5}), 5), ValueError);
  CHECK_THROWS_WITH(cross_entropy(a, Ids({2}, {0, 3})),
                    contains("cross_entropy: expected labels in [0, 3) or -100; got 3 in row 1"));
  CHECK_THROWS_WITH(cross_entropy(a, Ids({2}, {-100, -100})), contains("no row counts"));
}

TEST_CASE("values and gradients have the same bits for one thread and for several", "[grad]") {
  const int before = num_threads();
  const auto run = [](int threads) {
    set_num_threads(threads);
    Rng rng(9);
    const Var<float> x(rng.normal<float>({301, 517}), true);
    const Var<float> w(rng.normal<float>({517}), true);
    const Var<float> bias(rng.normal<float>({517}), true);
    const Var<float> m(rng.normal<float>({517, 63}), true);
    Tensor<std::int64_t> picks({5000});
    for (index_t i = 0; i < picks.size(); ++i) picks.mutable_data()[i] = rng.below(301);
    const auto h = gelu(add(layer_norm(x, w, bias, 1e-5), tanh(rms_norm(x, w, 1e-6))));
    const auto g = add(gather_rows(mul(softmax(h), exp(scale(h, 0.1))), picks), sigmoid(bias));
    const auto loss = add(mean(square(matmul(g, m))), mean(logsumexp(erf(h))));
    backward(loss);
    std::vector<Tensor<float>> out{loss.value(), x.grad(), w.grad(), bias.grad(), m.grad()};
    return out;
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto several = run(threads);
    for (std::size_t i = 0; i < one.size(); ++i) {
      CAPTURE(threads, i);
      CHECK((one[i].to_vector() == several[i].to_vector()));
    }
  }
  set_num_threads(before);
}

TEMPLATE_TEST_CASE("a matrix product has the same bits for any number of threads", "[grad]", float,
                   double) {
  const int before = num_threads();
  struct Sizes {
    index_t m, n, k;
  };
  // Shared by rows and by columns, several blocks of k and of n, few columns, few rows.
  for (const Sizes s : {Sizes{301, 170, 700}, Sizes{40, 900, 200}, Sizes{2048, 8, 400},
                        Sizes{8, 2048, 400}, Sizes{200, 8, 3000}}) {
    Rng rng(4);
    const Tensor<TestType> left = rng.normal<TestType>({s.m, s.k});
    const Tensor<TestType> right = rng.normal<TestType>({s.k, s.n});
    for (const bool trans_a : {false, true}) {
      for (const bool trans_b : {false, true}) {
        const Var<TestType> a(trans_a ? left.reshape({s.k, s.m}) : left);
        const Var<TestType> b(trans_b ? right.reshape({s.n, s.k}) : right);
        const auto run = [&](int threads) {
          set_num_threads(threads);
          return matmul(a, b, trans_a, trans_b).value().to_vector();
        };
        const auto one = run(1);
        for (const int threads : {2, 3}) {
          CAPTURE(threads, s.m, s.n, s.k, trans_a, trans_b);
          CHECK((one == run(threads)));  // not printed: thousands of numbers
        }
      }
    }
  }
  set_num_threads(before);
}
