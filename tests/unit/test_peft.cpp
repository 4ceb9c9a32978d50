// PEFT folders of every family of models and every method that has a LoRA pair: written, read back,
// and added to the weights of a file by hand; what no pair can be is refused.
#include <parsimony/bert.hpp>
#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/peft.hpp>
#include <parsimony/vit.hpp>

#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>

#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/numbers.hpp"
#include "support/temp_folder.hpp"
#include "unit/adapter_table.hpp"

using namespace parsimony;
using namespace parsimony::testing;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

struct Case {
  std::string family, folder, head, prefix;
  bool transposed = false;

  std::unique_ptr<Model<float>> load(const std::string& from) const {
    if (family == "vit") return load_vit<float>(from, Rng(1), 3);
    return load_decoder<float>(from, DecoderHead::classifier, Rng(1), 3);
  }
  std::unique_ptr<Model<float>> load() const { return load(fixture("decoders/" + folder)); }
  Tensor<float> logits(const Model<float>& model) const {
    TokenBatch batch;
    if (family == "vit") {
      const json c = json::parse(read_file(fixture("decoders/vit/config.json")));
      const auto side = c["image_size"].get<index_t>();
      batch.pixels = Rng(4).normal<float>({2, c["num_channels"].get<index_t>(), side, side});
    } else {
      batch.ids = Tensor<std::int64_t>({2, 6}, {1, 7, 3, 9, 4, 8, 2, 6, 6, 2, 8, 4});
    }
    const NoGrad no_grad;
    Pass pass;
    return model.logits(batch, pass).value();
  }
};

const std::vector<Case>& peft_cases() {
  static const std::vector<Case> all = {{"gpt2", "gpt2_prefixed", "score", "transformer.", true},
                                        {"llama", "llama_shared", "score", "model."},
                                        {"vit", "vit", "classifier", "vit."}};
  return all;
}

/// The model with adapters away from their start, and a head of its own.
std::unique_ptr<Model<float>> adapted(const Case& c, const AdapterOptions& options) {
  auto model = c.load();
  const std::string set = "all-linear";
  const auto gradients = probe_gradients<float>(*model, set, options, Rng(2), [&] {
    Pass pass;
    TokenBatch batch;
    batch.ids = Tensor<std::int64_t>({1, 3}, {1, 2, 3});
    return sum(model->logits(batch, pass));
  });
  attach_adapters<float>(*model, set, options, Rng(3), gradients);
  Rng rng(5);
  for (auto& [name, var] : model->named_parameters()) {
    if (!var.requires_grad()) continue;
    var.assign(add(var.value(), rng.normal<float>(var.shape(), 0.1)));
  }
  return model;
}

std::vector<std::string> head_of(const Model<float>& model) {
  std::vector<std::string> names;
  for (const auto& [name, var] : model.named_parameters()) {
    if (model.is_head(name)) names.push_back(name);
  }
  return names;
}

json config_of(const std::string& folder) {
  return json::parse(read_file(folder + "/adapter_config.json"));
}

}  // namespace

TEST_CASE("peft: every family and method comes back, or is refused where no pair is its update") {
  const TempFolder temp;
  for (const Case& c : peft_cases()) {
    for (const AdapterRow& row : adapter_table()) {
      CAPTURE(c.family, row.title);
      AdapterOptions options = row.options;
      options.set("rank", index_t{2});
      const auto model = adapted(c, options);
      const std::string folder = temp / (c.family + row.title);
      if (!row.pair_rank) {
        CHECK_THROWS_WITH(save_peft<float>(*model, folder, {}, {}),
                          contains("merge it") && contains(c.prefix) && contains("residual"));
        CHECK_FALSE(fs::exists(folder));
        PeftOptions cut;
        cut.rank = 1;
        for (const PeftLayer& layer : save_peft<float>(*model, folder, {}, cut)) {
          CHECK(layer.rank == 1);
          CHECK(layer.residual > 1e-3);
        }
        continue;
      }
      save_peft<float>(*model, folder, head_of(*model), {});
      const auto again = c.load();
      for (auto& [name, var] : again->named_parameters()) {
        if (again->is_head(name)) var.assign(Tensor<float>::zeros(var.shape()));
      }
      const PeftFolder read = read_peft(folder);
      CHECK(read.outputs == 3);
      attach_peft<float>(*again, read);
      CHECK(largest_difference(c.logits(*again), c.logits(*model)) < 1e-4);
      CHECK(largest_difference(c.logits(*c.load()), c.logits(*model)) > 1e-3);
    }
  }
}

TEST_CASE(
    "peft: what the config says of each family, and what B A means beside the stored weight") {
  const TempFolder temp;
  for (const Case& c : peft_cases()) {
    CAPTURE(c.family);
    AdapterOptions options{"lora"};
    options.set("rank", index_t{2});
    const auto model = adapted(c, options);
    const std::string folder = temp / c.family;
    save_peft<float>(*model, folder, head_of(*model), {});
    const json config = config_of(folder);
    CHECK(config["fan_in_fan_out"] == c.transposed);
    CHECK(config["modules_to_save"] == json({c.head}));
    if (c.family == "vit") {
      CHECK(config["task_type"].is_null());
      CHECK(config["auto_mapping"]["base_model_class"] == "ViTForImageClassification");
    } else {
      CHECK(config["task_type"] == "SEQ_CLS");
      CHECK(config["auto_mapping"].is_null());
    }
    // A (r, in) and B (out, r) for all; added to the file's own weight, which GPT-2 stores (in,
    // out).
    const std::string base = temp / (c.family + "-base");
    c.load()->save(base);
    TensorMap weights = load_safetensors(base + "/model.safetensors");
    const TensorMap stored = load_safetensors(folder + "/adapter_model.safetensors");
    const std::string root = "base_model.model.";
    std::size_t pairs = 0;
    for (const json& target : config["target_modules"]) {
      const auto name = target.get<std::string>();
      CHECK(name.compare(0, c.prefix.size(), c.prefix) == 0);
      const auto a = stored.get_as<float>(root + name + ".lora_A.weight");
      const auto b = stored.get_as<float>(root + name + ".lora_B.weight");
      CHECK(a.dim(0) == 2);
      CHECK(b.dim(1) == 2);
      const Tensor<float> delta = matmul(b, a);
      const auto w = weights.get_as<float>(name + ".weight");
      weights.set(name + ".weight", add(w, c.transposed ? transpose(delta) : delta));
      ++pairs;
    }
    CHECK(pairs * 2 + head_of(*model).size() == stored.size());
    save_safetensors(base + "/model.safetensors", weights);
    const auto merged = c.load(base);
    for (auto& [name, var] : merged->named_parameters()) {
      if (merged->is_head(name)) var.assign(stored.get_as<float>(root + name));
    }
    CHECK(largest_difference(c.logits(*merged), c.logits(*model)) < 1e-5);
  }
}

TEST_CASE("peft: a folder of a bare model, and one without target_modules") {
  // As PEFT writes them for a GPT2Model, and for a model whose type decides what is adapted.
  const TempFolder temp;
  for (const Case& c : peft_cases()) {
    CAPTURE(c.family);
    AdapterOptions options{"lora"};
    options.set("rank", index_t{2});
    const auto model = c.load();
    attach_adapters<float>(*model, "query-value", options, Rng(3));
    Rng rng(5);
    for (auto& [name, var] : model->named_parameters()) {
      if (var.requires_grad()) var.assign(rng.normal<float>(var.shape(), 0.1));
    }
    const std::string folder = temp / c.family;
    save_peft<float>(*model, folder, {}, {});
    const TensorMap stored = load_safetensors(folder + "/adapter_model.safetensors");
    TensorMap bare;
    const std::string root = "base_model.model.";
    for (const std::string& name : stored.names()) {
      if (name.find(".lora_") == std::string::npos) continue;
      bare.set(root + name.substr(root.size() + c.prefix.size()), stored.get_as<float>(name));
    }
    save_safetensors(folder + "/adapter_model.safetensors", bare);
    write_raw(folder + "/adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
    const auto again = c.load();
    attach_peft<float>(*again, read_peft(folder));
    CHECK(largest_difference(c.logits(*again), c.logits(*model)) < 1e-5);
  }
}

TEST_CASE("peft: trained biases under both of their names, and what is missing", "[peft]") {
  const TempFolder temp;
  const Case& c = peft_cases()[0];
  AdapterOptions options{"lora"};
  options.set("rank", index_t{2});
  const auto model = c.load();
  attach_adapters<float>(*model, "query-value", options, Rng(3));
  save_peft<float>(*model, temp.path(), head_of(*model), {});
  const std::string weights = temp / "adapter_model.safetensors";
  const TensorMap stored = load_safetensors(weights);
  const json config = config_of(temp.path());
  const auto attached = [&](const json& changes, const std::function<void(TensorMap&)>& edit) {
    json c2 = config;
    c2.update(changes);
    write_raw(temp / "adapter_config.json", c2.dump());
    TensorMap tensors = stored;
    tensors.metadata.clear();  // no fingerprint, as in PEFT's files
    edit(tensors);
    save_safetensors(weights, tensors);
    auto again = c.load();
    attach_peft<float>(*again, read_peft(temp.path()));
    return again;
  };
  const std::string layer = "transformer.h.0.attn.c_attn";
  const std::string other = "transformer.h.0.mlp.c_fc";
  const Shape shape = [&] {
    for (const auto& [name, var] : model->named_parameters()) {
      if (name == layer + ".bias") return var.shape();
    }
    return Shape();
  }();
  const json only = {{"bias", "lora_only"}};
  const std::string root = "base_model.model.";
  for (const std::string& name : {layer + ".bias", layer + ".base_layer.bias"}) {
    const auto again =
        attached(only, [&](TensorMap& t) { t.set(root + name, Tensor<float>::full(shape, 0.5F)); });
    for (const auto& [parameter, var] : again->named_parameters()) {
      if (parameter == layer + ".bias") CHECK(var.value().at({0}) == 0.5F);
    }
  }
  const auto with_other = [&](TensorMap& t) {
    t.set(root + other + ".bias", Tensor<float>::zeros({1}));
  };
  CHECK_THROWS_WITH(attached(only, with_other),
                    contains(other + ".bias is not among modules_to_save"));
  const auto as_it_is = [](TensorMap&) {};
  CHECK_THROWS_WITH(attached({{"bias", "all"}}, as_it_is),
                    contains("h.0.attn.c_attn.bias is missing"));
  CHECK_THROWS_WITH(attached({{"modules_to_save", {"score", "wte"}}}, as_it_is),
                    contains("wte.weight is missing"));
  const auto with_nan = [&](TensorMap& t) {
    t.set(root + layer + ".lora_A.weight", Tensor<float>::full({2, 4}, std::nanf("")));
  };
  CHECK_THROWS_AS(attached(config, with_nan), InputError);
  CHECK_THROWS_WITH(attached(config, with_nan), contains(weights) &&
                                                    contains(layer + ".lora_A.weight'") &&
                                                    contains("expected finite numbers; got nan"));
}

TEST_CASE("peft: a rank above the smaller side of a layer is PEFT's to choose", "[peft]") {
  const TempFolder temp;
  const Case& c = peft_cases()[0];
  const auto model = c.load();
  const std::string name = "score";  // (3, hidden)
  const Tensor<float> a =
      Rng(1).normal<float>({8, model->named_parameters().back().second.dim(-1)});
  const Tensor<float> b = Rng(2).normal<float>({3, 8});
  TensorMap tensors;
  tensors.set("base_model.model." + name + ".lora_A.weight", a);
  tensors.set("base_model.model." + name + ".lora_B.weight", b);
  save_safetensors(temp / "adapter_model.safetensors", tensors);
  write_file_atomically(
      temp / "adapter_config.json",
      R"({"peft_type": "LORA", "r": 8, "lora_alpha": 4, "target_modules": ["score"]})");
  attach_peft<float>(*model, read_peft(temp.path()));
  const Tensor<float> with = c.logits(*model);
  for (const auto& [module_name, module] : model->named_modules()) {
    auto* layer = dynamic_cast<Adaptable<float>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    CHECK(module_name == name);
    CHECK(update_spectrum(*layer->adapter()).size() == 3);
    CHECK(largest_difference(layer->adapter()->delta(), scale(matmul(b, a), 0.5)) < 1e-5);
  }
  CHECK(largest_difference(with, c.logits(*c.load())) > 0.1);
  merge_adapters<float>(*model);
  CHECK(largest_difference(with, c.logits(*model)) < 1e-4);
}

TEST_CASE("peft: adapters on modules that are stored whole alone are refused", "[peft]") {
  const TempFolder temp;
  BertConfig config;
  config.vocab_size = 20;
  config.hidden_size = 6;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.intermediate_size = 10;
  config.max_position_embeddings = 9;
  Bert<float> model(config, BertHead::classifier, Rng(1));
  attach_adapters<float>(model, "pooler.dense", AdapterOptions{"lora"}.set("rank", index_t{2}),
                         Rng(3));
  CHECK_THROWS_AS(save_peft<float>(model, temp / "out", head_of(model), {}), ValueError);
  CHECK_THROWS_WITH(save_peft<float>(model, temp / "out", head_of(model), {}),
                    contains("'bert.pooler.dense' is") && contains("merge it"));
  CHECK_FALSE(fs::exists(temp / "out"));
  CHECK(save_peft<float>(model, temp / "out", {}, {}).size() == 1);
}
