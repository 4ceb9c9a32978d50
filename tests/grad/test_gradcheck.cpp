// The checker itself: sabotaged gradients must fail, at input scale 1 and at 1e-3, where an
// absolute tolerance would let them pass; right ones, and arguments that do not matter, must not.
#include <parsimony/gradcheck.hpp>
#include <parsimony/ops.hpp>

#include <cmath>

#include "support/catch.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

enum class Fault { none, zero, doubled, flipped, missing, slightly_off, one_entry };

/// y = a² b whose gradient has a fault.
Var<double> faulty(const std::vector<Var<double>>& x, Fault fault) {
  const Tensor<double> a = x[0].value();
  const Tensor<double> b = x[1].value();
  return make_op("faulty", mul(mul(a, a), b), {x[0], x[1]},
                 [=](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
                   double factor = 1;
                   if (fault == Fault::zero) factor = 0;
                   if (fault == Fault::doubled) factor = 2;
                   if (fault == Fault::flipped) factor = -1;
                   if (fault == Fault::slightly_off) factor = 1 + 1e-4;
                   d.add(0, [&] {
                     Tensor<double> da = scale(mul(mul(a, b), dy), 2 * factor);
                     if (fault == Fault::one_entry) da.mutable_data()[3] = 0;
                     return da;
                   });
                   if (fault != Fault::missing) {
                     d.add(1, [&] { return scale(mul(mul(a, a), dy), factor); });
                   }
                 });
}

GradCheckResult check(Fault fault, double scale) {
  Rng rng(3);
  const Tensor<double> a = rng.normal<double>({3, 4}, scale);
  const Tensor<double> b = rng.normal<double>({3, 4}, scale);
  return gradcheck([fault](const auto& x) { return faulty(x, fault); }, {a, b}, Rng(4));
}

}  // namespace

TEST_CASE("sabotaged gradients fail at every input scale", "[grad][gradcheck]") {
  for (const double scale : {1.0, 1e-3, 1e3}) {
    CAPTURE(scale);
    const auto right = check(Fault::none, scale);
    CHECK(right.ok);
    CHECK(right.worst < 1e-8);
    for (const Fault fault : {Fault::zero, Fault::doubled, Fault::flipped, Fault::missing,
                              Fault::slightly_off, Fault::one_entry}) {
      CAPTURE(static_cast<int>(fault));
      const auto wrong = check(fault, scale);
      CHECK_FALSE(wrong.ok);
      CHECK(wrong.worst > 1e-5);
      CHECK_FALSE(wrong.message.empty());
    }
  }
}

TEST_CASE("the checker names the argument and both derivatives", "[grad][gradcheck]") {
  const auto result = check(Fault::missing, 1e-3);
  CHECK_THAT(result.message, contains("argument 1"));
  CHECK_THAT(result.message, contains("by differences"));
  CHECK_THAT(result.message, contains(", 0 by backward"));
}

TEST_CASE("a gradient that is right for each argument alone fails together", "[grad][gradcheck]") {
  // The pullback forgets the second argument whenever the first needs a gradient too.
  const auto f = [](const std::vector<Var<double>>& x) {
    const auto a = x[0].value();
    const auto b = x[1].value();
    return make_op("jealous", mul(a, b), {x[0], x[1]},
                   [a, b](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
                     if (d.needs(0)) {
                       d.add(0, [&] { return mul(dy, b); });
                     } else {
                       d.add(1, [&] { return mul(dy, a); });
                     }
                   });
  };
  Rng rng(3);
  const auto result = gradcheck(f, {rng.normal<double>({4}), rng.normal<double>({4})}, Rng(4));
  CHECK_FALSE(result.ok);
  CHECK_THAT(result.message, contains("all arguments"));
}

TEST_CASE("a gradient that is not a number fails", "[grad][gradcheck]") {
  const auto f = [](const std::vector<Var<double>>& x) {
    return make_op("nan", x[0].value(), {x[0]},
                   [](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
                     d.add(0, [&] { return scale(dy, std::nan("")); });
                   });
  };
  CHECK_FALSE(gradcheck(f, {Tensor<double>::ones({3})}, Rng(1)).ok);
}

TEST_CASE("arguments without influence, zeros and empty inputs pass", "[grad][gradcheck]") {
  const auto first = [](const std::vector<Var<double>>& x) { return square(x[0]); };
  const Tensor<double> x = Tensor<double>::ones({2, 2});
  CHECK(gradcheck(first, {x, x}, Rng(1)).ok);
  CHECK(
      gradcheck([](const auto& v) { return exp(v[0]); }, {Tensor<double>::zeros({3})}, Rng(1)).ok);
  CHECK(gradcheck(first, {Tensor<double>({0, 3})}, Rng(1)).ok);
  const auto constant = [](const std::vector<Var<double>>& v) { return v[0].detach(); };
  CHECK_FALSE(gradcheck(constant, {x}, Rng(1)).ok);  // detached, but the value follows x
}
