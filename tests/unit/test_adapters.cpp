// LoRA and Deep LoRA against their definitions (paper, sections 1.4, 2.13 and 3): gradients by
// finite differences, the update at the start, application in each of its ways, parameter counts,
// and the compressed form against the authors' construction.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/ops.hpp>

#include <cmath>
#include <functional>
#include <map>

#include "support/adapters.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

/// Every parameter drawn anew, so that none is at a special point.
void randomise(const Adapter<double>& adapter, Rng rng, double size) {
  for (auto& [name, var] : adapter.named_parameters()) {
    var.assign(rng.normal<double>(var.shape(), size));
  }
}

/// Relative error of the gradient of each parameter along a random direction, the largest.
double gradient_error(const Adapter<double>& adapter, const std::function<Var<double>()>& loss,
                      Rng rng) {
  backward(loss());
  double worst = 0;
  for (auto& [name, var] : adapter.named_parameters()) {
    REQUIRE(var.has_grad());
    const Tensor<double> at = var.value().clone();
    const Tensor<double> direction = rng.normal<double>(var.shape());
    const double found = dot(var.grad(), direction);
    var.zero_grad();
    const auto central = [&](double step) {
      const NoGrad no_grad;
      var.assign(add(at, scale(direction, step)));
      const double plus = loss().item();
      var.assign(add(at, scale(direction, -step)));
      const double minus = loss().item();
      return (plus - minus) / (2 * step);
    };
    const double size = std::max(frobenius(at), 1e-2) / frobenius(direction);
    const double step = 1e-3 * size;
    const double expected = (4 * central(step / 2) - central(step)) / 3;
    var.assign(at);
    const double largest = std::max(std::abs(found), std::abs(expected));
    REQUIRE(largest > 0);
    worst = std::max(worst, std::abs(found - expected) / largest);
  }
  return worst;
}

const Shape shapes[] = {Shape{8, 8}, Shape{11, 6}, Shape{6, 11}};

}  // namespace

TEST_CASE("adapters: gradients match finite differences", "[adapters][A1]") {
  const Rng rng(1);
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const Shape& shape : shapes) {
      for (const bool embedding : {false, true}) {
        CAPTURE(kind.label, shape.str(), embedding);
        const Var<double> weight(rng.split("weight").normal<double>(shape));
        const Var<double> bias(rng.split("bias").normal<double>({shape[0]}));
        const Var<double> x(rng.split("x").normal<double>({4, shape[1]}));
        const Tensor<std::int64_t> ids({2, 3}, {0, 5, 2, 2, 3, 0});
        const auto adapter = make_adapter(kind, weight.value(), embedding, 4, 0.5, rng);
        const auto loss = [&] {
          Pass pass;
          const Var<double> y =
              embedding ? adapter->rows(ids, weight) : adapter->linear(x, weight, bias, pass);
          return sum(square(y));
        };
        randomise(*adapter, rng.split("values"), 0.6);
        CHECK(gradient_error(*adapter, loss, rng.split("direction")) < 1e-7);
        // Scales as at a real start, and through the dense update alone.
        randomise(*adapter, rng.split("small"), 0.05);
        const auto dense = [&] {
          const WeightUpdate<double> u = adapter->update();
          const Var<double> delta = u.dense.defined() ? u.dense : matmul(u.left, u.right);
          return sum(mul(delta, Var<double>(rng.split("upstream").normal<double>(shape))));
        };
        CHECK(gradient_error(*adapter, dense, rng.split("other")) < 1e-7);
      }
    }
  }
}

TEST_CASE("adapters: gradients flow to the input of the layer", "[adapters][A1]") {
  const Rng rng(2);
  for (const AdapterKind& kind : adapter_kinds()) {
    CAPTURE(kind.label);
    const Var<double> weight(rng.split("weight").normal<double>({9, 7}));
    const Var<double> bias(rng.split("bias").normal<double>({9}));
    const auto adapter = make_adapter(kind, weight.value(), false, 4, 0.5, rng);
    randomise(*adapter, rng.split("values"), 0.5);
    Var<double> x(rng.split("x").normal<double>({3, 7}), true);
    const Tensor<double> upstream = rng.split("dy").normal<double>({3, 9});
    Pass pass;
    backward(adapter->linear(x, weight, bias, pass), upstream);
    // dx = dy (W + ΔW)
    CHECK(largest_difference(x.grad(), matmul(upstream, add(weight.value(), adapter->delta()))) <
          1e-13);
  }
}

TEST_CASE("adapters: the update at the start", "[adapters][A1]") {
  const Rng rng(3);
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const Shape& shape : shapes) {
      for (const bool embedding : {false, true}) {
        for (const double eps : {1e-3, 0.3}) {
          CAPTURE(kind.label, shape.str(), embedding, eps);
          const Tensor<double> weight = rng.split("weight").normal<double>(shape);
          const auto adapter = make_adapter(kind, weight, embedding, 4, eps, rng);
          const Tensor<double> delta = adapter->delta();
          REQUIRE(delta.shape() == shape);
          if (kind.starts_at_zero()) {
            CHECK(max_abs(delta) == 0);
            continue;
          }
          // ‖ΔW(0)‖₂ = ε^L, and of the orthogonal forms every singular value that is not 0.
          const Tensor<double> s = singular_values(delta);
          const double size = std::pow(eps, static_cast<double>(kind.depth));
          CHECK(std::abs(s.at({0}) / size - 1) < 1e-12);
          if (!kind.orthogonal()) continue;
          const index_t rank = kind.form == "narrow" ? 4 : std::min(shape[0], shape[1]);
          CHECK(std::abs(s.at({rank - 1}) / size - 1) < 1e-12);
          if (rank < s.size()) CHECK(s.at({rank}) < 1e-12 * size);
        }
      }
    }
  }
}

TEST_CASE("adapters: which factor of LoRA is random, on layers and embeddings", "[adapters]") {
  const Rng rng(4);
  const auto parameters = [&](const AdapterKind& kind, const Shape& shape, bool embedding) {
    const auto adapter = make_adapter(kind, Tensor<double>::zeros(shape), embedding, 4, 0, rng);
    std::map<std::string, Tensor<double>> found;
    for (const auto& [name, var] : adapter->named_parameters()) found[name] = var.value();
    return found;
  };
  const auto std_of = [](const Tensor<double>& x) {
    return frobenius(x) / std::sqrt(static_cast<double>(x.size()));
  };
  const AdapterKind paper = adapter_kinds()[0];
  const AdapterKind peft = adapter_kinds()[1];
  for (const bool embedding : {false, true}) {
    // 400 inputs, 300 outputs.
    const Shape shape = embedding ? Shape{400, 300} : Shape{300, 400};
    auto p = parameters(paper, shape, embedding);
    CHECK(p["A"].shape() == Shape{4, 400});
    CHECK(p["B"].shape() == Shape{300, 4});
    CHECK(max_abs(p["A"]) == 0);
    CHECK(std::abs(std_of(p["B"]) - 1) < 0.1);
    p = parameters(peft, shape, embedding);
    CHECK(p["A"].shape() == Shape{4, 400});
    if (embedding) {  // PEFT's embeddings are the other way round
      CHECK(max_abs(p["A"]) == 0);
      CHECK(std::abs(std_of(p["B"]) - 1) < 0.1);
    } else {
      CHECK(max_abs(p["B"]) == 0);
      CHECK(max_abs(p["A"]) <= 0.05);  // 1/√400
      CHECK(max_abs(p["A"]) > 0.049);
      CHECK(std::abs(std_of(p["A"]) - 0.05 / std::sqrt(3.0)) < 0.003);
    }
  }
}

TEST_CASE("adapters: factored and materialised application give one result", "[adapters]") {
  // Few rows are carried through the factors, for many W + ΔW is formed first; both against the
  // definition in double.
  const Rng rng(5);
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const Shape& shape : {Shape{24, 24}, Shape{40, 19}, Shape{19, 40}}) {
      const Tensor<double> weight = rng.split("weight").normal<double>(shape, 0.2);
      const auto exact = make_adapter(kind, weight, false, 4, 0.7, rng);
      randomise(*exact, rng.split("values"), 0.4);
      const auto rounded = make_adapter(kind, cast<float>(weight), false, 4, 0.7, rng);
      auto from = exact->named_parameters();
      auto to = rounded->named_parameters();
      REQUIRE(from.size() == to.size());
      for (std::size_t i = 0; i < to.size(); ++i) {
        to[i].second.assign(cast<float>(from[i].second.value()));
        from[i].second.assign(cast<double>(to[i].second.value()));
      }
      const Tensor<double> bias = rng.split("bias").normal<double>({shape[0]});
      const Tensor<double> effective = add(cast<double>(cast<float>(weight)), exact->delta());
      for (const index_t rows : {1, 3, 700}) {
        CAPTURE(kind.label, shape.str(), rows);
        const Tensor<double> x =
            cast<double>(cast<float>(rng.split("x").normal<double>({rows, shape[1]}, 0.5)));
        const Tensor<double> expected = add(matmul(x, effective, false, true), bias);
        Pass pass;
        const Var<double> y =
            exact->linear(Var<double>(x), Var<double>(cast<double>(cast<float>(weight))),
                          Var<double>(bias), pass);
        CHECK(largest_difference(y.value(), expected) < 1e-13);
        const Var<float> z =
            rounded->linear(Var<float>(cast<float>(x)), Var<float>(cast<float>(weight)),
                            Var<float>(cast<float>(bias)), pass);
        CHECK(largest_difference(cast<double>(z.value()), expected) < 3e-6 * max_abs(expected));
        // Gradients of the factors too: those of the sum over rows of the definition.
        const Tensor<double> dy = rng.split("dy").normal<double>(expected.shape(), 0.1);
        backward(exact->linear(Var<double>(x), Var<double>(weight), Var<double>(bias), pass), dy);
        std::vector<Tensor<double>> found;
        for (auto& [name, var] : exact->named_parameters()) {
          found.push_back(var.grad());
          var.zero_grad();
        }
        const WeightUpdate<double> u = exact->update();
        backward(u.dense.defined() ? u.dense : matmul(u.left, u.right), matmul(dy, x, true, false));
        std::size_t i = 0;
        for (auto& [name, var] : exact->named_parameters()) {
          CHECK(largest_difference(found[i++], var.grad()) < 1e-12);
          var.zero_grad();
        }
      }
      const Tensor<std::int64_t> ids({5}, {0, 3, 18, 3, 7});
      const auto table = make_adapter(kind, weight, true, 4, 0.7, rng);
      randomise(*table, rng.split("values"), 0.4);
      const Tensor<double> all = add(weight, table->delta());
      const Tensor<double> rows = table->rows(ids, Var<double>(weight)).value();
      for (index_t i = 0; i < 5; ++i) {
        const index_t id = ids.data()[i];
        CHECK(largest_difference(rows.rows(i, i + 1), all.rows(id, id + 1)) < 1e-14);
      }
    }
  }
}

TEST_CASE("adapters: dropout of PEFT's LoRA is on its own input", "[adapters]") {
  const Rng rng(6);
  AdapterOptions o = adapter_options_of(adapter_kinds()[1], 6, 0);
  o.set("adapter_dropout", 0.5);
  AdapterSite<double> site;
  site.weight = rng.split("weight").normal<double>({10, 6});
  site.rng = rng;
  const auto adapter = adapter_method<double>("lora").make(site, o);
  const Var<double> weight(site.weight);
  const Var<double> bias(Tensor<double>::zeros({10}));
  const Tensor<double> x = rng.split("x").normal<double>({400, 6});
  const auto run = [&](Pass pass) {
    return adapter->linear(Var<double>(x), weight, bias, pass).value();
  };
  // ΔW = 0: dropout shows nowhere, so it is not on the frozen path.
  const Tensor<double> base = matmul(x, site.weight, false, true);
  CHECK(largest_difference(run(Pass(Rng(1))), base) < 1e-13);
  randomise(*adapter, rng.split("values"), 0.5);
  const Tensor<double> delta = adapter->delta();
  CHECK(largest_difference(run(Pass()), add(base, matmul(x, delta, false, true))) < 1e-12);
  // In training it sees x with some entries dropped and the others doubled.
  const Tensor<double> difference = sub(run(Pass(Rng(1))), base);
  const Tensor<double> seen = transpose(
      solve_spd(matmul(delta, delta, true, false), matmul(delta, difference, true, true)));
  REQUIRE(seen.shape() == x.shape());
  double kept = 0;
  for (index_t i = 0; i < x.size(); ++i) {
    const bool dropped = std::abs(seen.data()[i]) < 1e-9;
    kept += dropped ? 0 : 1;
    if (!dropped) CHECK(std::abs(seen.data()[i] - 2 * x.data()[i]) < 1e-9);
  }
  CHECK(std::abs(kept / static_cast<double>(x.size()) - 0.5) < 0.05);
}

TEST_CASE("adapters: parameter counts of BERT-base", "[adapters][A2]") {
  // Sites by shape; their weights are never touched, so they take no memory.
  struct Site {
    Shape shape;
    bool embedding;
    index_t count;
  };
  const Site sites[] = {{Shape{768, 768}, false, 4 * 12 + 1},
                        {Shape{3072, 768}, false, 12},
                        {Shape{768, 3072}, false, 12},
                        {Shape{28996, 768}, true, 1}};
  const auto total = [&](const AdapterKind& kind, index_t rank) {
    index_t n = 0;
    for (const Site& site : sites) {
      n += site.count *
           make_adapter(kind, Tensor<float>(site.shape), site.embedding, rank, 1e-3, Rng(1))
               ->parameter_count();
    }
    return n;
  };
  CHECK(total({"", "lora", "", "paper"}, 8) == 1577504);
  CHECK(total({"", "lora", "", "peft"}, 8) == 1577504);
  CHECK(total({"", "deep-lora", "narrow", ""}, 8) == 1582240);
  CHECK(total({"", "deep-lora", "compressed", ""}, 8) == 1591712);

  // Full width, on sides an eighth as long: every product of two sides is a 64th.
  index_t full = 0;
  for (const Site& site : sites) {
    const Shape shape =
        site.embedding ? Shape{28996, 8} : Shape{site.shape[0] / 8, site.shape[1] / 8};
    const index_t n = make_adapter({"", "deep-lora", "full", ""}, Tensor<float>(shape),
                                   site.embedding, 8, 1e-3, Rng(1))
                          ->parameter_count();
    // The embedding's: w (28996 + 2 w) at w = 768.
    full += site.embedding ? n / 8 * 768 + (768 * 2 * 768 - 8 * 2 * 768) : site.count * n * 64;
  }
  CHECK(full == 195087360);

  // And these are the sites: of a model with BERT-base's layers, narrow.
  BertConfig config;
  config.vocab_size = 40;
  config.hidden_size = 12;
  config.intermediate_size = 48;
  Bert<float> model(config, BertHead::classifier, Rng(1));
  const auto all = adapter_targets(model, "all-dense");
  std::map<std::string, index_t> by_shape;
  for (const auto& target : all) {
    ++by_shape[target.layer->weight.shape().str()];
    CHECK(target.rows_are_inputs == (target.name == "bert.embeddings.word_embeddings"));
  }
  CHECK(all.size() == 74);
  CHECK(by_shape["(12, 12)"] == 49);
  CHECK(by_shape["(48, 12)"] == 12);
  CHECK(by_shape["(12, 48)"] == 12);
  CHECK(by_shape["(40, 12)"] == 1);
  CHECK(adapter_targets(model, "attention-mlp").size() == 72);
  CHECK(adapter_targets(model, "query-value").size() == 24);
  CHECK(adapter_targets(model, "attention.output.dense,pooler.dense").size() == 13);
  CHECK_THROWS_AS(adapter_targets(model, "qery"), ValueError);
  CHECK_THROWS_AS(adapter_targets(model, ""), ValueError);
}

TEST_CASE("adapters: what a maker refuses", "[adapters]") {
  const Rng rng(7);
  const auto make = [&](AdapterKind kind, index_t rank, const Shape& shape = {8, 6}) {
    return make_adapter(kind, Tensor<double>::zeros(shape), false, rank, 1e-3, rng);
  };
  const AdapterKind narrow{"", "deep-lora", "narrow", ""};
  const AdapterKind compressed{"", "deep-lora", "compressed", ""};
  CHECK_THROWS_WITH(make(narrow, 7), contains("1..6") && contains("got 7"));
  CHECK_THROWS_AS(make(narrow, 0), ValueError);
  CHECK_THROWS_AS(make({"", "deep-lora", "narrow", "", 2}, 2), ValueError);
  CHECK_THROWS_WITH(make(compressed, 3), contains("even"));
  CHECK_THROWS_AS(make({"", "deep-lora", "narow", ""}, 2), ValueError);
  CHECK_THROWS_AS(make({"", "lora", "", "papr"}, 2), ValueError);
  CHECK_THROWS_AS(make({"", "lora", "", "paper"}, 0), ValueError);
  CHECK_THROWS_WITH(adapter_method<double>("deep-lra"), contains("did you mean 'deep-lora'?"));
  AdapterSite<double> site;
  site.weight = Tensor<double>::zeros({8, 6});
  CHECK_THROWS_WITH(
      adapter_method<double>("deep-lora").make(site, adapter_options_of(compressed, 4, 1e-3)),
      contains("gradient"));
}

TEST_CASE("adapters: the compressed form is the authors' construction", "[adapters][T4]") {
  // U, V come from an O that is never formed. An O that gives them is completed here, and the
  // authors' path is walked with it: for square weights by the intersection of null spaces, for
  // others by the definition on the product's gradient.
  const index_t h = 3;
  for (const Shape& shape :
       {Shape{24, 24}, Shape{40, 24}, Shape{26, 24}, Shape{24, 40}, Shape{24, 26}}) {
    CAPTURE(shape.str());
    const index_t m = shape[0];
    const index_t n = shape[1];
    const Rng rng(8);
    const Tensor<double> g = rng.split("gradient").normal<double>(shape);
    const Svd<double> s = svd(g);
    const TopSingular<double> top = {slice(s.u, 1, 0, h), slice(s.s, 0, 0, h),
                                     transpose(s.vt.rows(0, h))};
    const AdapterKind kind{"", "deep-lora", "compressed", ""};
    const double eps = 0.1;
    const auto adapter =
        make_adapter(kind, Tensor<double>::zeros(shape), false, 2 * h, eps, rng, &top);
    std::map<std::string, Tensor<double>> p;
    for (const auto& [name, var] : adapter->named_parameters()) p[name] = var.value();
    REQUIRE(p.at("left").shape() == Shape{m, 2 * h});
    REQUIRE(p.at("right").shape() == Shape{n, 2 * h});
    for (const char* core : {"core.1", "core.2", "core.3"}) {
      CHECK(largest_difference(p.at(core), Tensor<double>::eye(2 * h, eps)) == 0);
    }

    // On the narrower side the factor is Q with O restricted to it on the other: Qᵀ O is known, the
    // rest is any isometry on what is left: O = Q (other)ᵀ + Q⊥ C, CᵀC = I - other otherᵀ.
    const bool tall = m >= n;
    const Tensor<double> q = tall ? p.at("left") : p.at("right");
    const Tensor<double> other = tall ? p.at("right") : p.at("left");
    const index_t small = std::min(m, n);
    CHECK(orthonormality_error(q) < 1e-13);
    const Tensor<double> gap = sub(Tensor<double>::eye(small), matmul(other, other, false, true));
    const Svd<double> e = svd(gap);  // symmetric and positive semi-definite
    index_t rank = 0;
    while (rank < small && e.s.at({rank}) > 1e-9) ++rank;
    REQUIRE(rank <= q.dim(0) - 2 * h);
    Tensor<double> c = e.vt.rows(0, rank).clone();
    for (index_t i = 0; i < rank; ++i) {
      for (index_t j = 0; j < small; ++j) c.mutable_data()[i * small + j] *= std::sqrt(e.s.at({i}));
    }
    const Tensor<double> rest = slice(orthogonal_complement(q), 1, 0, rank);
    const Tensor<double> isometry = add(matmul(q, other, false, true), matmul(rest, c));
    CHECK(orthonormality_error(isometry) < 1e-9);  // the square root of rounding in `gap`
    const Tensor<double> o = tall ? isometry : transpose(isometry);

    const Tensor<double> found = matmul(p.at("left"), p.at("right"), false, true);
    const auto product = outer_factors_from_product_gradient(g, o, h);
    CHECK(largest_difference(found, matmul(product.left, product.right, false, true)) < 1e-12);
    CHECK(largest_difference(adapter->delta(), scale(found, eps * eps * eps)) < 1e-15);
    if (m == n) {
      const Tensor<double> identity = Tensor<double>::eye(n, eps);
      const std::vector<Tensor<double>> initial = {scale(o, eps), identity, identity};
      const Tensor<double> first = scale(g, eps * eps);  // of W_1: (W_3 W_2)ᵀ G
      const auto theirs = outer_factors_by_intersection(initial, first, h);
      CHECK(largest_difference(found, matmul(theirs.left, theirs.right, false, true)) < 1e-12);
    }
  }
}

TEST_CASE("adapters: O of the compressed form is Haar-distributed", "[adapters][T4]") {
  // Over many streams the known part of O has the moments of a Haar-random isometry's: its entries
  // against fixed directions outside of U_h, V_h have mean 0 and mean square 1/m.
  const index_t m = 14;
  const index_t n = 10;
  const index_t h = 2;
  Rng rng(9);
  const Tensor<double> u = haar_orthogonal<double>(rng, m, h);
  const Tensor<double> v = haar_orthogonal<double>(rng, n, h);
  double ov = 0;  // (O v_1 · w)², w any unit vector
  double uo = 0;  // (u_1 · O w)²
  double cross = 0;
  const int draws = 1500;
  const Tensor<double> wm = haar_orthogonal<double>(rng, m, 1);
  const Tensor<double> wn = haar_orthogonal<double>(rng, n, 1);
  for (int i = 0; i < draws; ++i) {
    const auto f = outer_factors_of_isometry(u, v, Rng(static_cast<std::uint64_t>(i)));
    // O V_h = left (rightᵀ V_h) and OᵀU_h = right (leftᵀ U_h): both lie in the factors.
    const Tensor<double> image = matmul(f.left, matmul(f.right, v, true, false));
    const Tensor<double> back = matmul(f.right, matmul(f.left, u, true, false));
    ov += std::pow(matmul(wm, image, true, false).data()[0], 2);
    uo += std::pow(matmul(wn, back, true, false).data()[0], 2);
    cross += std::pow(matmul(u, image, true, false).data()[0], 2);
  }
  const double expected = 1.0 / static_cast<double>(m);
  const double error = 4 * expected * std::sqrt(2.0 / draws);
  CHECK(std::abs(ov / draws - expected) < error);
  CHECK(std::abs(uo / draws - expected) < error);
  CHECK(std::abs(cross / draws - expected) < error);
}
