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
