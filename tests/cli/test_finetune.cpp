// parsimony finetune, evaluate and predict as a user runs them: many runs at once, what predict
// reads and writes, and what is refused.
#include <parsimony/files.hpp>
#include <parsimony/safetensors.hpp>

#include <filesystem>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

json json_of(const std::string& path) { return json::parse(read_file(path)); }

}  // namespace

TEST_CASE("finetune: methods, seeds and a table of paired differences") {
  const TempFolder folder;
  const auto arguments = quick_finetune(
      folder / "many",
      {"--method", "lora,head", "--seeds", "0-1", "--steps", "2", "--lr", "1e-3", "--json"});
  const json all = json::parse(done(arguments).out);
  CHECK(all == json_of(folder / "many/summary.json"));
  CHECK(all["runs"].size() == 4);
  const std::size_t metrics = all["runs"][0]["metrics"].size();
  REQUIRE(all["table"].size() == 2 * metrics);
  CHECK(all["table"][0]["seeds"] == 2);
  REQUIRE(all["paired"].size() == metrics);
  std::size_t row = 0;
  while (all["paired"][row]["metric"] != "accuracy") ++row;
  double difference = 0;
  for (const char* seed : {"0", "1"}) {
    const auto score = [&](const std::string& method) {
      return json_of(folder / ("many/" + method + "-seed" + seed) +
                     "/result.json")["metrics"]["accuracy"]
          .get<double>();
    };
    difference += (score("lora") - score("head")) / 2;
  }
  CHECK(all["paired"][row]["mean"].get<double>() == Approx(difference));
  const Outcome one =
      done(quick_finetune(folder / "one", {"--method", "lora,head", "--steps", "1"}));
  CHECK_THAT(one.out, contains("one pair: no statistic") && !contains("nan"));
  CHECK(json_of(folder / "one/summary.json")["paired"][0]["t"].is_null());
  // The same run alone gives the same adapter.
  done(quick_finetune(folder / "alone",
                      {"--method", "lora", "--seed", "1", "--steps", "2", "--lr", "1e-3"}));
  CHECK((read_file(folder / "alone/adapter/adapter_model.safetensors") ==
         read_file(folder / "many/lora-seed1/adapter/adapter_model.safetensors")));
  const auto with = [&](const std::vector<std::string>& more) {
    return quick_finetune(folder / "x", more);
  };
  refused(with({"--seeds", "1,1"}), "--seeds: 1 is named twice");
  refused(with({"--seeds", "3-1"}), "ascending");
  refused(with({"--method", "lora,lroa"}), "did you mean 'lora'?");
  CHECK_FALSE(fs::exists(folder / "x"));
  refused({"finetune", "--task", "stsb,synthetc", "--out", folder / "x"},
          "did you mean 'synthetic'?");
}

TEST_CASE("finetune: spectra and ranks during training, of adapters and of whole weights") {
  const TempFolder folder;
  done(quick_finetune(folder / "lora",
                      {"--method", "lora", "--rank", "3", "--targets", "query-value", "--steps",
                       "4", "--lr", "1e-2", "--spectra-every", "2"}));
  const std::string csv = read_file(folder / "lora/ranks.csv");
  CHECK_THAT(csv, contains("step,module,rank,paper_rank,largest\n"
                           "0,bert.encoder.layer.0.attention.self.query,0,0,0\n") &&
                      contains("\n4,bert.encoder.layer.1.attention.self.value,3,3,"));
  const TensorMap arrays = load_safetensors(folder / "lora/arrays.safetensors");
  for (const char* step : {"0", "2", "4"}) {
    CHECK(arrays.shape("spectrum.bert.encoder.layer.0.attention.self.query.t" +
                       std::string(step)) == Shape{3});
    CHECK(arrays.dtype("spectrum.bert.encoder.layer.0.attention.self.query.t" +
                       std::string(step)) == "F32");
  }
  CHECK_THAT(read_file(folder / "lora/metrics.csv"), contains("rank_mean"));

  done(quick_finetune(folder / "full", {"--method", "full", "--steps", "2", "--spectra"}));
  CHECK_THAT(read_file(folder / "full/ranks.csv"), contains("2,bert.pooler.dense,"));
  const json d = json::parse(
      done({"inspect", folder / "full", "--base", language_fixture() / "model", "--json"}).out);
  for (const json& u : d["updates"]) {
    if (u["name"] != "bert.encoder.layer.0.output.dense.weight") continue;
    const TensorMap logged = load_safetensors(folder / "full/arrays.safetensors");
    const auto s = logged.get_as<double>("spectrum.bert.encoder.layer.0.output.dense.t2");
    CHECK(u["singular_values"][0].get<double>() == Approx(s.data()[0]).epsilon(1e-5));
  }
  CHECK_FALSE(fs::exists(folder / "full/adapter"));
  // Another method in the same folder leaves nothing of the first.
  done(quick_finetune(folder / "full", {"--method", "head", "--steps", "1"}));
  CHECK_FALSE(fs::exists(folder / "full/model"));
  CHECK_FALSE(fs::exists(folder / "full/ranks.csv"));
}

TEST_CASE("finetune: a loss that is not finite is exit 3 with the step") {
  const TempFolder folder;
  const Outcome o = program(
      quick_finetune(folder / "run", {"--steps", "20", "--lr", "1e30", "--method", "full"}));
  CHECK(o.code == 3);
  CHECK_THAT(o.err, contains("train_loss became") && contains("at step 1"));
  CHECK_FALSE(fs::exists(folder / "run/model"));
  CHECK(fs::exists(folder / "run/metrics.csv"));
}

TEST_CASE("predict: a line of logits for each line, whatever it holds") {
  const TempFolder folder;
  done(quick_finetune(folder / "run", {"--steps", "1"}));
  std::string long_line;
  for (int i = 0; i < 3000; ++i) long_line += "the old man ";
  const std::string text = "the dog\tmy friend\r\n\n\"the dog\"\t'a \"girl'\nthe dog\n\t\n" +
                           long_line + "\t" + long_line + "\n\xC3\xA9t\xC3\xA9 \xE2\x82\xAC\nlast";
  write_raw(folder / "in.tsv", text);
  const std::vector<std::string> arguments = {"predict", "--adapter", folder / "run", "--input",
                                              folder / "in.tsv"};
  const Outcome o = done(arguments);
  CHECK(o.err.empty());
  std::istringstream lines(o.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK(std::count(line.begin(), line.end(), '\t') == 1);  // two classes
    for (const char c : line) CHECK(std::string("0123456789.-+e\t").find(c) != std::string::npos);
  }
  CHECK(count == 8);
  // Each line by itself gives the same, and the batch decides nothing.
  std::istringstream again(o.out);
  std::string line;
  std::getline(again, line);
  write_raw(folder / "one.tsv", "the dog\tmy friend");
  const std::vector<std::string> one = {
      "predict", "--adapter", folder / "run", "--input", folder / "one.tsv", "--batch", "1"};
  const std::string alone = done(one).out;
  CHECK(std::abs(std::stod(alone) - std::stod(line)) < 1e-6);
  // stdin to a file.
  Environment from_file;
  const std::string input = folder / "in.tsv";
  from_file.before = [input] {
    if (std::freopen(input.c_str(), "rb", stdin) == nullptr) std::abort();
  };
  const Outcome piped =
      program({"predict", "--adapter", folder / "run", "--output", folder / "out.tsv"}, from_file);
  CHECK(piped.code == 0);
  CHECK(piped.out.empty());
  CHECK(read_file(folder / "out.tsv") == o.out);
  write_raw(folder / "in.tsv", "");
  CHECK(done(arguments).out.empty());

  write_raw(folder / "in.tsv", "a\nb\tc\td\n");
  refused(arguments, "line 2: expected one text, or two with a tab between; got 3 columns");
  write_raw(folder / "in.tsv", "a\nb\xFF\n");
  refused(arguments, "line 2, byte 2: expected UTF-8");
  write_raw(folder / "in.tsv", std::string("a\nb\0\n", 5));
  refused(arguments, "line 2, byte 2: expected text; got a NUL byte");
  write_raw(folder / "in.tsv", "a\n");
  auto longer = arguments;
  longer.insert(longer.end(), {"--max-length", "513"});
  refused(longer, "--max-length: expected at most 512");
}

TEST_CASE("evaluate: splits, JSON, and a model without a head") {
  const TempFolder folder;
  done(quick_finetune(folder / "run", {"--steps", "1"}));
  const std::string dev = language_fixture() / "dev.tsv";
  const json e =
      json::parse(done({"evaluate", "--adapter", folder / "run", "--dev", dev, "--json"}).out);
  CHECK(e["examples"] == 12);
  CHECK(e["metrics"]["accuracy"] == json_of(folder / "run/result.json")["metrics"]["accuracy"]);
  const Outcome bare = done({"predict", "--model", language_fixture() / "model", "--input",
                             language_fixture() / "in.tsv"});
  CHECK_THAT(bare.err, contains("fresh, because it is not in the model: pooler, classifier"));
  refused({"evaluate", "--adapter", folder / "run", "--task", "synthetic"},
          "the model has 2 outputs, task synthetic needs 1: it was trained on train; train a "
          "head for it with parsimony finetune --task synthetic");
  // A head that nobody trained takes the task's size, as for predict: it answers at random.
  const Outcome fresh =
      done({"evaluate", "--model", language_fixture() / "model", "--task", "synthetic", "--json"});
  CHECK_THAT(fresh.err, contains("pooler, classifier; the answers are at random"));
  CHECK(std::abs(json::parse(fresh.out)["metrics"]["pearson"].get<double>()) < 0.5);
  refused({"evaluate", "--adapter", folder / "run"}, "--task NAME");
  refused({"evaluate", "--adapter", folder / "run", "--task", "synthetic", "--dev", dev},
          "--task synthetic: expected no --train, --dev");
  refused({"evaluate", "--adapter", folder / "run", "--dev", dev, "--split", "train"},
          "--split: expected none beside --dev");
  refused({"evaluate", "--model", folder / "run", "--dev", dev},
          "got a run without model/: its adapter is named with --adapter");
  write_raw(folder / "bad.tsv", "the dog\ta girl\tsmae\n");
  refused({"evaluate", "--adapter", folder / "run", "--dev", folder / "bad.tsv"},
          "bad.tsv, line 1: unknown label 'smae', did you mean 'same'?");
}

TEST_CASE("evaluate: a model of few positions, and a split whose file alone is there") {
  const TempFolder folder;
  const std::string base = language_fixture() / "model/model";
  const std::string model = folder / "short";
  fs::copy(base, model);
  TensorMap weights = load_safetensors(base + "/model.safetensors");
  const std::string positions = "bert.embeddings.position_embeddings.weight";
  weights.set(positions, weights.get_as<float>(positions).rows(0, 40).clone());
  save_safetensors(model + "/model.safetensors", weights);
  json config = json_of(base + "/config.json");
  config["max_position_embeddings"] = 40;
  write_raw(model + "/config.json", config.dump());
  const TempFolder& f = language_fixture();
  done({"finetune", "--model", model, "--train", f / "train.tsv", "--steps", "1", "--batch", "4",
        "--out", folder / "run", "--quiet"});
  CHECK(json_of(folder / "run/config.json")["max_length"] == 40);
  const std::vector<std::string> evaluate = {"evaluate", "--adapter", folder / "run", "--dev",
                                             f / "dev.tsv"};
  CHECK_THAT(done(evaluate).out, contains("12 examples"));
  auto longer = evaluate;
  longer.insert(longer.end(), {"--max-length", "41"});
  refused(longer, "--max-length: expected at most 40, the model's position table; got 41");

  fs::create_directories(folder / "data/sst2");
  write_raw(folder / "data/sst2/dev.tsv", "sentence\tlabel\nthe dog \t1\na girl \t0\n");
  const auto split = [&](const std::string& name) {
    return std::vector<std::string>{"evaluate", "--model", model,    "--task",       "sst2",
                                    "--split",  name,      "--data", folder / "data"};
  };
  CHECK_THAT(done(split("dev")).out, contains("2 examples"));
  write_raw(folder / "data/sst2/train.tsv", "sentence\tlabel\nthe dog \t2\n");
  CHECK_THAT(done(split("dev")).out, contains("2 examples"));
  refused(split("train"), "train.tsv, line 2: unknown label '2'");
  refused(split("dve"), "--split: expected dev, train or test; got 'dve'");
}

TEST_CASE("finetune: what it refuses, before anything is written") {
  const TempFolder folder;
  const std::string out = folder / "run";
  const auto with = [&](const std::vector<std::string>& more) { return quick_finetune(out, more); };
  refused({"finetune", "--task", "synthetc", "--out", out}, "did you mean 'synthetic'?");
  refused({"finetune", "--out", out}, "--task NAME or --train FILE");
  refused({"finetune", "--task", "synthetic"}, "--out");
  refused({"finetune", "--task", "synthetic", "--out", out, "--model", "scratch:huge"},
          "expected tiny, mini, small or base; got 'huge'");
  refused({"finetune", "--task", "synthetic", "--out", out, "--model", folder / "none"},
          "expected a model folder, tiny-en or scratch:SIZE; it does not exist");
  refused({"finetune", "--task", "synthetic", "--out", out, "--model", "tiny-em"},
          "it does not exist, did you mean 'tiny-en'?");
  refused({"finetune", "--task", "synthetic", "--dev", folder / "x.tsv", "--out", out},
          "--task synthetic: expected no --train, --dev");
  refused({"evaluate", "--task", "synthetic", "--adapter", folder / "none"},
          "none': expected an adapter folder or a run folder; it does not exist");
  refused(with({"--method", "lroa"}), "did you mean 'lora'?");
  refused(with({"--steps", "0"}), "steps: expected 1 or more; got 0");
  refused(with({"--max-length", "1000"}), "expected at most 512, the model's position table");
  refused(with({"--max-length", "-1"}), "max-length: expected at most 512");
  refused(with({"--method", "dora", "--alpha", "0"}), "alpha: expected a scaling above 0; got 0");
  write_raw(folder / "file", "");
  refused(quick_finetune(folder / "file", {}), "file");
  refused(with({"--goal", "class"}), "--goal: expected detect, classes or regression");
  refused(with({"--columns", "1,2,9"}), "9");
  refused(with({"--spectra-every", "-1"}), "--spectra-every");
  refused(with({"--methd", "lora"}), "did you mean '--method'?");
  // A run that is there keeps what it has.
  done(quick_finetune(out, {"--method", "lora", "--steps", "1"}));
  const std::string adapter = read_file(out + "/adapter/adapter_model.safetensors");
  refused(with({"--method", "pissa", "--rank", "200"}), "rank: expected 1..85; got 200");
  refused(with({"--form", "compressed", "--rank", "200"}), "rank: expected 2..85");
  refused(with({"--method", "mora", "--rank", "200"}), "expected 1..128");
  refused(with({"--method", "lora", "--targets", "qurey"}), "did you mean 'query'?");
  CHECK((read_file(out + "/adapter/adapter_model.safetensors") == adapter));
  fs::remove_all(out);

  write_raw(folder / "bad.tsv", "a\tb\tx\nc\td\n");
  refused({"finetune", "--train", folder / "bad.tsv", "--out", out}, "bad.tsv, line 2: expected 3");
  write_raw(folder / "bad.tsv", "a\tb\tnan\nc\td\t1\n");
  refused({"finetune", "--train", folder / "bad.tsv", "--goal", "regression", "--out", out},
          "line 1: expected a finite number as label");
  write_raw(folder / "dev.tsv", "the dog\ta girl\tboth\n");
  refused({"finetune", "--train", language_fixture() / "train.tsv", "--dev", folder / "dev.tsv",
           "--out", out},
          "unknown label 'both'");

  // Folders that are no BERT.
  fs::copy(language_fixture() / "model/model", folder / "model");
  const std::string config = read_file(folder / "model/config.json");
  json other = json::parse(config);
  other["model_type"] = "t5";
  write_raw(folder / "model/config.json", other.dump());
  const std::vector<std::string> arguments = {
      "finetune", "--model", folder / "model", "--train", language_fixture() / "train.tsv",
      "--out",    out};
  refused(arguments, "model_type: expected \"bert\"");
  other = json::parse(config);
  other.erase("hidden_size");
  write_raw(folder / "model/config.json", other.dump());
  refused(arguments, "hidden_size");
  write_raw(folder / "model/config.json", config);
  fs::rename(folder / "model/model.safetensors", folder / "model/pytorch_model.bin");
  refused(arguments, "a pickle can run code");
  CHECK_FALSE(fs::exists(out));
}

TEST_CASE("finetune: any Hugging Face BERT, with or without the prefix, in half precision") {
  const TempFolder folder;
  fs::copy(language_fixture() / "model/model", folder / "hf");
  const TensorMap weights = load_safetensors(folder / "hf/model.safetensors");
  TensorMap bare;
  for (const std::string& name : weights.names()) {
    if (name.compare(0, 5, "bert.") != 0) continue;
    bare.set_narrow(name.substr(5), weights.get_as<float>(name), FloatFormat::f16);
  }
  Tensor<std::int64_t> positions({1, 512});
  for (index_t i = 0; i < 512; ++i) positions.mutable_data()[i] = i;
  bare.set("embeddings.position_ids", positions);
  save_safetensors(folder / "hf/model.safetensors", bare);
  const Outcome o =
      done({"finetune", "--model", folder / "hf", "--train", language_fixture() / "train.tsv",
            "--steps", "2", "--out", folder / "run"});
  CHECK_THAT(o.err, contains("fresh, because it is not in the model: pooler, classifier"));
  CHECK(predicted({"--adapter", folder / "run"}).size() == 6);
}

TEST_CASE("finetune, pretrain: what is read is not written over") {
  const TempFolder folder;
  const std::string corpus = language_fixture() / "corpus.txt";
  const std::string run = folder / "run";
  done({"pretrain", "--corpus", corpus, "--vocab-size", "120", "--length", "16", "--steps", "1",
        "--batch", "4", "--quiet", "--out", run});
  const std::string config = read_file(run + "/model/config.json");
  const std::string weights = read_file(run + "/model/model.safetensors");
  for (const std::string& out : {run, run + "/model"}) {
    INFO(out);
    refused({"finetune", "--model", run, "--task", "synthetic", "--out", out}, "what is read");
    refused({"pretrain", "--model", run, "--corpus", corpus, "--length", "16", "--out", out},
            "what is read");
  }
  // Nor is a model that is not.
  refused({"finetune", "--task", "synthetic", "--steps", "1", "--out", run + "/model"},
          "expected a new folder or a run's");
  refused({"merge", "--adapter", run, "--out", folder / "x"}, run);
  CHECK(read_file(run + "/model/config.json") == config);
  CHECK(read_file(run + "/model/model.safetensors") == weights);

  // An adapter that cannot be is refused before the last one is removed.
  const auto finetune = quick_finetune(folder / "adapted", {"--steps", "1"});
  done(finetune);
  auto odd = finetune;
  odd.insert(odd.end(), {"--form", "compressed", "--rank", "3"});
  refused(odd, "needs an even one");
  CHECK(fs::exists(folder / "adapted/adapter/adapter_config.json"));
  refused({"merge", "--adapter", folder / "adapted", "--out", folder / "adapted"}, "what is read");
}
