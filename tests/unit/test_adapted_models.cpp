// Adapters on a model: what trains and what stays, the two learning rates of AdamW, gradient
// subspaces without the gradient, saving and loading, and folders that belong to another model.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/ops.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "support/adapters.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/small_bert.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

template <class T>
Var<T> loss_of(const Bert<T>& model) {
  Pass pass;
  return cross_entropy(model.logits(small_batch(), pass), Tensor<std::int64_t>({3}, {0, 1, 1}));
}

template <class T>
std::map<std::string, Tensor<T>> values_of(const Module<T>& model) {
  std::map<std::string, Tensor<T>> out;
  for (const auto& [name, var] : model.named_parameters()) out[name] = var.value().clone();
  return out;
}

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

template <class T>
void attach(Bert<T>& model, const AdapterKind& kind, const std::string& set = "all-dense") {
  const AdapterOptions options = adapter_options_of(kind, 4, 0.05);
  const auto gradients =
      probe_gradients<T>(model, set, options, Rng(2), [&] { return loss_of(model); });
  attach_adapters<T>(model, set, options, Rng(3), gradients);
}

/// A module with one table.
struct Table : Module<double> {
  Table(index_t count, index_t width) : words(count, width, Rng(4), 1.0) {
    this->child("words", words);
  }
  Embedding<double> words;
};

/// A module with one linear layer.
struct Layer : Module<double> {
  Layer(index_t in, index_t out) : dense(in, out, Rng(4), 1.0) { this->child("dense", dense); }
  Linear<double> dense;
};

}  // namespace

TEST_CASE("adapted models: only the adapters train, all of them do", "[adapters]") {
  for (const AdapterKind& kind : adapter_kinds()) {
    CAPTURE(kind.label);
    Bert<double> model(small_bert(), BertHead::classifier, Rng(1));
    const auto before = values_of(model);
    const double loss = loss_of(model).item();
    attach(model, kind);
    const auto attached = values_of(model);
    // Attaching moves nothing, and where ΔW = 0 not even the loss.
    if (kind.starts_at_zero()) CHECK(std::abs(loss_of(model).item() - loss) < 1e-14);
    CHECK(std::abs(loss_of(model).item() - loss) < 0.05);
    AdamW<double> optimizer(trainable_groups(model), 1e-2, 0.9, 0.999, 1e-6);
    for (int step = 0; step < 4; ++step) {
      backward(loss_of(model));
      optimizer.step();
    }
    CHECK(loss_of(model).item() < loss);
    std::size_t adapters = 0;
    for (const auto& [name, value] : values_of(model)) {
      CAPTURE(name);
      const auto old = before.find(name);
      if (old != before.end()) {
        CHECK(same_bits(value, old->second));
      } else {
        ++adapters;
        CHECK_FALSE(same_bits(value, attached.at(name)));
      }
    }
    CHECK(adapters == (attached.size() - before.size()));
    CHECK(adapters >= 14 * 2);  // 2 × 6 in the encoder, pooler, word embedding
    index_t trained = 0;
    for (const auto& [name, value] : attached) trained += before.count(name) > 0 ? 0 : value.size();
    CHECK(model.parameter_count() == trained);
  }
}

TEST_CASE("adapted models: the outer factors take gamma times AdamW's step", "[adapters][A3]") {
  // A trajectory by AdamW's formulas, written out: m, v, their bias corrections, eps outside the
  // root. PyTorch's own numbers check the same formulas in test_optim.cpp.
  const AdapterKind kind{"", "deep-lora", "compressed", ""};
  const double gamma = 0.01;
  const double rate = 1e-2;
  const double eps = 1e-6;
  Layer model(9, 7);
  const AdapterOptions options = adapter_options_of(kind, 4, 1e-3, gamma);
  const Tensor<double> x = Rng(5).normal<double>({6, 9});
  const Tensor<double> target = Rng(6).normal<double>({6, 7});
  const auto loss = [&] {
    Pass pass;
    return half_squared_error(model.dense(Var<double>(x), pass), target);
  };
  const auto gradients = probe_gradients<double>(model, "dense", options, Rng(2), loss);
  attach_adapters<double>(model, "dense", options, Rng(3), gradients);
  const auto groups = trainable_groups<double>(model);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].rate_factor == 1);
  CHECK(groups[1].rate_factor == gamma);
  CHECK(groups[0].parameters.size() == 3);
  CHECK(groups[1].parameters.size() == 2);
  AdamW<double> optimizer(groups, rate, 0.9, 0.999, eps);
  struct State {
    double factor;
    std::vector<double> w, m, v;
  };
  std::map<std::string, State> expected;
  for (const auto& group : groups) {
    for (const auto& [name, var] : group.parameters) {
      const auto n = static_cast<std::size_t>(var.value().size());
      expected[name] = {group.rate_factor, var.value().to_vector(), std::vector<double>(n),
                        std::vector<double>(n)};
      CHECK((group.rate_factor == gamma) == (name.find("core") == std::string::npos));
    }
  }
  for (int t = 1; t <= 25; ++t) {
    backward(loss());
    for (const auto& group : groups) {
      for (const auto& [name, var] : group.parameters) {
        State& s = expected[name];
        for (std::size_t i = 0; i < s.w.size(); ++i) {
          const double g = var.grad().data()[i];
          s.m[i] = 0.9 * s.m[i] + 0.1 * g;
          s.v[i] = 0.999 * s.v[i] + 0.001 * g * g;
          const double m = s.m[i] / (1 - std::pow(0.9, t));
          const double v = s.v[i] / (1 - std::pow(0.999, t));
          s.w[i] -= s.factor * rate * m / (std::sqrt(v) + eps);
        }
      }
    }
    optimizer.step();
    for (const auto& group : groups) {
      for (const auto& [name, var] : group.parameters) {
        const State& s = expected[name];
        for (std::size_t i = 0; i < s.w.size(); ++i) {
          CHECK(std::abs(var.value().data()[i] - s.w[i]) <= 1e-13 * (1 + std::abs(s.w[i])));
        }
      }
    }
  }
}

TEST_CASE("adapted models: the gradient's subspace without the gradient", "[adapters]") {
  // Against the SVD of the dense gradient, for a layer and for a table whose rows repeat.
  const index_t h = 3;
  const AdapterOptions options =
      adapter_options_of({"", "deep-lora", "compressed", ""}, 2 * h, 0.1);
  const auto check = [&](const TopSingular<double>& found, const Tensor<double>& gradient) {
    const Svd<double> s = svd(gradient);
    REQUIRE(found.u.shape() == Shape{gradient.dim(0), h});
    REQUIRE(found.v.shape() == Shape{gradient.dim(1), h});
    CHECK(orthonormality_error(found.u) < 1e-12);
    CHECK(orthonormality_error(found.v) < 1e-12);
    for (index_t i = 0; i < h; ++i) {
      CHECK(std::abs(found.s.at({i}) - s.s.at({i})) < 1e-9 * s.s.at({0}));
    }
    const auto projector = [](const Tensor<double>& q) { return matmul(q, q, false, true); };
    CHECK(largest_difference(projector(found.u), projector(slice(s.u, 1, 0, h))) < 1e-7);
    CHECK(largest_difference(projector(found.v), projector(transpose(s.vt.rows(0, h)))) < 1e-7);
  };
  for (const auto& [in, out] : {std::pair<index_t, index_t>{30, 18}, {18, 30}, {20, 20}}) {
    Layer layer(in, out);
    const Tensor<double> x = Rng(7).normal<double>({4, 11, in});
    const Tensor<double> target = Rng(8).normal<double>({4, 11, out});
    const auto loss = [&] {
      Pass pass;
      return half_squared_error(tanh(layer.dense(Var<double>(x), pass)), target);
    };
    layer.dense.weight.set_requires_grad(true);
    backward(loss());
    const Tensor<double> gradient = layer.dense.weight.grad().clone();
    layer.dense.weight.zero_grad();
    const auto found = probe_gradients<double>(layer, "dense", options, Rng(2), loss);
    check(found.at("dense"), gradient);
    CHECK(layer.dense.adapter() == nullptr);
    CHECK_FALSE(layer.dense.weight.has_grad());
  }
  for (const index_t count : {50, 12}) {
    Table table(count, 16);
    Tensor<std::int64_t> ids({5, 8});
    for (index_t i = 0; i < 40; ++i) ids.mutable_data()[i] = i * i % 11;
    const Tensor<double> target = Rng(8).normal<double>({5, 8, 16});
    const auto loss = [&] { return half_squared_error(tanh(table.words(ids)), target); };
    table.words.weight.set_requires_grad(true);
    backward(loss());
    const Tensor<double> gradient = table.words.weight.grad().clone();
    table.words.weight.zero_grad();
    check(probe_gradients<double>(table, "words", options, Rng(2), loss).at("words"), gradient);
  }
  // No batch reaches the layer; a rank that does not fit; nothing stays attached.
  Layer layer(10, 8);
  const auto none = [] { return sum(Var<double>(Tensor<double>::ones({2}), true)); };
  CHECK_THROWS_WITH(probe_gradients<double>(layer, "dense", options, Rng(2), none),
                    contains("no gradient reaches 'dense'"));
  CHECK(layer.dense.adapter() == nullptr);
  CHECK_THROWS_AS(
      probe_gradients<double>(layer, "dense",
                              adapter_options_of({"", "deep-lora", "compressed", ""}, 10, 0.1),
                              Rng(2), none),
      ValueError);
  CHECK(layer.dense.adapter() == nullptr);
}

TEST_CASE("adapted models: spectra of updates", "[adapters]") {
  for (const AdapterKind& kind : adapter_kinds()) {
    CAPTURE(kind.label);
    const auto adapter = make_adapter(kind, Tensor<double>::zeros({14, 9}), false, 4, 0.5, Rng(1));
    Rng rng(2);
    for (auto& [name, var] : adapter->named_parameters()) {
      var.assign(rng.normal<double>(var.shape(), 0.5));
    }
    const Tensor<double> found = update_spectrum(*adapter);
    const Tensor<double> all = singular_values(adapter->delta());
    REQUIRE(found.size() <= all.size());
    for (index_t i = 0; i < all.size(); ++i) {
      const double s = i < found.size() ? found.at({i}) : 0;
      CHECK(std::abs(s - all.at({i})) < 1e-12 * all.at({0}));
    }
  }
}

TEST_CASE("adapted models: saved and loaded, the same logits; merged, the same to rounding",
          "[adapters]") {
  const TempFolder folder;
  Pass pass;
  for (const AdapterKind& kind : adapter_kinds()) {
    CAPTURE(kind.label);
    Bert<float> model(small_bert(), BertHead::classifier, Rng(1));
    model.save(folder / "base");
    attach(model, kind);
    AdamW<float> optimizer(trainable_groups(model), 2e-2, 0.9, 0.999, 1e-6);
    for (int step = 0; step < 3; ++step) {
      backward(loss_of(model));
      optimizer.step();
    }
    const Tensor<float> logits = model.logits(small_batch(), pass).value();
    save_adapters<float>(model, folder / "adapter", "all-dense", adapter_options_of(kind, 4, 0.05),
                         {});
    const auto base = load_bert<float>(folder / "base", BertHead::classifier, Rng(9));
    const Tensor<float> plain = base->logits(small_batch(), pass).value();
    load_adapters<float>(*base, folder / "adapter");
    CHECK(same_bits(base->logits(small_batch(), pass).value(), logits));
    CHECK(max_abs(sub(plain, logits)) > 1e-4);

    model.save(folder / "merged");
    const auto merged = load_bert<float>(folder / "merged", BertHead::classifier, Rng(9));
    CHECK(max_abs(sub(merged->logits(small_batch(), pass).value(), logits)) < 1e-5);
  }
}

TEST_CASE("adapted models: adapter folders that do not fit", "[adapters]") {
  const TempFolder folder;
  const AdapterKind kind{"", "deep-lora", "narrow", ""};
  Bert<float> model(small_bert(), BertHead::classifier, Rng(1));
  attach(model, kind, "query-value");
  const std::string saved = folder / "adapter";
  save_adapters<float>(model, saved, "query-value", adapter_options_of(kind, 4, 0.05), {});
  const auto refused = [&](BertConfig config, const std::string& says) {
    Bert<float> other(config, BertHead::classifier, Rng(1));
    CHECK_THROWS_AS(load_adapters<float>(other, saved), InputError);
    Bert<float> again(config, BertHead::classifier, Rng(1));
    CHECK_THROWS_WITH(load_adapters<float>(again, saved), contains(says));
  };
  BertConfig other = small_bert();
  other.hidden_size = 15;
  refused(other, "another model");
  other = small_bert();
  other.num_hidden_layers = 1;
  refused(other, "another model");
  other = small_bert();
  other.num_hidden_layers = 3;
  refused(other, "another model");

  const std::string config = saved + "/adapter_config.json";
  const std::string text = read_file(config);
  const std::string weights = saved + "/adapter_model.safetensors";
  const std::string bytes = read_file(weights);
  write_raw(weights, bytes.substr(0, bytes.size() - 3));
  refused(small_bert(), "cut off");
  std::filesystem::rename(weights, saved + "/adapter_model.bin");
  refused(small_bert(), "a pickle can run code");
  std::filesystem::remove(saved + "/adapter_model.bin");
  refused(small_bert(), "adapter_model.safetensors");
  write_raw(weights, bytes);
  for (const auto& [broken, says] :
       {std::pair<std::string, const char*>{"{", "expected JSON"},
        {"[1]", "expected a JSON object"},
        {"{}", "is missing"},
        {std::string(100000, '['), "deeper than"},
        {"{\"format\":" + std::string(50000, '[') + std::string(50000, ']') + "}",
         "deeper than"}}) {
    write_raw(config, broken);
    refused(small_bert(), says);
  }
  write_raw(config, text);
  Bert<float> same(small_bert(), BertHead::classifier, Rng(1));
  CHECK_NOTHROW(load_adapters<float>(same, saved));
  CHECK_THROWS_AS(load_adapters<float>(same, folder / "none"), InputError);
}
