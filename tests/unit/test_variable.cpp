// The tape: deep and wide graphs, lifetimes of nodes and values, what is recorded and what is not,
// accumulation, and the errors with their words.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/rng.hpp>

#include <pthread.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "support/catch.hpp"
#include "tensor/pool.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

using V = Var<double>;

V scalar_leaf(double value) { return V(Tensor<double>::scalar(value), true); }

/// An identity that counts the calls of its pullback and of the computation of its gradient.
struct Count {
  int pulled = 0;
  int computed = 0;
};

V counted(const V& a, const V& b, Count& count) {
  return make_op("counted", add(a.value(), b.value()), {a, b},
                 [&count](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
                   ++count.pulled;
                   for (std::size_t i = 0; i < 2; ++i) {
                     d.add(i, [&] {
                       ++count.computed;
                       return dy;
                     });
                   }
                 });
}

/// Runs f on a thread with a stack of `bytes`.
void with_stack(std::size_t bytes, std::function<void()> f) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  const auto run = [](void* body) -> void* {
    (*static_cast<std::function<void()>*>(body))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &f) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

std::string edge(const V& from, const V& to) {
  return "n" + std::to_string(from.node()->id) + " -> n" + std::to_string(to.node()->id) + ";";
}

struct DebugOn {
  DebugOn() { set_debug(true); }
  ~DebugOn() { set_debug(false); }
};

TEST_CASE("an undefined variable is an error by name, not a crash") {
  const Var<double> undefined;
  const Var<double> x(Tensor<double>::ones({2}), true);
  REQUIRE_THROWS_WITH(add(undefined, x), contains("undefined"));
  REQUIRE_THROWS_WITH(undefined.shape(), contains("undefined"));
  REQUIRE_THROWS_AS(backward(undefined), ValueError);
  REQUIRE_THROWS_AS(to_dot(undefined), ValueError);
  REQUIRE_THROWS_AS(Var<double>().set_requires_grad(true), ValueError);
  REQUIRE_THROWS_AS(Var<double>().assign(x.value()), ValueError);
}

TEST_CASE("no variable holds an undefined tensor") {
  const Tensor<double> none;
  const Var<double> x(Tensor<double>::ones({2}), true);
  CHECK_THROWS_WITH(Var<double>(none), contains("variable: its value is undefined"));
  for (const bool needed : {true, false}) {
    const Var<double> input(x.value(), needed);
    CHECK_THROWS_WITH(
        make_op("odd", none, {input},
                [](const Tensor<double>&, const Tensor<double>&, Gradients<double>&) {}),
        contains("odd: its value is undefined"));
  }
  Var<double> scalar(Tensor<double>::scalar(1), true);
  CHECK_THROWS_AS(scalar.assign(none), ValueError);
  CHECK(scalar.item() == 1);
  CHECK_THROWS_WITH(backward(square(scalar), none),
                    contains("backward: the upstream gradient is undefined"));
  CHECK_THROWS_AS(add(x.grad(), x.value()), ValueError);
  CHECK_THROWS_AS(where(Tensor<std::uint8_t>(), x, x), ValueError);
  CHECK_THROWS_AS(half_squared_error(scalar, none), ValueError);
}

TEST_CASE("scalars mix with variables as in NumPy") {
  const Var<double> x(Tensor<double>::full({2}, 3.0), true);
  REQUIRE((2.0 * x + 1.0).value().at({0}) == 7.0);
  REQUIRE((1.0 - x / 2.0).value().at({1}) == -0.5);
}

}  // namespace

TEST_CASE("a chain of 200000 nodes needs no deep stack", "[tape]") {
  constexpr int length = 200000;
  const auto nodes = live_nodes();
  double slope = 0;
  double abandoned = 0;
  with_stack(256 * 1024, [&] {
    V x = scalar_leaf(1.0);
    V y = x;
    for (int i = 0; i < length; ++i) y = shift(y, 1e-5);
    backward(y);
    slope = x.grad().item();
  });
  CHECK(slope == 1.0);
  CHECK(live_nodes() == nodes);
  with_stack(256 * 1024, [&] {  // destroyed without a backward
    V y = scalar_leaf(1.0);
    for (int i = 0; i < length; ++i) y = mul(y, y);
    abandoned = y.item();
  });
  CHECK(abandoned == 1.0);
  CHECK(live_nodes() == nodes);
  with_stack(256 * 1024, [&] {  // a pullback that throws at the far end
    V x = scalar_leaf(1.0);
    V y = make_op("broken", x.value(), {x},
                  [](const Tensor<double>&, const Tensor<double>&, Gradients<double>&) {
                    throw ValueError("broken");
                  });
    for (int i = 0; i < length; ++i) y = shift(y, 1e-5);
    try {
      backward(y);
    } catch (const ValueError&) {
      slope = -1;
    }
  });
  CHECK(slope == -1.0);
  CHECK(live_nodes() == nodes);
}

TEST_CASE("a ladder with 2^40 paths takes 40 pullbacks", "[tape]") {
  const V x = scalar_leaf(1.0);
  Count count;
  V y = x;
  for (int i = 0; i < 40; ++i) y = counted(y, y, count);
  const auto start = std::chrono::steady_clock::now();
  backward(y);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  CHECK(count.pulled == 40);
  CHECK(x.grad().item() == std::ldexp(1.0, 40));
  CHECK(took.count() < 0.05);
}

TEST_CASE("training leaks neither nodes nor buffers", "[tape]") {
  const auto nodes = live_nodes();
  const auto bytes = detail::pool_bytes_in_use();
  {
    Rng rng(1);
    V w(rng.normal<double>({20, 20}), true);
    const V x(rng.normal<double>({20, 20}));
    const auto target = rng.normal<double>({20, 20});
    const auto step = [&] {
      w.zero_grad();
      const V h = tanh(matmul(w, x));
      backward(half_squared_error(concat<double>({h, h, h, h}, 0),
                                  concat<double>({target, target, target, target}, 0)));
    };
    step();
    const auto after_one = detail::pool_bytes_in_use();
    const auto nodes_after_one = live_nodes();
    for (int i = 0; i < 20; ++i) step();
    CHECK(detail::pool_bytes_in_use() == after_one);
    CHECK(live_nodes() == nodes_after_one);
    softmax(matmul(w, x));  // dropped without a backward
    CHECK(detail::pool_bytes_in_use() == after_one);
  }
  CHECK(live_nodes() == nodes);
  CHECK(detail::pool_bytes_in_use() == bytes);
}

TEST_CASE("values go as backward passes them", "[tape]") {
  constexpr index_t n = 10000;
  const V x(Tensor<double>::ones({n}), true);
  std::vector<std::size_t> in_use;
  std::vector<std::int64_t> nodes;
  V y = x;
  for (int i = 0; i < 10; ++i) {
    y = make_op(
        "probe", mul(y.value(), y.value()), {y},
        [&, v = y.value()](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
          in_use.push_back(detail::pool_bytes_in_use());
          nodes.push_back(live_nodes());
          d.add(0, [&] { return mul(scale(v, 2.0), dy); });
        });
  }
  V loss = sum(y);
  y = V();
  backward(loss);
  REQUIRE(in_use.size() == 10);
  for (std::size_t i = 1; i < in_use.size(); ++i) {
    CHECK(nodes[i] == nodes[i - 1] - 1);
    if (i > 1) CHECK(in_use[i] + n * sizeof(double) <= in_use[i - 1]);
  }
}

TEST_CASE("what is frozen costs nothing", "[tape]") {
  const V frozen(Tensor<double>::ones({3}));
  const V live(Tensor<double>::ones({3}), true);
  Count count;
  const auto nodes = live_nodes();
  {
    const V constant = counted(frozen, frozen, count);  // not recorded at all
    CHECK_FALSE(constant.requires_grad());
    CHECK(live_nodes() == nodes + 1);
    backward(sum(counted(constant, live, count)));
  }
  CHECK(count.pulled == 1);    // of the second only
  CHECK(count.computed == 1);  // for the live input only
  CHECK_FALSE(frozen.has_grad());
  CHECK(live.grad().to_vector() == std::vector<double>{1, 1, 1});
  V thawed = frozen;
  thawed.set_requires_grad(true);
  backward(sum(thawed));
  CHECK(frozen.has_grad());
  CHECK_THROWS_WITH(sum(live).set_requires_grad(false), contains("result of sum; use detach()"));
}

TEST_CASE("NoGrad records nothing, and nests", "[tape]") {
  const V x = scalar_leaf(2.0);
  {
    const NoGrad outer;
    CHECK_FALSE(grad_enabled());
    { const NoGrad inner; }
    CHECK_FALSE(grad_enabled());
    CHECK_FALSE(square(x).requires_grad());
  }
  CHECK(grad_enabled());
  CHECK(square(x).requires_grad());
  CHECK_FALSE(square(x).detach().requires_grad());
}

TEST_CASE("gradients accumulate until they are cleared", "[tape]") {
  V x(Tensor<double>({2}, {1, 2}), true);
  backward(sum(square(x)));
  const Tensor<double> first = x.grad();
  backward(sum(scale(x, 10.0)));
  CHECK(x.grad().to_vector() == std::vector<double>{12, 14});
  CHECK(first.to_vector() == std::vector<double>{2, 4});  // a handle is not written behind its back
  x.zero_grad();
  CHECK_FALSE(x.has_grad());
  backward(sum(x));
  CHECK(x.grad().to_vector() == std::vector<double>{1, 1});
}

TEST_CASE("gradients that share a buffer stay apart", "[tape]") {
  // add hands the same upstream tensor to both of its inputs, and the caller keeps a handle too.
  const V a(Tensor<double>({2}, {1, 2}), true);
  const V b(Tensor<double>({2}, {3, 4}), true);
  const Tensor<double> upstream({2}, {1, 1});
  backward(add(a, b), upstream);
  backward(add(a, scale(a, 2.0)), upstream);
  CHECK(a.grad().to_vector() == std::vector<double>{4, 4});
  CHECK(b.grad().to_vector() == std::vector<double>{1, 1});
  CHECK(upstream.to_vector() == std::vector<double>{1, 1});
}

TEST_CASE("values used several times sum what comes back", "[tape]") {
  const V x = scalar_leaf(3.0);
  const V y = square(x);
  backward(add(mul(y, x), add(y, x)));  // x³ + x² + x
  CHECK(x.grad().item() == 27 + 6 + 1);
}

TEST_CASE("gradients of inner values are kept on request", "[tape]") {
  const V x = scalar_leaf(3.0);
  V y = square(x);
  V z = square(y);
  y.retain_grad();
  backward(z);
  CHECK(y.grad().item() == 18);
  CHECK_FALSE(z.has_grad());
}

TEST_CASE("backward from a leaf and with an upstream gradient", "[tape]") {
  const V x(Tensor<double>({2}, {1, 2}), true);
  backward(x, Tensor<double>({2}, {5, 6}));
  CHECK(x.grad().to_vector() == std::vector<double>{5, 6});
  backward(square(x), Tensor<double>({2}, {1, -1}));
  CHECK(x.grad().to_vector() == std::vector<double>{7, 2});
  const V one(Tensor<double>({1, 1}, {4}), true);
  backward(square(one));  // one element counts as a scalar
  CHECK(one.grad().shape() == Shape{1, 1});
}

TEST_CASE("backward says what is wrong", "[tape]") {
  V x(Tensor<double>({2}, {1, 2}), true);
  CHECK_THROWS_AS(backward(square(x)), ShapeError);
  CHECK_THROWS_WITH(backward(square(x)),
                    contains("backward: expected a scalar loss; got shape (2,) from square"));
  CHECK_THROWS_WITH(backward(square(x), Tensor<double>({3})),
                    contains("upstream gradient has shape (3,); the value has (2,)"));
  const V constant(Tensor<double>::scalar(1));
  CHECK_THROWS_AS(backward(square(constant)), ValueError);
  CHECK_THROWS_WITH(backward(square(constant)), contains("square depends on none"));

  const V loss = sum(square(x));
  backward(loss);
  CHECK_THROWS_AS(backward(loss), ValueError);
  CHECK_THROWS_WITH(backward(loss), contains("the graph through sum was freed"));
  const V shared = square(x);
  const V left = sum(shared);
  const V right = sum(exp(shared));
  backward(left);
  const auto before = x.grad().to_vector();
  CHECK_THROWS_WITH(backward(right), contains("the graph through square was freed"));
  CHECK(x.grad().to_vector() == before);
}

TEST_CASE("backward refuses values that were overwritten", "[tape]") {
  V x(Tensor<double>({2}, {1, 2}), true);
  const V loss = sum(square(x));
  x.mutable_data()[0] = 5;
  CHECK_THROWS_AS(backward(loss), ValueError);
  CHECK_THROWS_WITH(backward(loss), contains("input 0 of square was overwritten"));
  const V again = sum(square(x));
  x.assign(Tensor<double>({2}, {3, 4}));
  CHECK_THROWS_WITH(backward(again), contains("overwritten"));
  CHECK_THROWS_WITH(x.assign(Tensor<double>({3})), contains("assign: expected shape (2,)"));
  CHECK_FALSE(x.has_grad());
  backward(sum(square(x)));
  CHECK(x.grad().to_vector() == std::vector<double>{6, 8});
}

TEST_CASE("an optimiser's step between forward and backward is refused", "[tape]") {
  V w(Tensor<double>({2}, {1, 2}), true);
  backward(sum(square(w)));
  const V stale = sum(square(w));
  ParameterGroup<double> group;
  group.parameters = {{"w", w}};
  GradientDescent<double> optimizer({group}, 0.1);
  optimizer.step();
  CHECK_THROWS_WITH(backward(stale), contains("(an optimiser step?)"));
}

TEST_CASE("a failed backward leaves nothing in inner values", "[tape]") {
  bool fail = true;
  const V x = scalar_leaf(3.0);
  const V y = make_op("fragile", square(x).value(), {x},
                      [&](const Tensor<double>&, const Tensor<double>& dy, Gradients<double>& d) {
                        if (fail) throw NumericalError("fragile");
                        d.add(0, [&] { return scale(dy, 6.0); });
                      });
  CHECK_THROWS_AS(backward(scale(y, 100.0)), NumericalError);
  fail = false;
  backward(y);
  CHECK(x.grad().item() == 6);
}

TEST_CASE("debugging names the op that made a NaN or an infinity", "[tape]") {
  const V x(Tensor<double>({2}, {0, 1}), true);
  CHECK(std::isinf(log(x).value().at({0})));  // off: computed as IEEE says
  const DebugOn on;
  CHECK_THROWS_AS(log(x), NumericalError);
  CHECK_THROWS_WITH(log(x), contains("log: its value has a NaN or an infinity (shape (2,))"));
  const V y = sqrt(x);  // finite, but its slope at 0 is not
  CHECK_THROWS_AS(backward(sum(y)), NumericalError);
  CHECK_THROWS_WITH(backward(sum(sqrt(x))), contains("sqrt gives its input 0 a gradient"));
  const double inf = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(backward(square(x), Tensor<double>({2}, {inf, 1})),
                    contains("the gradient of square is not finite"));
}

TEST_CASE("a pullback that does not fit its inputs is refused by name", "[tape]") {
  const V x(Tensor<double>::ones({2, 3}), true);
  const auto with = [&](const std::function<void(Gradients<double>&)>& f) {
    backward(
        make_op("odd", Tensor<double>::scalar(1), {x},
                [f](const Tensor<double>&, const Tensor<double>&, Gradients<double>& d) { f(d); }));
  };
  CHECK_THROWS_WITH(with([](auto& d) { d.add(1, [] {
                                         return Tensor<double>::ones({2, 3});
                                       }); }),
                    contains("odd: its pullback adds to input 1; it has 1"));
  CHECK_THROWS_WITH(with([](auto& d) { d.add(0, [] { return Tensor<double>(); }); }),
                    contains("odd: its pullback gave an undefined gradient"));
  CHECK_THROWS_WITH(with([](auto& d) { d.add(0, [] { return Tensor<double>::ones({3}); }); }),
                    contains("odd: pullback gave shape (3,) for input 0 of shape (2, 3)"));
  CHECK_THROWS_AS(with([](auto& d) { d.add(0, [] {
                                       return Tensor<double>::ones({2, 5});
                                     }); }),
                  ShapeError);
  with([](auto& d) { d.add(0, [] { return Tensor<double>::ones({4, 2, 3}); }); });
  CHECK(x.grad().to_vector() == std::vector<double>(6, 4.0));  // summed to the input's shape
}

TEST_CASE("a graph prints as DOT", "[tape]") {
  const V w(Tensor<double>::ones({2, 3}), true);
  const V x(Tensor<double>::ones({3, 1}));
  const V y = matmul(w, x);
  const std::string dot = to_dot(sum(mul(y, y)), {{"weight", w}});
  CHECK_THAT(dot, contains("digraph tape {"));
  CHECK_THAT(dot, contains("label=\"weight\\n(2, 3)\", shape=box, style=filled"));
  CHECK_THAT(dot, contains("label=\"leaf\\n(3, 1)\", shape=box]"));
  CHECK_THAT(dot, contains("label=\"matmul\\n(2, 1)\", shape=ellipse"));
  CHECK_THAT(dot, contains("label=\"sum\\n()\""));
  CHECK_THAT(dot, contains(edge(w, y)));
  std::size_t edges = 0;
  for (std::size_t at = dot.find("->"); at != std::string::npos; at = dot.find("->", at + 1))
    ++edges;
  CHECK(edges == 5);  // w, x -> matmul; matmul -> mul twice; mul -> sum
  CHECK(dot.substr(dot.size() - 2) == "}\n");
  CHECK_THAT(to_dot(y, {{"a \"b\"\\c\nd", w}}), contains(R"(label="a \"b\"\\c\nd\n)"));
}
