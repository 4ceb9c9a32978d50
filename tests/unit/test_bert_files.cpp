// BERT folders: what is written reads back, parts that may be missing are fresh and said so, and
// whatever else does not fit is listed.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;
using nlohmann::json;
using Names = std::vector<std::string>;

namespace {

BertConfig small_config() {
  BertConfig c;
  c.vocab_size = 20;
  c.hidden_size = 6;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.intermediate_size = 10;
  c.max_position_embeddings = 9;
  c.num_labels = 3;
  c.labels = {"no", "maybe", "yes"};
  c.hidden_act = "gelu_new";
  c.classifier_dropout = 0.25;
  return c;
}

/// A model folder of the config above, its tensors edited before they are written.
struct Folder {
  explicit Folder(BertHead head = BertHead::classifier,
                  const std::function<void(TensorMap&)>& edit = {}) {
    Bert<float> model(small_config(), head, Rng(1));
    model.save(folder.path());
    if (edit) {
      TensorMap tensors = load_safetensors(weights());
      edit(tensors);
      save_safetensors(weights(), tensors);
    }
  }
  std::string weights() const { return folder / "model.safetensors"; }
  std::string config() const { return folder / "config.json"; }
  void edit_config(const std::function<void(json&)>& edit) const {
    json c = json::parse(read_file(config()));
    edit(c);
    write_raw(config(), c.dump());
  }
  std::unique_ptr<Bert<float>> load(BertHead head = BertHead::classifier,
                                    LoadReport* report = nullptr, index_t labels = 0) const {
    return load_bert<float>(folder.path(), head, Rng(7), labels, report);
  }
  TempFolder folder;
};

/// All tensors but those whose names contain one of the parts, renamed.
TensorMap selected(const TensorMap& from, const Names& without,
                   const std::function<std::string(std::string)>& rename = {}) {
  TensorMap out;
  for (const std::string& name : from.names()) {
    const bool drop = std::any_of(without.begin(), without.end(), [&](const std::string& part) {
      return name.find(part) != std::string::npos;
    });
    if (!drop) out.set(rename ? rename(name) : name, from.get<float>(name));
  }
  return out;
}

bool same_bits(const Tensor<float>& a, const Tensor<float>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

/// Whether these parameters have the bits that they have in a model that is fresh altogether.
void check_fresh(const Bert<float>& loaded, const Names& names) {
  const Bert<float> fresh(loaded.config(), loaded.head(), Rng(7));
  const auto a = loaded.named_parameters();
  const auto b = fresh.named_parameters();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto& [name, var] = a[i];
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    INFO(name);
    CHECK(same_bits(var.value(), b[i].second.value()));
  }
}

}  // namespace

TEST_CASE("bert files: a saved model reads back to the same bits", "[bert]") {
  for (const BertHead head : {BertHead::none, BertHead::classifier, BertHead::masked_lm}) {
    const Folder saved(head);
    LoadReport report;
    const auto found = saved.load(head, &report);
    CHECK(report.fresh.empty());
    CHECK(report.ignored.empty());
    const Bert<float> original(small_config(), head, Rng(1));
    const auto a = original.named_parameters();
    const auto b = found->named_parameters();
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(a[i].first == b[i].first);
      CHECK(same_bits(a[i].second.value(), b[i].second.value()));
    }
    const BertConfig& c = found->config();
    CHECK(c.hidden_act == "gelu_new");
    CHECK(c.classifier_dropout == 0.25);
    CHECK(c.num_labels == 3);
    CHECK(c.labels == Names{"no", "maybe", "yes"});
    CHECK(c.max_position_embeddings == 9);
    CHECK(c.layer_norm_eps == 1e-12);
    // What transformers' Auto classes go by.
    CHECK_THAT(read_file(saved.config()),
               contains(head == BertHead::none         ? "\"BertModel\""
                        : head == BertHead::classifier ? "\"BertForSequenceClassification\""
                                                       : "\"BertForMaskedLM\""));
  }
}

TEST_CASE("bert files: names are Hugging Face's", "[bert]") {
  const auto names_of = [](BertHead head) {
    const Bert<float> model(small_config(), head, Rng(1));
    Names names;
    for (const auto& [name, var] : model.named_parameters()) names.push_back(name);
    return names;
  };
  const Names classifier = names_of(BertHead::classifier);
  for (const char* name :
       {"bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight", "bert.embeddings.LayerNorm.weight",
        "bert.embeddings.LayerNorm.bias", "bert.encoder.layer.1.attention.self.query.weight",
        "bert.encoder.layer.1.attention.self.key.bias",
        "bert.encoder.layer.1.attention.self.value.weight",
        "bert.encoder.layer.0.attention.output.dense.weight",
        "bert.encoder.layer.0.attention.output.LayerNorm.bias",
        "bert.encoder.layer.0.intermediate.dense.weight", "bert.encoder.layer.0.output.dense.bias",
        "bert.encoder.layer.0.output.LayerNorm.weight", "bert.pooler.dense.weight",
        "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}) {
    CHECK(std::count(classifier.begin(), classifier.end(), name) == 1);
  }
  CHECK(classifier.size() == 5 + 2 * 16 + 2 + 2);
  const Names masked = names_of(BertHead::masked_lm);
  for (const char* name :
       {"cls.predictions.bias", "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias", "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias"}) {
    CHECK(std::count(masked.begin(), masked.end(), name) == 1);
  }
  CHECK(masked.size() == 5 + 2 * 16 + 5);
}

TEST_CASE("bert files: a pooler or head that is missing is fresh, and said so", "[bert]") {
  const Names pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"};
  const Names head = {"classifier.weight", "classifier.bias"};
  LoadReport report;

  const Folder neither(BertHead::classifier, [](TensorMap& t) {
    t = selected(t, {"pooler", "classifier"});
  });
  const auto one = neither.load(BertHead::classifier, &report);
  CHECK(report.fresh == Names{pooler[0], pooler[1], head[0], head[1]});
  check_fresh(*one, report.fresh);
  // Fresh by the given stream alone: once more the same, and not what was saved.
  const auto two = neither.load(BertHead::classifier, &report);
  const Folder whole;
  const auto saved = whole.load(BertHead::classifier, &report);
  CHECK(report.fresh.empty());
  const auto first = one->named_parameters();
  const auto second = two->named_parameters();
  const auto stored = saved->named_parameters();
  for (std::size_t i = 0; i < first.size(); ++i) {
    const auto& [name, var] = first[i];
    CHECK(same_bits(var.value(), second[i].second.value()));
    const bool is_fresh = name == pooler[0] || name == head[0];  // biases are 0 either way
    CHECK(same_bits(var.value(), stored[i].second.value()) != is_fresh);
  }

  // From a language model: its head is left aside.
  const Folder language(BertHead::masked_lm);
  check_fresh(*language.load(BertHead::classifier, &report), report.fresh);
  CHECK(report.fresh.size() == 4);
  CHECK(report.ignored.size() == 5);
  // And the other way round.
  check_fresh(*whole.load(BertHead::masked_lm, &report), report.fresh);
  CHECK(report.fresh.size() == 5);
  Names ignored = report.ignored;
  std::sort(ignored.begin(), ignored.end());
  CHECK(ignored == Names{pooler[1], pooler[0], head[1], head[0]});

  // Another number of labels asks for another head.
  check_fresh(*whole.load(BertHead::classifier, &report, 5), report.fresh);
  CHECK(report.fresh == head);
  whole.load(BertHead::classifier, &report, 3);
  CHECK(report.fresh.empty());
}

TEST_CASE("bert files: half a head is not a missing head", "[bert]") {
  for (const char* part : {"classifier.bias", "bert.pooler.dense.weight"}) {
    const Folder broken(BertHead::classifier, [&](TensorMap& t) { t = selected(t, {part}); });
    CHECK_THROWS_AS(broken.load(), InputError);
    CHECK_THROWS_WITH(broken.load(), contains(std::string("missing: ") + part));
  }
}

TEST_CASE("bert files: with and without the prefix, old names, buffers", "[bert]") {
  const auto old_names = [](std::string name) {
    for (const auto& [now, before] :
         {std::pair<std::string, std::string>{"LayerNorm.weight", "LayerNorm.gamma"},
          {"LayerNorm.bias", "LayerNorm.beta"}}) {
      const std::size_t at = name.find(now);
      if (at != std::string::npos) name.replace(at, now.size(), before);
    }
    return name;
  };
  const auto bare = [](const std::string& name) {
    return name.compare(0, 5, "bert.") == 0 ? name.substr(5) : name;
  };
  const Folder whole;
  const auto expected = whole.load()->named_parameters();
  for (const bool strip : {false, true}) {
    for (const bool old : {false, true}) {
      const Folder other(BertHead::classifier, [&](TensorMap& t) {
        t = selected(t, {}, [&](std::string name) {
          name = strip ? bare(name) : name;
          return old ? old_names(name) : name;
        });
        t.set(std::string(strip ? "" : "bert.") + "embeddings.position_ids",
              Tensor<std::int64_t>::zeros({1, 9}));
      });
      LoadReport report;
      const auto found = other.load(BertHead::classifier, &report)->named_parameters();
      CHECK(report.fresh.empty());
      CHECK(report.ignored == Names{"bert.embeddings.position_ids"});
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(same_bits(found[i].second.value(), expected[i].second.value()));
      }
    }
  }
}

TEST_CASE("bert files: what is missing, unexpected or mis-shaped is listed", "[bert]") {
  const std::string query = "bert.encoder.layer.0.attention.self.query.weight";
  const std::string key = "bert.encoder.layer.1.attention.self.key.bias";
  const std::string word = "bert.embeddings.word_embeddings.weight";
  const Folder all(BertHead::classifier, [&](TensorMap& t) {
    TensorMap out = selected(t, {query, key});
    out.set("bert.encoder.layer.0.attention.self.qeury.weight", t.get<float>(query));
    out.set("bert.encoder.layer.2.output.dense.bias", Tensor<float>::zeros({6}));
    out.set("lm_head.weight", Tensor<float>::zeros({2}));
    out.set("classifier.weight", Tensor<float>::zeros({6, 3}));
    out.set(word, Tensor<float>::zeros({20, 7}));
    t = out;
  });
  CHECK_THROWS_AS(all.load(), InputError);
  CHECK_THROWS_WITH(
      all.load(), contains("model.safetensors") && contains("missing: " + query) &&
                      contains("(the file has bert.encoder.layer.0.attention.self.qeury.weight)"));
  CHECK_THROWS_WITH(all.load(), contains(key) && contains("unexpected: ") &&
                                    contains("lm_head.weight") &&
                                    contains("bert.encoder.layer.2.output.dense.bias"));
  CHECK_THROWS_WITH(all.load(), contains("(did you mean " + query + ")"));
  CHECK_THROWS_WITH(all.load(), contains("of another shape than config.json says: ") &&
                                    contains(word + " is (20, 7), expected (20, 6)") &&
                                    contains("classifier.weight is (6, 3), expected (3, 6)"));

  // A layer less than the config says: every tensor of it.
  const Folder less(BertHead::classifier, [](TensorMap& t) { t = selected(t, {"layer.1."}); });
  CHECK_THROWS_WITH(less.load(), contains("bert.encoder.layer.1.attention.self.query.weight") &&
                                     contains("and 4 more"));
  // A layer more.
  const Folder more;
  more.edit_config([](json& c) { c["num_hidden_layers"] = 1; });
  CHECK_THROWS_WITH(more.load(), contains("unexpected: bert.encoder.layer.1."));

  const Folder twice(BertHead::classifier, [](TensorMap& t) {
    t.set("bert.embeddings.LayerNorm.gamma", Tensor<float>::ones({6}));
  });
  CHECK_THROWS_WITH(twice.load(), contains("bert.embeddings.LayerNorm.gamma and "
                                           "bert.embeddings.LayerNorm.weight are the same tensor"));
}

TEST_CASE("bert files: weights are floats, and names of tensors are no terminal's", "[bert]") {
  const Folder whole(BertHead::classifier, [](TensorMap& t) {
    t.set("bert.pooler.dense.bias", Tensor<std::int64_t>::zeros({6}));
  });
  CHECK_THROWS_AS(whole.load(), InputError);
  CHECK_THROWS_WITH(whole.load(), contains(whole.weights()) &&
                                      contains("'bert.pooler.dense.bias' is I64; weights are F32"));
  const Folder strange(BertHead::classifier, [](TensorMap& t) {
    t.set(std::string("a\0b\x1b[31m\n", 9), Tensor<float>::zeros({6}));
  });
  CHECK_THROWS_WITH(strange.load(), contains("unexpected: a\\x00b\\x1b[31m\\x0a"));
}

TEST_CASE("bert files: a config that contradicts the weights", "[bert]") {
  struct Case {
    const char* key;
    json value;
    const char* says;
  };
  // The last: sizes that would take the machine's memory are refused before they are allocated.
  const Case cases[] = {{"vocab_size", 21, "word_embeddings.weight is (20, 6), expected (21, 6)"},
                        {"hidden_size", 8, "is (20, 6), expected (20, 8)"},
                        {"intermediate_size", 11, "intermediate.dense.weight is (10, 6)"},
                        {"max_position_embeddings", 512, "position_embeddings.weight is (9, 6)"},
                        {"type_vocab_size", 3, "token_type_embeddings.weight is (2, 6)"},
                        {"num_hidden_layers", 3, "missing: bert.encoder.layer.2."},
                        {"num_hidden_layers", 16000000, "16000000 layers"},
                        {"hidden_size", 1 << 24, "hidden_size 16777216"},
                        {"vocab_size", 1 << 24, "vocab_size 16777216"}};
  for (const Case& c : cases) {
    CAPTURE(c.key, c.says);
    const Folder folder;
    folder.edit_config([&](json& config) { config[c.key] = c.value; });
    CHECK_THROWS_AS(folder.load(), InputError);
    CHECK_THROWS_WITH(folder.load(), contains(c.says));
  }
}

TEST_CASE("bert files: configs that are refused, each with its key", "[bert]") {
  const auto without = [](const char* key) { return [key](json& c) { c.erase(key); }; };
  const auto with = [](const char* key, const json& value) {
    return [key, value](json& c) { c[key] = value; };
  };
  const std::pair<std::function<void(json&)>, const char*> cases[] = {
      {without("hidden_size"), "the key 'hidden_size' is missing"},
      {without("vocab_size"), "the key 'vocab_size' is missing"},
      {without("num_hidden_layers"), "the key 'num_hidden_layers' is missing"},
      {without("num_attention_heads"), "the key 'num_attention_heads' is missing"},
      {without("intermediate_size"), "the key 'intermediate_size' is missing"},
      {with("hidden_size", "6"), "hidden_size: expected a whole number; got \"6\""},
      {with("hidden_size", 6.5), "hidden_size: expected a whole number; got 6.5"},
      {with("hidden_size", nullptr), "the key 'hidden_size' is missing"},
      {with("hidden_size", 0), "hidden_size: expected 1.."},
      {with("hidden_size", -6), "hidden_size: expected 1.."},
      {with("hidden_size", 18446744073709551615u), "got 18446744073709551615"},
      {with("num_attention_heads", 4), "expected a divisor of hidden_size 6; got 4"},
      {with("num_labels", 2), "num_labels is 2, but id2label has 3"},
      {with("id2label", json{{"0", "a"}, {"2", "b"}}), "'1' is missing"},
      {with("id2label", json{{"0", 1}}), "'0' is missing"},
      {with("id2label", json{1, 2}), "id2label: expected an object of names by number; got [1,2]"},
      {with("pad_token_id", 20), "pad_token_id: expected 0..19, below vocab_size; got 20"},
      {with("pad_token_id", -1), "pad_token_id: expected 0..19"},
      {with("label2id", json{{"no", 1}}), "id2label has 'no' as 0, but label2id as 1"},
      {with("hidden_dropout_prob", 1.0), "[0, 1)"},
      {with("attention_probs_dropout_prob", -0.1), "[0, 1)"},
      {with("classifier_dropout", 2), "[0, 1)"},
      {with("hidden_dropout_prob", "0.1"), "expected a number"},
      {with("layer_norm_eps", -1), "layer_norm_eps"},
      {with("hidden_act", "mish"), "hidden_act: expected one of gelu"},
      {with("hidden_act", json::array({1})), "hidden_act: expected a name; got [1]"},
      {with("model_type", "roberta"), "model_type: expected \"bert\"; got \"roberta\""},
      {with("position_embedding_type", "relative_key"), "position_embedding_type"},
      {with("is_decoder", true), "is_decoder"},
  };
  for (const auto& [edit, says] : cases) {
    CAPTURE(says);
    const Folder folder;
    folder.edit_config(edit);
    CHECK_THROWS_AS(folder.load(), InputError);
    CHECK_THROWS_WITH(folder.load(), contains(says) && contains(folder.config()));
  }
  const Folder folder;
  const std::string deep(100000, '[');
  for (const auto& [text, says] :
       {std::pair<std::string, const char*>{"", "expected JSON"},
        {"{\"hidden_size\":", "expected JSON"},
        {"[]", "expected a JSON object"},
        {"5", "expected a JSON object"},
        {deep, "deeper than"},
        {"{\"a\":" + deep, "deeper than"},
        {"{\"hidden_size\":" + deep + std::string(deep.size(), ']') + "}", "deeper than"},
        {"{\"a\":\"\xFF\"}", "\"\\xff'"},
        {"{\"hidden_size\": 48, \"hidden_size\": 6}", "the key 'hidden_size' comes twice"},
        {"{\"a\": {\"b\": 1, \"c\": {\"b\": 2}, \"b\": 1}}", "the key 'b' comes twice"},
        {std::string("\0\0", 2), "expected JSON"}}) {
    write_raw(folder.config(), text);
    CAPTURE(says);
    CHECK_THROWS_AS(folder.load(), InputError);
    CHECK_THROWS_WITH(folder.load(), contains(says));
  }
  std::filesystem::remove(folder.config());
  CHECK_THROWS_WITH(folder.load(), contains("config.json"));

  // What is not needed may be missing, and unknown keys are not looked at.
  const Folder sparse;
  sparse.edit_config([](json& c) {
    for (const char* key : {"type_vocab_size", "pad_token_id", "hidden_act", "layer_norm_eps",
                            "hidden_dropout_prob", "model_type", "label2id", "initializer_range",
                            "position_embedding_type", "classifier_dropout"}) {
      c.erase(key);
    }
    c["transformers_version"] = "4.0.0";
    c["gradient_checkpointing"] = {{"nested", {1, 2}}};
  });
  CHECK(sparse.load()->config().hidden_act == "gelu");
  CHECK_FALSE(sparse.load()->config().classifier_dropout);
}

TEST_CASE("bert files: weights that are no safetensors file", "[bert]") {
  const Folder folder;
  const std::string bytes = read_file(folder.weights());
  write_raw(folder.weights(), bytes.substr(0, bytes.size() - 1));
  CHECK_THROWS_WITH(folder.load(), contains("cut off"));
  write_raw(folder.weights(), std::string("PK\x03\x04", 4) + std::string(100, 'x'));
  CHECK_THROWS_WITH(folder.load(), contains("a zip archive"));
  write_raw(folder.weights(), "\x80\x02}q\x01" + std::string(100, 'x'));
  CHECK_THROWS_WITH(folder.load(), contains("a pickle"));

  for (const char* pickle : {"pytorch_model.bin", "model.bin"}) {
    const Folder other;
    std::filesystem::rename(other.weights(), other.folder / pickle);
    CHECK_THROWS_AS(other.load(), InputError);
    CHECK_THROWS_WITH(other.load(), contains(pickle) && contains("a pickle can run code") &&
                                        contains("safe_serialization=True"));
  }
  const Folder sharded;
  std::filesystem::rename(sharded.weights(), sharded.folder / "model.safetensors.index.json");
  CHECK_THROWS_WITH(sharded.load(), contains("expected a weight_map"));
  write_raw(sharded.folder / "model.safetensors.index.json", R"({"weight_map": {}})");
  CHECK_THROWS_WITH(sharded.load(), contains("index.json': weight_map: expected files"));
  std::filesystem::remove(sharded.folder / "model.safetensors.index.json");
  CHECK_THROWS_WITH(sharded.load(), contains("model.safetensors is missing"));
  CHECK_THROWS_WITH(load_bert<float>(folder.folder / "none", BertHead::none, Rng(1)),
                    contains("expected a model folder"));
}

TEST_CASE("bert files: a decoder that is not the word embedding", "[bert]") {
  const std::string word = "bert.embeddings.word_embeddings.weight";
  const auto with_decoder = [&](float change) {
    return [&, change](TensorMap& t) {
      Tensor<float> decoder = t.get<float>(word).clone();
      decoder.mutable_data()[3] += change;
      t.set("cls.predictions.decoder.weight", decoder);
    };
  };
  CHECK_NOTHROW(Folder(BertHead::masked_lm, with_decoder(0)).load(BertHead::masked_lm));
  const Folder untied(BertHead::masked_lm, with_decoder(1));
  CHECK_THROWS_WITH(untied.load(BertHead::masked_lm), contains("only tied decoders"));
  CHECK_NOTHROW(untied.load(BertHead::classifier));
}

TEST_CASE("bert files: half the bytes, rounded to nearest even", "[bert]") {
  const TensorMap narrow = load_safetensors(fixture("bert/narrow.safetensors"));
  const Tensor<float>& x = narrow.get<float>("x");
  const TempFolder folder;
  for (const std::string format : {"f16", "bf16"}) {
    const Tensor<float>& expected = narrow.get<float>(format);
    const auto save = [&](const Tensor<float>& values) {
      TensorMap map;
      map.set_narrow("x", values, float_format(format));
      save_safetensors(folder / "x", map);
    };
    // What rounds to an infinity is refused, each number of them; the rest is saved.
    Tensor<float> kept = x.clone();
    for (index_t i = 0; i < x.size(); ++i) {
      if (std::isinf(x.data()[i]) || !std::isinf(expected.data()[i])) continue;
      CHECK_THROWS_AS(save(x.rows(i, i + 1)), ValueError);
      kept.mutable_data()[i] = expected.data()[i];
    }
    save(kept);
    const TensorMap back = load_safetensors(folder / "x");
    CHECK(back.dtype("x") == (format == "f16" ? "F16" : "BF16"));
    const Tensor<float>& found = back.get<float>("x");
    for (index_t i = 0; i < x.size(); ++i) {
      CAPTURE(format, i, x.data()[i]);
      CHECK(same_bits(found.rows(i, i + 1), expected.rows(i, i + 1)));
    }
    // A model in a narrow format is the rounded model, and saved once more it stays what it is.
    Bert<float> model(small_config(), BertHead::classifier, Rng(1));
    model.save(folder / "a", float_format(format));
    const auto rounded = load_bert<float>(folder / "a", BertHead::classifier, Rng(2));
    rounded->save(folder / "b", float_format(format));
    CHECK(read_file(folder / "a/model.safetensors") == read_file(folder / "b/model.safetensors"));
  }
}
