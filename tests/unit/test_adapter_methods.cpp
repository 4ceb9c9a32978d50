// What every adapter method owes: a start that is the base model, the count of its formula,
// gradients, an exact merge, its LoRA pair or a refusal, and folders that come back to the bit.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/ops.hpp>

#include <filesystem>
#include <memory>
#include <set>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/temp_folder.hpp"
#include "unit/adapter_table.hpp"

namespace parsimony::testing {
namespace {

namespace fs = std::filesystem;
constexpr index_t side_in = 13, side_out = 11, rank = 2;

AdapterOptions with_rank(AdapterOptions options, index_t r) {
  if (options.values.count("rank") == 0) options.set("rank", r);
  return options;
}

template <class T>
AdapterSite<T> site_of(bool embedding) {
  AdapterSite<T> site;
  Rng weight = Rng(3).split("w");
  site.weight = embedding ? weight.normal<T>({side_in, side_out}, 0.4)
                          : weight.normal<T>({side_out, side_in}, 0.4);
  site.rows_are_inputs = embedding;
  site.rng = Rng(4);
  site.name = "layer";
  return site;
}

template <class T>
std::unique_ptr<Adapter<T>> made(const AdapterRow& row, bool embedding = false) {
  return adapter_method<T>(row.options.method)
      .make(site_of<T>(embedding), with_rank(row.options, rank));
}

/// Moves every parameter off its start.
template <class T>
void disturb(Adapter<T>& adapter, double size = 0.3) {
  Rng rng(17);
  for (auto& [name, var] : adapter.named_parameters()) {
    var.assign(add(var.value(), rng.normal<T>(var.shape(), size)));
  }
}

template <class F>
void for_each_row(F f) {
  for (const AdapterRow& row : adapter_table()) {
    INFO(row.title);
    f(row, false);
    if (adapter_info(row.options.method).embeddings) f(row, true);
  }
}

TEST_CASE("adapters: every method has a row, options of one type, and help") {
  std::set<std::string> rows;
  for (const AdapterRow& row : adapter_table()) rows.insert(row.options.method);
  std::map<std::string, std::size_t> types;
  for (const std::string& method : adapter_methods()) {
    INFO(method);
    CHECK(rows.count(method) == 1);
    CHECK(!adapter_info(method).summary.empty());
    for (const auto& option : adapter_info(method).options) {
      CHECK(!option.help.empty());
      const auto [known, fresh] = types.emplace(option.key, option.value.index());
      CHECK(known->second == option.value.index());
    }
  }
}

/// Layers from 13 to 12 with an adapter each, off its start.
template <class T>
struct KeyAndValue {
  explicit KeyAndValue(const AdapterRow& row, bool with_bias)
      : key(side_in, 12, Rng(5), 0.4, with_bias), value(side_in, 12, Rng(6), 0.4, with_bias) {
    for (Linear<T>* layer : {&key, &value}) {
      layer->weight.set_requires_grad(false);
      if (with_bias) layer->bias.assign(Rng(7).normal<T>({12}));
      AdapterSite<T> site = site_of<T>(false);
      site.weight = layer->weight.value();
      layer->adapt(adapter_method<T>(row.options.method).make(site, with_rank(row.options, rank)));
      disturb(*layer->adapter());
    }
  }
  Linear<T> key, value;
};

TEST_CASE("adapters: a class token's attention by the layers' weights is that by keys and values") {
  std::size_t sums = 0;
  for (const AdapterRow& row : adapter_table()) {
    for (const bool with_bias : {true, false}) {
      for (const double drop : {0.0, 0.3}) {
        CAPTURE(row.title, with_bias, drop);
        KeyAndValue<double> layers(row, with_bias);
        const Tensor<std::uint8_t> mask({3, 4}, {1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0});
        const auto run = [&](bool by_weights) {
          Var<double> x(Rng(1).normal<double>({3, 4, side_in}), true);
          Var<double> query(Rng(2).normal<double>({3, 1, 12}), true);
          Pass pass(Rng(3));
          const std::optional<Var<double>> y =
              by_weights ? class_attention(query, x, layers.key, layers.value, 3, mask, drop, pass)
                         : attention(query, layers.key(x, pass), layers.value(x, pass), 3, mask,
                                     drop, pass.next());
          std::vector<Tensor<double>> out;
          REQUIRE(y);
          backward(*y, Rng(4).normal<double>(y->shape()));
          out = {y->value(), x.grad(), query.grad()};
          for (Linear<double>* layer : {&layers.key, &layers.value}) {
            for (auto& [name, var] : layer->named_parameters()) {
              // The softmax does not see what all scores have in common.
              const bool nought = layer == &layers.key && name == "bias";
              if (!nought && var.requires_grad()) out.push_back(var.grad());
              var.zero_grad();
            }
          }
          return out;
        };
        const auto few = run(true);
        REQUIRE(layers.key.adapter()->is_sum());
        ++sums;
        const auto all = run(false);
        REQUIRE(few.size() == all.size());
        for (std::size_t i = 0; i < few.size(); ++i) {
          CAPTURE(i);
          CHECK(largest_difference(few[i], all[i]) < 1e-12);
        }
      }
    }
  }
  CHECK(sums == 4 * adapter_table().size());
  // Not where the input of the update drops out, nor with an adapter that only looks on.
  const KeyAndValue<double> layers({"", AdapterOptions{"lora"}, nullptr, nullptr}, true);
  CHECK(layers.key.as_weight(Pass(Rng(3))));
  CHECK_FALSE(layers.key.as_weight(Pass(Rng(3), 0.3)));
  Linear<double> watched(side_in, 12, Rng(5), 0.4);
  watched.adapt(std::make_unique<GradientProbe<double>>(watched.weight.shape(), 2, Rng(1)));
  CHECK_FALSE(watched.as_weight(Pass()));
}

TEST_CASE("adapters: the start is the base layer, the count is the formula's") {
  for_each_row([](const AdapterRow& row, bool embedding) {
    const auto adapter = made<double>(row, embedding);
    CHECK(adapter->parameter_count() == row.count(side_in, side_out, rank));
    CHECK(max_abs(adapter->delta()) <= std::max(row.start, 1e-14));
    const auto same = made<double>(row, embedding);
    CHECK(largest_difference(adapter->delta(), same->delta()) == 0);
  });
}

template <class T>
void check_merge(double tolerance) {
  for_each_row([&](const AdapterRow& row, bool embedding) {
    const auto adapter = made<T>(row, embedding);
    disturb(*adapter);
    const AdapterSite<T> site = site_of<T>(embedding);
    const Var<T> weight(site.weight);
    const Tensor<T> merged = add(site.weight, adapter->delta());
    CHECK(max_abs(adapter->delta()) > 1e-7);
    if (embedding) {
      // Fewer ids than rows, and more.
      for (const index_t count : {index_t{5}, 2 * side_in}) {
        Tensor<std::int64_t> ids({count});
        for (index_t i = 0; i < count; ++i) ids.mutable_data()[i] = 7 * i % side_in;
        const Var<T> got = adapter->rows(ids, weight);
        CHECK(largest_difference(got.value(), gather_rows(Var<T>(merged), ids).value()) <
              tolerance);
      }
      return;
    }
    const Var<T> bias(Rng(6).normal<T>({side_out}));
    for (const index_t rows : {index_t{3}, index_t{70}}) {  // through the factors, and materialised
      const Var<T> x(Rng(5).normal<T>({rows, side_in}));
      for (const Var<T>& b : {bias, Var<T>()}) {
        Pass pass;
        const Var<T> got = adapter->linear(x, weight, b, pass);
        CHECK(largest_difference(got.value(), linear(x, Var<T>(merged), b).value()) < tolerance);
      }
    }
  });
}

TEST_CASE("adapters: merged and unmerged layers agree") {
  check_merge<double>(1e-12);
  check_merge<float>(1e-5);
}

TEST_CASE(
    "adapters: gradients agree with differences, forwards as linear layers and as embeddings") {
  for_each_row([](const AdapterRow& row, bool embedding) {
    if (!row.exact_gradient) return;
    const auto adapter = made<double>(row, embedding);
    disturb(*adapter);
    const AdapterSite<double> site = site_of<double>(embedding);
    const Tensor<std::int64_t> ids({2, 3}, {4, 0, 4, 12, 7, 1});
    const Var<double> x(Rng(5).normal<double>({40, side_in}), true);
    const auto loss = [&](bool dense) {
      Pass pass;
      const Var<double> weight(site.weight);
      if (dense) {
        const WeightUpdate<double> u = adapter->update();
        return sum(square(u.dense.defined() ? u.dense : matmul(u.left, u.right)));
      }
      return sum(square(embedding ? adapter->rows(ids, weight)
                                  : adapter->linear(x, weight, Var<double>(), pass)));
    };
    for (const bool dense : {false, true}) {
      for (auto& [name, var] : adapter->named_parameters()) var.zero_grad();
      backward(loss(dense));
      for (auto& [name, var] : adapter->named_parameters()) {
        INFO(name << (dense ? ", update" : ", layer"));
        const Tensor<double> at = var.value().clone();
        const Tensor<double> along = Rng(9).split(name).normal<double>(var.shape());
        const double h = 1e-5;
        var.assign(add(at, scale(along, h)));
        const double up = loss(dense).item();
        var.assign(add(at, scale(along, -h)));
        const double down = loss(dense).item();
        var.assign(at);
        const double expected = (up - down) / (2 * h);
        CHECK(std::abs(dot(var.grad(), along) - expected) < 1e-6 * (1 + std::abs(expected)));
      }
    }
  });
}

TEST_CASE("adapters: dropout acts on the adapter's input alone, in training alone") {
  const Var<double> x(Rng(5).normal<double>({40, side_in}));
  const Var<double> bias(Rng(6).normal<double>({side_out}));
  const Var<double> weight(site_of<double>(false).weight);
  for (const AdapterRow& row : adapter_table()) {
    INFO(row.title);
    AdapterRow dropping = row;
    dropping.options.set("adapter_dropout", 0.5);
    if (!adapter_config(row.options).has("adapter_dropout")) {
      CHECK_THROWS_AS(made<double>(dropping), ValueError);
      continue;
    }
    const auto adapter = made<double>(dropping);
    const auto run = [&](Pass pass) { return adapter->linear(x, weight, bias, pass).value(); };
    if (row.start == 0) {  // nothing to drop from: the base's part is left alone
      CHECK(largest_difference(run(Pass(Rng(1))), linear(x, weight, bias).value()) < 1e-12);
    }
    disturb(*adapter);
    CHECK(largest_difference(run(Pass(Rng(1))), run(Pass(Rng(1)))) == 0);
    CHECK(largest_difference(run(Pass(Rng(1))), run(Pass(Rng(2)))) > 1e-3);
    // Unbiased: the mean over draws comes near the layer without dropout.
    Tensor<double> mean = Tensor<double>::zeros({40, side_out});
    const int draws = 400;
    for (int i = 0; i < draws; ++i) {
      const auto stream = static_cast<std::uint64_t>(i);
      mean = add(mean, scale(run(Pass(Rng(3).split(stream))), 1.0 / draws));
    }
    const double noise = largest_difference(run(Pass(Rng(1))), run(Pass()));
    CHECK(largest_difference(mean, run(Pass())) < 0.3 * noise);
    CHECK_THROWS_WITH(
        made<double>({"", AdapterOptions(row.options).set("adapter_dropout", 1.0), {}, {}}),
        contains("adapter_dropout: expected 0 or more, below 1; got 1"));
  }
}

TEST_CASE("adapters: the LoRA pair is the update, of the rank it says, or there is none") {
  for_each_row([](const AdapterRow& row, bool embedding) {
    const auto adapter = made<double>(row, embedding);
    disturb(*adapter);
    if (row.pair_rank == nullptr) {
      CHECK_THROWS_AS(adapter->to_lora(), ValueError);
      return;
    }
    const LoraPair<double> pair = adapter->to_lora();
    CHECK(pair.rank() == row.pair_rank(side_in, side_out, rank));
    CHECK(pair.a.shape() == Shape{pair.rank(), side_in});
    CHECK(pair.b.shape() == Shape{side_out, pair.rank()});
    const Tensor<double> product = matmul(pair.b, pair.a);
    CHECK(largest_difference(embedding ? transpose(product) : product, adapter->delta()) < 1e-12);
  });
}

std::unique_ptr<Bert<float>> small_model(std::uint64_t seed, index_t layers = 1) {
  BertConfig config;
  config.vocab_size = 60;
  config.hidden_size = 32;
  config.num_attention_heads = 2;
  config.num_hidden_layers = layers;
  config.intermediate_size = 48;
  config.max_position_embeddings = 16;
  return std::make_unique<Bert<float>>(config, BertHead::classifier, Rng(seed));
}

Tensor<float> logits(const Bert<float>& model) {
  TokenBatch batch;
  batch.ids = Tensor<std::int64_t>({2, 4}, {1, 5, 59, 3, 2, 2, 40, 7});
  batch.type_ids = Tensor<std::int64_t>::zeros({2, 4});
  const NoGrad no_grad;
  Pass pass;
  return model.logits(batch, pass).value();
}

void disturb_all(Module<float>& model) {
  for (const auto& [name, module] : model.named_modules()) {
    auto* adapter = dynamic_cast<Adapter<float>*>(module);
    if (adapter != nullptr) disturb(*adapter, 0.1);
  }
}

void step(Bert<float>& model, Optimizer<float>& optimizer, std::uint64_t number) {
  TokenBatch batch;
  Rng rng = Rng(8).split(number);
  batch.ids = Tensor<std::int64_t>({3, 5});
  for (index_t i = 0; i < 15; ++i) batch.ids.mutable_data()[i] = rng.below(60);
  batch.type_ids = Tensor<std::int64_t>::zeros({3, 5});
  Pass pass(rng.split("dropout"));
  backward(cross_entropy(model.logits(batch, pass), Tensor<std::int64_t>({3}, {0, 1, 0})));
  optimizer.step();
}

TEST_CASE("adapters: a folder comes back to the bit, and so does training from its state") {
  for (const AdapterRow& row : adapter_table()) {
    INFO(row.title);
    const AdapterOptions options = with_rank(row.options, 2);
    TempFolder folder;
    auto model = small_model(1);
    attach_adapters<float>(*model, "all-dense", options, Rng(5));
    const auto before = model->parameter_count();
    disturb_all(*model);
    AdamW<float> optimizer(trainable_groups<float>(*model), 1e-3);
    for (std::uint64_t i = 0; i < 2; ++i) step(*model, optimizer, i);
    save_adapters<float>(*model, folder.path(), "all-dense", options, {});
    auto loaded = small_model(1);
    const AdapterFolder found = load_adapters<float>(*loaded, folder.path());
    CHECK(found.options.method == options.method);
    CHECK(loaded->parameter_count() == before);
    CHECK(largest_difference(logits(*loaded), logits(*model)) == 0);
    // Parameters and moments are all of the state: the loaded model goes on as the other does.
    AdamW<float> resumed(trainable_groups<float>(*loaded), 1e-3);
    const auto from = optimizer.state();
    auto to = resumed.state();
    REQUIRE(from.size() == to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      std::copy(from[i].second.begin(), from[i].second.end(), to[i].second.mutable_data());
    }
    Tensor<double> steps = resumed.counter();
    steps.mutable_data()[0] = optimizer.counter().item();
    step(*model, optimizer, 2);
    step(*loaded, resumed, 2);
    CHECK(largest_difference(logits(*loaded), logits(*model)) == 0);
  }
}

TEST_CASE("adapters: folders for another model, other weights or another method are refused") {
  for (const AdapterRow& row : adapter_table()) {
    INFO(row.title);
    const AdapterOptions options = with_rank(row.options, 2);
    TempFolder folder;
    auto model = small_model(1);
    attach_adapters<float>(*model, "query-value", options, Rng(5));
    save_adapters<float>(*model, folder.path(), "query-value", options, {});
    auto deeper = small_model(1, 2);
    CHECK_THROWS_WITH(load_adapters<float>(*deeper, folder.path()), contains("another model"));
    auto other = small_model(2);
    CHECK_THROWS_WITH(load_adapters<float>(*other, folder.path()),
                      contains("its base had other weights"));
  }
  TempFolder folder;
  auto model = small_model(1);
  attach_adapters<float>(*model, "query-value", {"lora", {{"rank", index_t{2}}}}, Rng(5));
  save_adapters<float>(*model, folder.path(), "query-value", {"lora", {{"rank", index_t{2}}}}, {});
  const std::string config = folder / "adapter_config.json";
  std::string text = read_file(config);
  const auto lora = text.find("\"lora\"");
  write_raw(config, text.replace(lora, 6, "\"dora\""));
  CHECK_THROWS_WITH(load_adapters<float>(*small_model(1), folder.path()), contains("is missing"));
  write_raw(config, text.replace(text.find("\"dora\""), 6, "\"doar\""));
  CHECK_THROWS_WITH(load_adapters<float>(*small_model(1), folder.path()),
                    contains("did you mean 'dora'?"));
  write_raw(config, text.replace(text.find("\"doar\""), 6, "\"rslora\""));
  CHECK_THROWS_WITH(load_adapters<float>(*small_model(1), folder.path()), contains("is missing"));
}

TEST_CASE("adapters: wrong options and layers are refused by name") {
  auto model = small_model(1);
  const auto attach = [&](const std::string& set, const AdapterOptions& options) {
    attach_adapters<float>(*model, set, options, Rng(1));
  };
  for (const AdapterRow& row : adapter_table()) {
    if (row.title == "deep-lora, full") continue;  // its width is the layer's
    INFO(row.title);
    AdapterOptions large = row.options;
    CHECK_THROWS_WITH(
        attach("query-value", large.set("rank", index_t{1000})),
        contains("layer 'bert.encoder.layer.0.attention.self.query' (32, 32): rank: "));
  }
  CHECK_THROWS_WITH(attach("query-value", {"lora", {{"gamma", 0.1}}}),
                    contains("lora: there is no option 'gamma'; it belongs to deep-lora"));
  CHECK_THROWS_WITH(attach("query-value", {"nola", {{"base", index_t{3}}}}),
                    contains("nola: there is no option 'base'; did you mean 'bases'?"));
  CHECK_THROWS_WITH(attach("query-value", {"lora", {{"alpha", "much"}}}),
                    contains("alpha: expected a number; got 'much'"));
  CHECK_THROWS_WITH(attach("query-value", {"mora", {{"mora_type", index_t{5}}}}),
                    contains("expected 1, 2, 3, 4 or 6; got 5"));
  CHECK_THROWS_WITH(attach("query,vlaue", {"lora"}), contains("did you mean 'value'?"));
  CHECK_THROWS_WITH(attach("word_embeddings", {"mora"}), contains("for linear layers"));
  attach("all-dense", {"mora", {{"rank", index_t{2}}}});  // leaves the embedding out
  for (const auto& target : adapter_targets<float>(*model, "all-dense")) {
    CHECK((target.layer->adapter() == nullptr) == target.rows_are_inputs);
  }
}

}  // namespace
}  // namespace parsimony::testing
