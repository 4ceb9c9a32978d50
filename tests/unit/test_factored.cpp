// Factored layers: what they compute, their names, adapters on them, and models that have them.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/factored.hpp>
#include <parsimony/files.hpp>

#include <cmath>

#include "support/catch.hpp"
#include "support/small_bert.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

/// Factors two layers of the model by the SVD of random values.
void factor_some(Bert<double>& model) {
  Rng rng(3);
  for (auto& layer : compressible_layers(model)) {
    if (layer.name != "bert.encoder.layer.0.attention.self.query" &&
        layer.name != "bert.encoder.layer.1.output.dense") {
      continue;
    }
    layer.layer->factor(Var<double>(rng.normal<double>({3, layer.layer->in()}), true),
                        Var<double>(rng.normal<double>({layer.layer->out(), 3}), true),
                        Var<double>(rng.normal<double>({layer.layer->out()}), true));
  }
}

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("factored linear: a pair computes what its product does, with r(m + n) + m numbers") {
  const Rng rng(1);
  Linear<double> layer(6, 5, rng.split("layer"), 1);
  Rng draws = rng.split("factors");
  const Var<double> a(draws.normal<double>({2, 6}), true);
  const Var<double> b(draws.normal<double>({5, 2}), true);
  const Var<double> bias(draws.normal<double>({5}), true);
  const Var<double> dense_weight = layer.weight;
  const Var<double> dense_bias = layer.bias;
  layer.factor(a, b, bias);
  CHECK(layer.factored());
  CHECK(layer.rank() == 2);
  CHECK_FALSE(layer.weight.defined());
  CHECK(layer.parameter_count() == 2 * (6 + 5) + 5);
  std::vector<std::string> names;
  for (const auto& [name, var] : layer.named_parameters()) names.push_back(name);
  CHECK(names == std::vector<std::string>{"reduce.weight", "expand.weight", "expand.bias"});

  const Var<double> x(draws.normal<double>({3, 6}));
  Pass pass;
  const Tensor<double> expected =
      add(matmul(x.value(), matmul(b.value(), a.value()), false, true), bias.value());
  CHECK(max_abs(sub(layer(x, pass).value(), expected)) < 1e-12);

  layer.unfactor(dense_weight, dense_bias);
  CHECK(layer.rank() == 0);
  CHECK(max_abs(sub(layer(x, pass).value(), linear(x, dense_weight, dense_bias).value())) == 0);
  CHECK_THROWS_AS(layer.factor(b, a, bias), ShapeError);
  CHECK_THROWS_AS(layer.reduce(), ValueError);
}

TEST_CASE("rank for share: at most the share, at least one, rounded where a multiple exists") {
  CHECK(rank_for_share(0.5, 64, 64) == 16);
  CHECK(rank_for_share(0.2, 64, 64) == 6);
  CHECK(rank_for_share(0.2, 64, 64, 8) == 6);
  CHECK(rank_for_share(0.5, 172, 64, 8) == 16);
  CHECK(rank_for_share(1e-9, 64, 64) == 1);
  for (const double share : {0.1, 0.33, 0.7, 0.9}) {
    const index_t r = rank_for_share(share, 172, 64);
    CHECK(static_cast<double>(pair_size(r, 172, 64)) <= share * 172 * 64);
    CHECK(static_cast<double>(pair_size(r + 1, 172, 64)) > share * 172 * 64);
  }
  CHECK_THROWS_AS(rank_for_share(0, 4, 4), ValueError);
}

TEST_CASE("factored models: a folder rebuilds structure and values, with any head") {
  const TempFolder folder;
  Bert<double> model(small_bert(), BertHead::classifier, Rng(2));
  factor_some(model);
  model.save(folder.path());
  const auto loaded = load_bert<double>(folder.path(), BertHead::classifier, Rng(5));
  CHECK(factored_ranks(*loaded) == factored_ranks(model));
  CHECK(factored_ranks(model).size() == 2);
  Pass one;
  Pass two;
  const Tensor<double> y = model.logits(small_batch(), one).value();
  CHECK(max_abs(sub(loaded->logits(small_batch(), two).value(), y)) < 1e-6);
  const auto headless = load_bert<double>(folder.path(), BertHead::none, Rng(5));
  CHECK(factored_ranks(*headless).size() == 2);

  const std::string config = read_file(folder.path() + "/config.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    write_file_atomically(folder.path() + "/config.json", text);
    return message([&] { load_bert<double>(folder.path(), BertHead::classifier, Rng(5)); });
  };
  CHECK_THAT(with("query\": 3", "query\": 2"), contains("expected (2, 12)"));
  CHECK_THAT(with("query\": 3", "query\": 13"), contains("1..12"));
  CHECK_THAT(with("query\": 3", "query\": -1"), contains("at least 1"));
  CHECK_THAT(with("query\": 3", "query\": \"a\""), contains("at least 1"));
  CHECK_THAT(with("self.query\": 3", "self.qwery\": 3"), contains("query.weight"));
}

TEST_CASE("factored models: adapters go to both factors, and merge into them") {
  Bert<double> model(small_bert(), BertHead::classifier, Rng(2));
  factor_some(model);
  std::vector<std::string> names;
  for (const auto& t : adapter_targets(model, "query-value")) names.push_back(t.name);
  CHECK(names == std::vector<std::string>{"bert.encoder.layer.0.attention.self.query.reduce",
                                          "bert.encoder.layer.0.attention.self.query.expand",
                                          "bert.encoder.layer.0.attention.self.value",
                                          "bert.encoder.layer.1.attention.self.query",
                                          "bert.encoder.layer.1.attention.self.value"});
  CHECK(adapter_targets(model, "output.dense").size() == 5);
  CHECK(adapter_targets(model, "query.expand").size() == 1);
  AdapterOptions options{"lora"};
  options.set("rank", index_t{2});
  attach_adapters(model, "attention-mlp", options, Rng(1));
  Rng rng(8);
  for (auto& [name, var] : model.named_parameters()) {
    if (var.requires_grad()) var.assign(rng.normal<double>(var.shape(), 0.3));
  }
  const TempFolder folder;
  model.save(folder.path());
  const auto merged = load_bert<double>(folder.path(), BertHead::classifier, Rng(5));
  CHECK(factored_ranks(*merged) == factored_ranks(model));
  Pass one;
  Pass two;
  const Tensor<double> y = model.logits(small_batch(), one).value();
  CHECK(max_abs(sub(merged->logits(small_batch(), two).value(), y)) < 1e-5);
}
