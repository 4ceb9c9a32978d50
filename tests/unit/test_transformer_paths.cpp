// Fast paths of the transformer ops against what they stand for: the kernels of low-rank updates
// against the composed products, the classifier's one-row last layer against the whole one.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/threads.hpp>

#include <algorithm>
#include <cmath>

#include "support/catch.hpp"
#include "support/numbers.hpp"

namespace parsimony {
namespace {

using testing::largest_difference;

/// x, weight, left and right of a layer, as leaves.
template <class T>
std::vector<Var<T>> layer_inputs(index_t rows, index_t out, index_t in, index_t rank) {
  const Rng rng(3);
  const double scale = 1 / std::sqrt(static_cast<double>(in));
  return {Var<T>(rng.split("x").normal<T>({rows, in}), true),
          Var<T>(rng.split("w").normal<T>({out, in}, scale)),
          Var<T>(rng.split("left").normal<T>({out, rank}), true),
          Var<T>(rng.split("right").normal<T>({rank, in}, scale), true)};
}

/// The value and the gradients of x, left and right under a fixed upstream gradient.
template <class T, class F>
std::vector<Tensor<T>> run(std::vector<Var<T>> v, F f) {
  const Var<T> y = f(v);
  std::vector<Tensor<T>> out{y.value()};
  backward(y, Rng(4).normal<T>(y.shape()));
  for (const std::size_t i : {0, 2, 3}) out.push_back(v[i].grad());
  return out;
}

template <class T>
std::vector<Tensor<T>> low_rank(index_t rows, index_t out, index_t in, index_t rank) {
  return run<T>(layer_inputs<T>(rows, out, in, rank), [](const std::vector<Var<T>>& v) {
    return low_rank_linear(v[0], v[1], Var<T>(), v[2], v[3]);
  });
}

template <class T>
void check_against_composition(double tolerance) {
  // Ranks with whole, broken and several groups of eight, and beyond the kernels; sides with and
  // without whole vectors; few rows and several chunks of them.
  const index_t cases[][4] = {{600, 32, 48, 8},  {300, 33, 21, 8},  {40, 64, 70, 4},
                              {520, 19, 96, 12}, {700, 40, 23, 16}, {1, 24, 24, 8},
                              {900, 37, 35, 3},  {400, 80, 80, 33}, {257, 5, 530, 1}};
  for (const auto& [rows, out, in, rank] : cases) {
    const auto fast = low_rank<T>(rows, out, in, rank);
    const auto plain = run<T>(
        layer_inputs<T>(rows, out, in, rank),
        [](const std::vector<Var<T>>& v) { return linear(v[0], add(v[1], matmul(v[2], v[3]))); });
    for (std::size_t i = 0; i < fast.size(); ++i) {
      INFO(rows << " rows, " << out << " x " << in << ", rank " << rank << ", result " << i);
      CHECK(largest_difference(fast[i], plain[i]) <
            tolerance * std::sqrt(static_cast<double>(rows * out * in)));
    }
  }
}

TEST_CASE("low-rank layer: values and gradients are those of the composed products") {
  check_against_composition<float>(3e-6);
  check_against_composition<double>(5e-15);
}

TEST_CASE("low-rank layer: the same bits for any number of threads") {
  const int before = num_threads();
  set_num_threads(1);
  const auto one = low_rank<float>(2000, 96, 144, 8);
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    const auto many = low_rank<float>(2000, 96, 144, 8);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(largest_difference(one[i], many[i]) == 0);
  }
  set_num_threads(before);
}

TEST_CASE("attention: leading queries come out as among all of them") {
  const Rng rng(8);
  const Tensor<std::uint8_t> mask({2, 5}, {1, 1, 1, 1, 1, 1, 0, 1, 0, 0});
  const auto x = [&](const char* name) {
    return Var<double>(rng.split(name).normal<double>({2, 5, 6}));
  };
  for (const double p : {0.0, 0.4}) {
    const auto all = attention(x("q"), x("k"), x("v"), 2, mask, p, rng);
    const auto some = attention(slice(x("q"), 1, 0, 2), x("k"), x("v"), 2, mask, p, rng);
    CHECK(largest_difference(slice(all, 1, 0, 2).value(), some.value()) < 1e-14);
  }
}

TEST_CASE("attention: one query's heads that share keys are as heads with keys of their own") {
  const Rng rng(8);
  const Tensor<std::uint8_t> mask({3, 5}, {1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0});
  const auto x = [&](const char* name, const Shape& shape) {
    return Var<double>(rng.split(name).normal<double>(shape), true);
  };
  const auto twice = [](const Var<double>& shared) {  // keys of heads 0 and 1, then of 2 and 3
    const Var<double> a = slice(shared, 2, 0, 3);
    const Var<double> b = slice(shared, 2, 3, 6);
    return concat<double>({a, a, b, b}, 2);
  };
  for (const double p : {0.0, 0.4}) {
    const auto gradients = [&](bool shared) {
      std::vector<Var<double>> in{x("q", {3, 1, 12}), x("k", {3, 5, 6}), x("v", {3, 5, 6})};
      const Var<double> y = shared ? attention(in[0], in[1], in[2], {4, 2, false}, mask, p, rng)
                                   : attention(in[0], twice(in[1]), twice(in[2]), 4, mask, p, rng);
      backward(y, Rng(4).normal<double>(y.shape()));
      return std::vector<Tensor<double>>{y.value(), in[0].grad(), in[1].grad(), in[2].grad()};
    };
    const auto few = gradients(true);
    const auto all = gradients(false);
    for (std::size_t i = 0; i < few.size(); ++i) CHECK(largest_difference(few[i], all[i]) < 1e-14);
  }
}

TEST_CASE("class attention: layers stored as pairs, and what does not fit") {
  const auto factor = [](Linear<double>& layer, const Rng& rng) {
    layer.factor(Var<double>(rng.split("a").normal<double>({2, 7}), true),
                 Var<double>(rng.split("b").normal<double>({6, 2}), true),
                 Var<double>(rng.split("bias").normal<double>({6}), true));
  };
  Linear<double> key(7, 6, Rng(1), 0.4);
  Linear<double> value(7, 6, Rng(1), 0.4);
  factor(key, Rng(1));
  factor(value, Rng(2));
  const auto run = [&](bool by_weights) {
    Var<double> x(Rng(3).normal<double>({2, 5, 7}), true);
    Var<double> query(Rng(4).normal<double>({2, 1, 6}), true);
    Pass pass(Rng(5));
    const Var<double> y =
        by_weights ? class_attention(query, x, key, value, 2, {}, 0.3, pass).value()
                   : attention(query, key(x, pass), value(x, pass), 2, {}, 0.3, pass.next());
    backward(y, Rng(6).normal<double>(y.shape()));
    std::vector<Tensor<double>> out{y.value(), x.grad(), query.grad()};
    for (const Linear<double>* layer : {&key, &value}) {
      for (Var<double> var : {layer->reduce().weight, layer->expand().weight}) {
        out.push_back(var.grad());
        var.zero_grad();
      }
    }
    return out;
  };
  const auto few = run(true);
  const auto all = run(false);
  for (std::size_t i = 0; i < few.size(); ++i) CHECK(largest_difference(few[i], all[i]) < 1e-13);
  Pass pass;
  const Var<double> x(Tensor<double>::zeros({2, 5, 7}));
  CHECK_THROWS_AS(class_attention(x, x, key, value, 2, {}, 0.0, pass), ShapeError);
}

TEST_CASE("dropout: some rows of sequences come out as among all of them") {
  const Rng rng(8);
  const Var<double> x(rng.split("x").normal<double>({2, 5, 130}));
  const Var<double> flat = reshape(x, {10, 130});
  const RowPlaces places{Tensor<std::int64_t>({4}, {0, 2, 5, 9}), 5};
  const Var<double> all = reshape(dropout(x, 0.4, rng), {10, 130});
  const Var<double> some = dropout(gather_rows(flat, places.rows), 0.4, rng, places);
  CHECK(largest_difference(gather_rows(all, places.rows).value(), some.value()) == 0);
  CHECK_THROWS_AS(dropout(flat, 0.4, rng, places), ShapeError);
}

TEST_CASE("bert: padding changes nothing in training, dropout and adapters included") {
  const Rng rng(4);
  const auto model =
      std::make_unique<Bert<double>>(BertConfig::sized("tiny", 40), BertHead::classifier, rng);
  model->set_requires_grad(false);
  AdapterOptions options{"lora"};
  options.set("init", std::string("peft"));  // the one whose input drops out
  options.set("adapter_dropout", 0.3);
  attach_adapters(*model, "all-dense", options, rng.split("adapters"));
  std::vector<Var<double>> trained;
  for (const auto& [name, var] : model->named_parameters()) {
    if (var.requires_grad()) trained.push_back(var);
  }
  const std::vector<index_t> lengths = {6, 3, 1};
  const auto gradients = [&](index_t padded) {
    TokenBatch batch;
    batch.ids = Tensor<std::int64_t>::zeros({3, padded});
    batch.type_ids = Tensor<std::int64_t>::zeros({3, padded});
    batch.mask = Tensor<std::uint8_t>::zeros({3, padded});
    for (index_t b = 0; b < 3; ++b) {
      for (index_t i = 0; i < lengths[static_cast<std::size_t>(b)]; ++i) {
        batch.ids.mutable_data()[b * padded + i] = (7 * i + 11 * b) % 40;
        batch.mask.mutable_data()[b * padded + i] = 1;
      }
    }
    Pass pass(rng.split("pass"));
    const Var<double> logits = model->logits(batch, pass);
    backward(sum(square(logits)));
    std::vector<Tensor<double>> out{logits.value()};
    for (Var<double>& var : trained) {
      out.push_back(var.grad());
      var.zero_grad();
    }
    return out;
  };
  const auto few = gradients(6);
  const auto many = gradients(11);
  REQUIRE(few.size() > 20);
  for (std::size_t i = 0; i < few.size(); ++i) CHECK(largest_difference(few[i], many[i]) < 1e-12);
}

TEST_CASE("bert: the classifier's short last layer gives the whole one's numbers and gradients") {
  BertConfig config = BertConfig::sized("tiny", 40);
  const Rng rng(2);
  const auto model = std::make_unique<Bert<double>>(config, BertHead::classifier, rng);
  TokenBatch batch;
  batch.ids = Tensor<std::int64_t>({3, 6});
  for (index_t i = 0; i < 18; ++i) batch.ids.mutable_data()[i] = 7 * i % 40;
  batch.type_ids = Tensor<std::int64_t>::zeros({3, 6});
  batch.mask = Tensor<std::uint8_t>({3, 6}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0});
  Var<double> weight;
  Var<double> bias;
  std::vector<Var<double>> inner;
  for (const auto& [name, var] : model->named_parameters()) {
    if (name == "classifier.weight") weight = var;
    if (name == "classifier.bias") bias = var;
    if (name.find("layer.") != std::string::npos) inner.push_back(var);
  }
  const auto gradients = [&](const Var<double>& logits) {
    backward(sum(square(logits)));
    std::vector<Tensor<double>> out{logits.value()};
    for (Var<double>& var : inner) {
      out.push_back(var.grad());
      var.zero_grad();
    }
    return out;
  };
  Pass short_pass(rng.split("pass"));
  const auto few = gradients(model->logits(batch, short_pass));
  Pass whole_pass(rng.split("pass"));
  const Var<double> features = model->pooled(model->hidden(batch, whole_pass), whole_pass);
  const auto all = gradients(
      linear(dropout(features, config.hidden_dropout_prob, whole_pass.next()), weight, bias));
  for (std::size_t i = 0; i < few.size(); ++i) CHECK(largest_difference(few[i], all[i]) < 1e-12);
}

}  // namespace
}  // namespace parsimony
