// Post-training in a fixed subspace: what it computes, what trains, and that merging keeps the
// pair's spaces.
#include <parsimony/error.hpp>
#include <parsimony/fixed_subspace.hpp>
#include <parsimony/gradcheck.hpp>
#include <parsimony/linalg.hpp>

#include "support/catch.hpp"

using namespace parsimony;

namespace {

/// The second layer of a pair (7, 5), with the adapter on it.
struct Adapted {
  Rng rng{3};
  Tensor<double> weight = rng.split("B").normal<double>({7, 5});
  Linear<double> layer{Var<double>(weight), Var<double>(Tensor<double>::zeros({7}))};
  explicit Adapted(index_t dimensions) {
    layer.adapt(std::make_unique<FixedSubspace<double>>(weight, dimensions, rng));
  }
  Var<double> parameter(const std::string& end) {
    for (auto& [name, var] : layer.named_parameters()) {
      if (name == "fixed_subspace." + end) return var;
    }
    throw ValueError(end);
  }
};

}  // namespace

TEST_CASE("fixed subspace: nothing at first, then scaled dimensions of the pair") {
  Adapted a(3);
  const auto& adapter = *a.layer.adapter();
  CHECK(max_abs(adapter.delta()) == 0);
  CHECK(a.parameter("d").shape() == Shape{3});
  CHECK(a.parameter("g").shape() == Shape{7});
  CHECK(a.parameter("d").value().at({0}) == 0.1);
  Rng draws(8);
  for (const char* name : {"d", "g"}) {
    Var<double> p = a.parameter(name);
    p.assign(draws.normal<double>(p.shape()));
  }
  const Tensor<double> delta = adapter.delta();
  // Column j of ΔB is g ∘ B's times d of a chosen dimension, else 0.
  index_t chosen = 0;
  for (index_t j = 0; j < 5; ++j) {
    double scale = 0;
    for (index_t i = 0; i < 7; ++i) {
      const double ratio =
          delta.at({i, j}) / (a.parameter("g").value().at({i}) * a.weight.at({i, j}));
      if (i == 0) scale = ratio;
      CHECK(ratio == Approx(scale).margin(1e-12));
    }
    chosen += scale != 0 ? 1 : 0;
  }
  CHECK(chosen == 3);
  const Var<double> x(draws.normal<double>({4, 5}));
  Pass pass;
  const Tensor<double> expected = matmul(x.value(), add(a.weight, delta), false, true);
  CHECK(max_abs(sub(a.layer(x, pass).value(), expected)) < 1e-12);
}

TEST_CASE("fixed subspace: only d and g train, by their own gradients") {
  Adapted a(2);
  Rng draws(4);
  a.parameter("g").assign(draws.normal<double>({7}));
  const Tensor<double> x = draws.normal<double>({3, 5});
  const auto loss = [&] {
    Pass pass;
    return sum(mul(a.layer(Var<double>(x), pass), a.layer(Var<double>(x), pass)));
  };
  backward(loss());
  for (const char* name : {"d", "g"}) {
    Var<double> p = a.parameter(name);
    REQUIRE(p.requires_grad());
    const Tensor<double> gradient = p.grad().clone();
    for (index_t i = 0; i < gradient.size(); ++i) {
      constexpr double h = 1e-6;
      const Tensor<double> at = p.value().clone();
      const auto moved = [&](double by) {
        Tensor<double> v = at.clone();
        v.mutable_data()[i] += by;
        p.assign(v);
        return loss().item();
      };
      const double slope = (moved(h) - moved(-h)) / (2 * h);
      p.assign(at);
      CHECK(gradient.data()[i] == Approx(slope).epsilon(1e-6));
    }
  }
  CHECK_FALSE(a.layer.weight.requires_grad());
}

TEST_CASE("fixed subspace: more dimensions than the pair has are all of them; none are refused") {
  Adapted a(64);
  CHECK(a.parameter("d").shape() == Shape{5});
  CHECK_THROWS_WITH((FixedSubspace<double>(a.weight, 0, Rng(1))),
                    parsimony::testing::contains("at least 1 dimension"));
}
