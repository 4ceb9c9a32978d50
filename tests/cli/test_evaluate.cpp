// Models that do not say what they were trained on, tables and options as users have them: what
// evaluate, inspect and finetune make of them.
#include <parsimony/files.hpp>

#include <algorithm>
#include <filesystem>

#include "cli/language_models.hpp"
#include "cli/process.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

double metric(const Outcome& o, const char* name) {
  return json::parse(o.out)["metrics"][name].get<double>();
}

/// A quick fine-tuning on a table of its own.
std::vector<std::string> finetune_on(const std::string& table, const std::string& out,
                                     const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"finetune",  "--train", table,     "--quiet",
                                        "--threads", "1",       "--steps", "1",
                                        "--batch",   "4",       "--out",   out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  if (std::find(more.begin(), more.end(), "--model") == more.end()) {
    arguments.insert(arguments.end(), {"--model", language_fixture() / "model"});
  }
  return arguments;
}

/// A fully fine-tuned model as other programs leave it: without task.json.
std::string bare_model(const TempFolder& folder, const std::string& name, const std::string& table,
                       const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = finetune_on(table, folder / name, {"--method", "full"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  done(arguments);
  fs::remove(folder / (name + "/model/task.json"));
  return folder / (name + "/model");
}

}  // namespace

TEST_CASE("evaluate: a model without task.json, on pairs with numbers and with classes") {
  const TempFolder folder;
  const std::string classes = bare_model(folder, "classes", language_fixture() / "train.tsv");
  const std::string dev = language_fixture() / "dev.tsv";
  const Outcome o = done({"evaluate", "--model", classes, "--dev", dev, "--json"});
  CHECK(json::parse(o.out)["examples"] == 12);
  CHECK(json::parse(o.out)["metrics"].contains("matthews"));
  CHECK(json::parse(o.out)["metrics"].contains("f1"));
  CHECK_THAT(done({"predict", "--model", classes, "--input", language_fixture() / "in.tsv"}).out,
             contains("\t"));

  write_raw(folder / "scores.tsv",
            "a\tb\tscore\nthe dog\ta girl\t0.5\nthe dog\tthe dog\t5\na girl\tmy friend\t1.5\n");
  const std::string numbers = bare_model(folder, "numbers", folder / "scores.tsv",
                                         {"--columns", "a,b,score", "--goal", "regression"});
  const std::vector<std::string> evaluate = {
      "evaluate", "--model", numbers, "--dev", folder / "scores.tsv", "--columns", "a,b,score"};
  CHECK_THAT(done(evaluate).out, contains("pearson") && contains("spearman"));
  auto wrong = evaluate;
  wrong.insert(wrong.end(), {"--goal", "classes"});
  refused(wrong, "--goal: the model's outputs are a regression; got classes");
  wrong.back() = "nonsense";
  refused(wrong, "--goal: expected detect, classes or regression; got 'nonsense'");

  // Classes that the config calls LABEL_0 and LABEL_1 are meant by their numbers.
  const std::string path = classes + "/config.json";
  json config = json::parse(read_file(path));
  config["id2label"] = {{"0", "LABEL_0"}, {"1", "LABEL_1"}};
  config["label2id"] = {{"LABEL_0", 0}, {"LABEL_1", 1}};
  write_raw(path, config.dump());
  write_raw(folder / "digits.tsv", "the dog\ta girl\t1\nthe dog\tthe dog\t0\n");
  done({"evaluate", "--model", classes, "--dev", folder / "digits.tsv"});
}

TEST_CASE("evaluate: classes of a task are found by their names in the model") {
  const TempFolder folder;
  fs::create_directories(folder / "data/rte");
  const std::string head = "index\tsentence1\tsentence2\tlabel\n";
  const std::string rows =
      "0\tthe dog\tthe dog\tentailment\n1\tthe dog\ta girl\tnot_entailment\n"
      "2\ta girl\ta girl\tentailment\n";
  for (const char* file : {"train", "dev"}) {
    write_raw(folder / ("data/rte/" + std::string(file) + ".tsv"), head + rows);
  }
  write_raw(folder / "table.tsv",
            "sentence1\tsentence2\tlabel\nthe dog\tthe dog\tentailment\n"
            "the dog\ta girl\tnot_entailment\n");
  const std::string model = bare_model(folder, "m", folder / "table.tsv");
  const std::vector<std::string> evaluate = {"evaluate", "--model", model,           "--task",
                                             "rte",      "--data",  folder / "data", "--json"};
  const Outcome straight = done(evaluate);
  CHECK(straight.err.empty());
  json config = json::parse(read_file(model + "/config.json"));
  const auto call = [&](const std::string& first, const std::string& second) {
    config["id2label"] = {{"0", first}, {"1", second}};
    config["label2id"] = {{first, 0}, {second, 1}};
    write_raw(model + "/config.json", config.dump());
    return done(evaluate);
  };
  // The same weights under names in the other order answer the other way round.
  const Outcome swapped = call("NOT-ENTAILMENT", "ENTAILMENT");
  CHECK(swapped.err.empty());
  CHECK(metric(swapped, "accuracy") == Approx(1 - metric(straight, "accuracy")));
  const Outcome unnamed = call("LABEL_0", "LABEL_1");
  CHECK_THAT(unnamed.err, contains("LABEL_0, LABEL_1 are taken for entailment, not_entailment"));
  CHECK(metric(unnamed, "accuracy") == Approx(metric(straight, "accuracy")));
}

TEST_CASE("inspect: a head of another size is left out of the differences; idle options") {
  const TempFolder folder;
  const std::string two = bare_model(folder, "two", language_fixture() / "train.tsv");
  write_raw(folder / "three.tsv", "the dog\ta girl\tx\na girl\ta girl\ty\nmy friend\ta dog\tz\n");
  const std::string three = bare_model(folder, "three", folder / "three.tsv");
  const Outcome o = done({"inspect", three, "--base", two, "--json"});
  CHECK_THAT(o.err, contains("classifier.weight is (3, 128)") && contains("left out"));
  CHECK(json::parse(o.out)["updates"].size() > 10);
  refused({"inspect", three, "--model", two}, "--model: expected an adapter");
  refused({"inspect", three + "/model.safetensors", "--base", two}, "is a file");
  refused({"tokenize", "--model", two, "--vocab-size", "99"}, "--vocab-size: has no effect");
  refused({"tokenize", "--train", folder / "three.tsv", "--tokens", "--out", folder / "v"},
          "--tokens: has no effect beside --train");
}

TEST_CASE("finetune: nothing of a folder that no run made is removed") {
  const TempFolder folder;
  for (const char* inner : {"model", "adapter", "checkpoint"}) {
    const std::string mine = folder / (std::string(inner) + "-mine");
    fs::create_directories(mine + "/" + inner);
    write_raw(mine + "/" + inner + "/file", "x");
    refused(quick_finetune(mine, {"--steps", "1"}), "is neither made by a run nor");
    CHECK(read_file(mine + "/" + inner + "/file") == "x");
  }
  const std::string corpus = folder / "p/model/corpus.txt";
  fs::create_directories(folder / "p/model");
  fs::copy(language_fixture() / "corpus.txt", corpus);
  refused({"pretrain", "--corpus", corpus, "--length", "16", "--out", folder / "p"},
          "holds what is read");
  CHECK(fs::exists(corpus));
  fs::create_directories(folder / "q");
  write_raw(folder / "q/notes.txt", "mine");
  done(quick_finetune(folder / "q", {"--steps", "1"}));
  CHECK(read_file(folder / "q/notes.txt") == "mine");
}

TEST_CASE("finetune: a run is not resumed with other examples or other weights") {
  const TempFolder folder;
  const std::string table = folder / "train.tsv";
  fs::copy(language_fixture() / "train.tsv", table);
  const auto run = [&](const std::vector<std::string>& more) {
    return finetune_on(table, folder / "run", more);
  };
  done(run({}));
  done(run({"--resume"}));
  std::string text = read_file(table);
  text.replace(text.find("same"), 4, "other");
  write_raw(table, text);
  refused(run({"--resume"}), "cannot resume: examples was");
  done(run({}));
  const std::string base = folder / "base";
  fs::copy(language_fixture() / "model/model", base);
  done(run({"--model", base}));
  std::string weights = read_file(base + "/model.safetensors");
  char& one = weights[weights.size() / 2];
  one = static_cast<char>(one ^ 1);
  write_raw(base + "/model.safetensors", weights);
  refused(run({"--model", base, "--resume"}), "cannot resume: model_weights was");
}

TEST_CASE("finetune: a header without usual names, and settings that cannot be") {
  const TempFolder folder;
  write_raw(folder / "moods.tsv", "utterance\tmood\nthe dog\tgood\na girl\tbad\n");
  auto named =
      finetune_on(folder / "moods.tsv", folder / "named", {"--columns", "1,2", "--header", "yes"});
  done(named);
  CHECK(json::parse(read_file(folder / "named/config.json"))["train_examples"] == 2);
  const auto at = std::find(named.begin(), named.end(), "yes");
  *at = "maybe";
  refused(named, "--header: expected detect, yes or no");
  refused(quick_finetune(folder / "x", {"--samples", "25", "--no-replacement"}),
          "--samples: expected at most 24");
  refused(quick_finetune(folder / "x", {"--seeds", "0,1", "--seed", "3"}), "--seed: has no effect");
  refused(quick_finetune(folder / "x", {"--seeds", "0,1", "--task", "synthetic"}),
          "expected --task NAME or --train FILE, one of the two");
  write_raw(folder / "huge.tsv", "the dog\ta girl\t1e39\nthe dog\ta dog\t0.5\n");
  refused(finetune_on(folder / "huge.tsv", folder / "x", {"--goal", "regression"}),
          "huge.tsv, line 1: expected a label that single precision holds");
  CHECK_FALSE(fs::exists(folder / "x"));
}
