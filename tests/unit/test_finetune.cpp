// Fine-tuning a small model: what each method trains and what it leaves alone, the samples
// that a run sees, and evaluation that does not depend on its batches.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <set>

#include "run/interrupt.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

using Values = std::map<std::string, Tensor<float>>;

class OneStage : public Experiment {
 public:
  explicit OneStage(std::function<void(Run&)> body) : body_(std::move(body)) {}
  ExperimentInfo info() const override { return {"one", "a stage", "none", {{"quick", 0.1}}}; }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void declare(Config&) const override {}
  void preset(const std::string&, Config&) const override {}
  void run(Run& run) const override { body_(run); }

 private:
  std::function<void(Run&)> body_;
};

Values values_of(const Module<float>& model) {
  Values out;
  for (const auto& [name, var] : model.named_parameters()) out[name] = var.value().clone();
  return out;
}

bool same_bits(const Tensor<float>& a, const Tensor<float>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

bool is_head(const std::string& name) {
  return name.find("classifier.") == 0 || name.find("bert.pooler.dense.weight") == 0 ||
         name.find("bert.pooler.dense.bias") == 0;
}

struct Outcome {
  Values before, after;
  std::vector<std::string> extras;
  std::vector<double> losses;
  double parameters = 0;
  index_t first = -1;  // step that was taken first
};

/// A language model as pretraining leaves it, without pooler and classifier, that knows the words
/// of the generated task.
const BaseModel& base() {
  static const TempFolder folder;
  static const BaseModel small = [] {
    WordCounter words;
    for (const TextExample& e : synthetic_pairs().train) words.add(e.first + " " + e.second);
    VocabularyOptions v;
    v.size = 300;
    const WordPieceTokenizer tokenizer(train_wordpiece(words.words(), v));
    tokenizer.save(folder.path());
    BertConfig config;
    config.vocab_size = tokenizer.size();
    config.hidden_size = 24;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 3;
    config.intermediate_size = 40;
    config.max_position_embeddings = 60;
    config.initializer_range = 0.1;
    Bert<float> model(config, BertHead::masked_lm, Rng(1));
    model.save(folder.path());
    return BaseModel(folder.path());
  }();
  return small;
}

const EncodedTask& pairs() {
  static const EncodedTask task = encode_task(base(), synthetic_pairs({60, 20, 0}), 60);
  return task;
}

/// Runs into a folder, or goes on with the run that is there; stopped as by Ctrl-C at a step.
Outcome tuned_in(const std::string& folder, const FinetuneOptions& o, const EncodedTask& task,
                 bool resume = false, index_t stop_at = -1) {
  Outcome out;
  RunOptions options;
  options.out = folder;
  options.quiet = true;
  options.resume = resume;
  run_experiment(OneStage([&](Run& run) {
                   const Record& r = run.stage("finetune", [&](Stage& stage) {
                     const Finetuned f =
                         finetune(stage, base(), task, o, [&](index_t step, auto& m) {
                           if (out.first < 0) out.first = step;
                           if (step == 0) out.before = values_of(m);
                           if (step == stop_at) detail::set_interrupt_requested(true);
                         });
                     out.after = values_of(*f.model);
                     out.extras = f.extras;
                   });
                   out.losses = r.series("train_loss");
                   out.parameters = r.scalar("parameters");
                 }),
                 options);
  return out;
}

Outcome tuned(const FinetuneOptions& o, const EncodedTask& task = pairs()) {
  const TempFolder folder;
  return tuned_in(folder.path(), o, task);
}

FinetuneOptions short_run(const std::string& method) {
  FinetuneOptions o;
  o.method = method;
  o.targets = "query-value";
  o.steps = 3;
  o.batch = 4;
  o.learning_rate = 1e-2;
  return o;
}

}  // namespace

TEST_CASE("finetune: what each method trains, and what it leaves to the bit", "[finetune]") {
  for (const std::string method : {"full", "head", "lora", "deep-lora"}) {
    for (const bool train_head : {false, true}) {
      if (train_head && (method == "full" || method == "head")) continue;
      CAPTURE(method, train_head);
      FinetuneOptions o = short_run(method);
      o.train_head = train_head;
      const Outcome run = tuned(o);
      REQUIRE(run.before.size() == run.after.size());
      const bool adapters = method != "full" && method != "head";
      double trained = 0;
      bool head_moved = false;
      bool rest_moved = false;
      bool adapters_moved = false;
      for (const auto& [name, value] : run.after) {
        CAPTURE(name);
        const bool moved = !same_bits(value, run.before.at(name));
        const bool adapter = name.find("lora.") != std::string::npos;
        const bool trains =
            method == "full" || adapter || (is_head(name) && (train_head || method == "head"));
        // What does not train keeps its bits; a word that no batch has keeps its row only.
        if (!trains) CHECK_FALSE(moved);
        if (trains) trained += static_cast<double>(value.size());
        if (adapter) adapters_moved = adapters_moved || moved;
        if (is_head(name) && !adapter) head_moved = head_moved || moved;
        if (!is_head(name) && !adapter) rest_moved = rest_moved || moved;
      }
      CHECK(adapters_moved == adapters);
      CHECK(head_moved == (method == "full" || method == "head" || train_head));
      CHECK(rest_moved == (method == "full"));
      CHECK(run.parameters == trained);
      // The base has neither pooler nor head, so both go with the adapter.
      CHECK(run.extras == std::vector<std::string>{"bert.pooler.dense.bias",
                                                   "bert.pooler.dense.weight", "classifier.bias",
                                                   "classifier.weight"});
    }
  }
}

TEST_CASE("finetune: a seed decides a run, and not the head", "[finetune]") {
  FinetuneOptions o = short_run("lora");
  o.samples = 8;
  const Outcome one = tuned(o);
  const Outcome again = tuned(o);
  CHECK(one.losses == again.losses);
  for (const auto& [name, value] : one.after) CHECK(same_bits(value, again.after.at(name)));
  o.seed = 1;
  const Outcome other = tuned(o);
  CHECK(other.losses != one.losses);
  for (const auto& [name, value] : one.before) {
    if (is_head(name)) CHECK(same_bits(value, other.before.at(name)));
  }
  o.head_seed = 1;
  const Outcome third = tuned(o);
  CHECK_FALSE(same_bits(third.before.at("classifier.weight"), one.before.at("classifier.weight")));
}

TEST_CASE("finetune: stopped and resumed, every method ends with the same bits", "[finetune]") {
  std::vector<std::pair<std::string, std::string>> methods = {{"deep-lora", "compressed"},
                                                              {"deep-lora", "full"}};
  for (const std::string& method : adapter_methods()) methods.emplace_back(method, "");
  for (const char* plain : {"full", "head"}) methods.emplace_back(plain, "");
  for (const auto& [method, form] : methods) {
    CAPTURE(method, form);
    FinetuneOptions o = short_run(method);
    if (!form.empty()) o.adapter.set("form", form);
    if (has_adapters(o)) o.adapter.set("rank", index_t{4});
    o.steps = 5;
    o.warmup = 2;
    const Outcome whole = tuned(o);
    const TempFolder folder;
    CHECK_THROWS_AS(tuned_in(folder.path(), o, pairs(), false, 2), Interrupted);
    detail::set_interrupt_requested(false);
    const Outcome resumed = tuned_in(folder.path(), o, pairs(), true);
    CHECK(resumed.first > 0);
    CHECK(resumed.losses == whole.losses);
    CHECK(resumed.losses.size() == 5);
    REQUIRE(resumed.after.size() == whole.after.size());
    for (const auto& [name, value] : resumed.after) {
      INFO(name);
      CHECK(same_bits(value, whole.after.at(name)));
    }
  }
}

TEST_CASE("finetune: samples with and without replacement", "[finetune]") {
  // A regression whose labels are numbers of their own, and a batch as large as the sample: the
  // first loss is the mean over the sample, which it identifies.
  EncodedTask task = pairs();
  FinetuneOptions o = short_run("head");
  o.steps = 1;
  o.batch = 60;
  for (std::size_t i = 0; i < task.train.labels.size(); ++i) {
    task.train.labels[i] = 1000.0 * static_cast<double>(i + 1);
  }
  const auto first_loss = [&](index_t samples, bool replacement) {
    o.samples = samples;
    o.replacement = replacement;
    return tuned(o, task).losses.at(0);
  };
  // All 60 without replacement are the whole set; with, some come twice. The outputs, near 0, are
  // nothing beside the labels.
  double mean_square = 0;
  for (const double label : task.train.labels) mean_square += label * label / 60;
  CHECK(std::abs(first_loss(0, true) / mean_square - 1) < 1e-3);
  CHECK(std::abs(first_loss(60, false) / mean_square - 1) < 1e-3);
  CHECK(std::abs(first_loss(60, true) / mean_square - 1) > 1e-3);
  o.samples = 61;
  o.replacement = false;
  CHECK_THROWS_AS(tuned(o, task), ValueError);
}

TEST_CASE("finetune: a task's texts as tokens", "[finetune]") {
  const TextSplits splits = synthetic_pairs({60, 20, 0});
  CHECK(pairs().train.size() == 60);
  CHECK(pairs().dev.size() == 20);
  CHECK(pairs().pad_id == base().tokenizer().pad_id());
  // Longer ones are left out of both splits; 0 is the position table.
  std::vector<index_t> lengths;
  for (index_t i = 0; i < 60; ++i) lengths.push_back(pairs().train.length(i));
  std::nth_element(lengths.begin(), lengths.begin() + 30, lengths.end());
  const index_t limit = lengths[30];
  const EncodedTask shorter = encode_task(base(), splits, limit);
  CHECK(shorter.train.dropped + shorter.train.size() == 60);
  CHECK(shorter.train.dropped > 0);
  for (index_t i = 0; i < shorter.train.size(); ++i) CHECK(shorter.train.length(i) <= limit);
  CHECK(encode_task(base(), splits, 0).train.dropped == 0);
  CHECK_THROWS_WITH(encode_task(base(), splits, 61), contains("at most 60"));
  // Where no length is given: 128, as far as there are positions.
  CHECK(encode_task(base(), splits, {}).train.dropped == 0);
  CHECK(length_limit(base(), {}) == 60);
  CHECK(length_limit(BaseModel("scratch:tiny"), {}) == 128);
  CHECK_THROWS_WITH(encode_task(base(), splits, 4), contains("have more than 4 tokens"));
}

TEST_CASE("finetune: classes are numbered as the model's trained head has them", "[finetune]") {
  const TempFolder folder;
  BertConfig config;
  config.vocab_size = base().tokenizer().size();
  config.hidden_size = 24;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 3;
  config.intermediate_size = 40;
  config.max_position_embeddings = 60;
  config.type_vocab_size = 1;
  config.num_labels = 3;
  config.labels = {"CONTRADICTION", "ENTAILMENT", "NOT-ENTAILED"};
  Bert<float>(config, BertHead::classifier, Rng(1)).save(folder.path());
  for (const char* file : {"vocab.txt", "tokenizer_config.json"}) {
    std::filesystem::copy_file(std::filesystem::path(base().folder()) / file, folder / file);
  }
  const BaseModel model(folder.path());
  TextSplits splits;
  splits.task.labels = {"entailment", "not_entailed", "contradiction"};
  splits.task.metric = "accuracy";
  for (int i = 0; i < 3; ++i) splits.train.push_back({"one", "", static_cast<double>(i)});
  splits.dev = splits.train;
  const EncodedTask task = encode_task(model, splits, {});
  CHECK(task.task.labels ==
        std::vector<std::string>{"contradiction", "entailment", "not_entailed"});
  CHECK(task.train.labels == std::vector<double>{1, 2, 0});
  CHECK(task.dev.labels == std::vector<double>{1, 2, 0});
  // Classes of other names stay as they are.
  splits.task.labels = {"entailment", "neutral", "contradiction"};
  CHECK(encode_task(model, splits, {}).train.labels == std::vector<double>{0, 1, 2});
  CHECK(places_of_labels({"+", "-"}, {"-", "+"}) == std::vector<index_t>{1, 0});
  CHECK(places_of_labels({"a", "A"}, {"A", "a"}) == std::vector<index_t>{1, 0});
  CHECK(places_of_labels({"a", "b"}, {"a", "b", "c"}).empty());
  // A model of single texts alone.
  splits.task.pair = true;
  CHECK_THROWS_WITH(encode_task(model, splits, {}), contains("its type_vocab_size is 1"));
}

TEST_CASE("finetune: outputs do not depend on the batch that a text is in", "[finetune]") {
  TextTask task = pairs().task;
  const auto model = base().classifier(task);
  const Tensor<float> alone = model_outputs(*model, pairs().train, 0, 1);
  REQUIRE(alone.shape() == Shape{60, 1});
  std::set<float> different(alone.begin(), alone.end());
  CHECK(different.size() > 30);
  for (const index_t batch : {7, 32, 100}) {
    const Tensor<float> some = model_outputs(*model, pairs().train, 0, batch);
    CHECK(max_abs(sub(some, alone)) < 2e-6);
  }
}

TEST_CASE("finetune: a diverging run ends with the step", "[finetune]") {
  FinetuneOptions o = short_run("full");
  o.learning_rate = 1e30;
  o.steps = 10;
  try {
    tuned(o);
    FAIL("it went on");
  } catch (const NumericalError& e) {
    CHECK_THAT(e.what(), contains("train_loss"));
    CHECK(e.step() >= 1);
    CHECK(e.step() < 10);
  }
}

TEST_CASE("finetune: options that are refused", "[finetune]") {
  const auto refused = [](const std::function<void(FinetuneOptions&)>& edit, const char* says) {
    FinetuneOptions o;
    edit(o);
    CHECK_THROWS_AS(check(o), ValueError);
    CHECK_THROWS_WITH(check(o), contains(says));
  };
  refused([](auto& o) { o.method = "deep-lra"; }, "did you mean 'deep-lora'?");
  refused([](auto& o) { o.steps = 0; }, "steps");
  refused([](auto& o) { o.batch = 0; }, "batch");
  refused([](auto& o) { o.samples = -1; }, "samples");
  refused([](auto& o) { o.learning_rate = 0; }, "learning rate");
  refused([](auto& o) { o.learning_rate = std::nan(""); }, "learning rate");
  refused([](auto& o) { o.decay_ratio = 1.5; }, "decay-ratio");
  refused([](auto& o) { o.warmup = 501; }, "warmup");
  refused([](auto& o) { o.adam_eps = 0; }, "eps");
  refused([](auto& o) { o.adapter.set("rnak", index_t{4}); }, "rank");
}

TEST_CASE("finetune: models that are not there", "[finetune]") {
  const TempFolder folder;
  CHECK_THROWS_AS(BaseModel(folder / "none"), InputError);
  CHECK_THROWS_WITH(BaseModel(folder / "none"), contains("expected a model folder"));
  CHECK_THROWS_WITH(BaseModel("scratch:huge"), contains("tiny, mini, small or base"));
  write_raw(folder / "pytorch_model.bin", "PK");
  CHECK_THROWS_WITH(BaseModel(folder / "pytorch_model.bin"),
                    contains("a pickle can run code") && contains("safe_serialization=True"));
  write_raw(folder / "model.safetensors", "");
  CHECK_THROWS_WITH(BaseModel(folder / "model.safetensors"), contains("name the folder"));
  // More tokens than the embedding has rows.
  BertConfig config = BertConfig::sized("tiny", 4);
  save_bert_config(config, folder / "config.json", BertHead::none);
  write_raw(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
  CHECK_THROWS_WITH(BaseModel(folder.path()),
                    contains("vocab.txt has 5 tokens") && contains("vocab_size is 4"));
}
