// The adapter methods on the command line: flags that come from the methods' own lists, what is
// refused before anything is trained, and a small run that comes back from its folder.
#include <parsimony/adapter.hpp>
#include <parsimony/files.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;

namespace {

Outcome finetune(std::vector<std::string> more) {
  more.insert(more.begin(), {"finetune", "--task", "synthetic", "--quiet"});
  return program(more);
}

void check_refused(std::vector<std::string> more, const std::string& message) {
  TempFolder folder;
  more.insert(more.end(), {"--out", folder / "run"});
  const Outcome o = finetune(more);
  INFO(message);
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains(message));
}

}  // namespace

TEST_CASE("cli: finetune offers every method and the options that they declare") {
  const std::string help = program({"finetune", "--help"}).out;
  for (const std::string& method : parsimony::adapter_methods()) {
    INFO(method);
    CHECK_THAT(help, contains(method));
    for (const auto& option : parsimony::adapter_info(method).options) {
      std::string flag = "--" + option.key;
      std::replace(flag.begin(), flag.end(), '_', '-');
      CHECK_THAT(help, contains(flag));
    }
  }
}

TEST_CASE("cli: finetune refuses what a method cannot do, by name") {
  check_refused({"--method", "lorax"}, "did you mean 'lora'?");
  check_refused({"--method", "lora-xs", "--bases", "4"},
                "lora-xs: there is no option 'bases'; it belongs to nola");
  check_refused({"--rank", ""}, "--rank: expected N; got ''");
  check_refused({"--checkpoint-seconds", "-1"}, "--checkpoint-seconds: expected at least 0");
  check_refused({"--samples", "999999999999"},
                "samples: expected 0 (all) or more, at most 100 million");
  check_refused({"--method", "full", "--rank", "4"}, "method full has no adapters");
  check_refused({"--method", "nola", "--bases", "many"}, "bases: expected an integer; got 'many'");
  check_refused({"--method", "olora", "--rank", "500"}, "rank: expected 1..128; got 500");
  check_refused({"--method", "mora", "--targets", "word_embeddings"}, "for linear layers");
  check_refused({"--method", "dora", "--targets", "quarry"}, "did you mean 'query'?");
}

TEST_CASE("cli: finetune says which options have no effect") {
  const TempFolder folder;
  const auto said = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command = {"finetune", "--task",  "synthetic", "--samples",
                                        "16",       "--steps", "1",         "--targets",
                                        "query",    "--out",   folder / "r"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome o = program(command);
    CHECK(o.code == 0);
    return o.err;
  };
  CHECK_THAT(said({"--form", "full", "--rank", "4"}),
             contains("--rank has no effect on deep-lora with --form full, only with narrow or "
                      "compressed"));
  CHECK_THAT(said({"--gamma", "0.1", "--wide"}),
             contains("--gamma has no effect on deep-lora with --form narrow") &&
                 contains("--wide has no effect on deep-lora with --form narrow"));
  CHECK_THAT(said({"--method", "lora,rslora", "--alpha", "4"}),
             contains("--alpha has no effect on lora with --init paper, only with peft") &&
                 !contains("effect on rslora"));
  CHECK_THAT(said({"--method", "head"}), contains("--targets has no effect on head"));
  CHECK(said({"--form", "full", "--rank", "4", "--quiet"}).empty());
  CHECK_THAT(said({"--form", "full", "--wide", "--rank", "4", "--depth", "4"}),
             !contains("--wide") && !contains("--depth"));
}

TEST_CASE("cli: a NOLA run is its coefficients and a seed, and answers as it did") {
  TempFolder folder;
  const std::string run = folder / "run";
  const Outcome o = finetune({"--method", "nola", "--bases", "5", "--seed", "3", "--samples", "32",
                              "--steps", "2", "--lr", "1e-2", "--out", run});
  INFO(o.err);
  REQUIRE(o.code == 0);
  const json config = json::parse(read_file(run + "/adapter/adapter_config.json"));
  CHECK(config["basis_seed"] == 3);
  const json result = json::parse(read_file(run + "/result.json"));
  const auto size = [&](const char* file) {
    return std::filesystem::file_size(run + "/adapter/" + file);
  };
  CHECK(size("adapter_model.safetensors") + size("adapter_config.json") <=
        4 * result["parameters"].get<std::uintmax_t>() + 1024);
  const Outcome again =
      program({"evaluate", "--adapter", run + "/adapter", "--task", "synthetic", "--json"});
  const json metrics = json::parse(again.out)["metrics"];
  CHECK(std::abs(metrics["pearson"].get<double>() - result["metrics"]["pearson"].get<double>()) <
        1e-9);
}

TEST_CASE("cli: merge, export and inspect refuse what is not finite, by name") {
  const TempFolder folder;
  const std::string base = language_fixture() / "model/model";
  const std::string model = folder / "large";
  std::filesystem::copy(base, model);
  parsimony::TensorMap weights = parsimony::load_safetensors(base + "/model.safetensors");
  const std::string word = "bert.embeddings.word_embeddings.weight";
  weights.set(word, parsimony::scale(weights.get_as<float>(word), 1e7));
  parsimony::save_safetensors(model + "/model.safetensors", weights);
  const std::string run = folder / "run";
  done({"finetune", "--model", model, "--train", language_fixture() / "train.tsv", "--method",
        "lora", "--targets", "query", "--steps", "1", "--batch", "4", "--out", run, "--quiet"});
  refused({"merge", "--adapter", run, "--out", folder / "half", "--format", "f16"},
          "half/model.safetensors': tensor '" + word + "': ");
  CHECK_FALSE(std::filesystem::exists(folder / "half"));
  done({"merge", "--adapter", run, "--out", folder / "half", "--format", "bf16"});

  const std::string stored = run + "/adapter/adapter_model.safetensors";
  parsimony::TensorMap adapter = parsimony::load_safetensors(stored);
  const std::string b = "bert.encoder.layer.1.attention.self.query.lora.B";
  adapter.set(b, parsimony::Tensor<float>::full(adapter.shape(b), std::nanf("")));
  parsimony::save_safetensors(stored, adapter);
  const std::string message = "tensor '" + b + "': expected finite numbers; got nan";
  for (const char* format : {"native", "peft"}) {
    refused({"export", "--adapter", run, "--format", format, "--out", folder / "out"}, message);
  }
  refused({"merge", "--adapter", run, "--out", folder / "out"}, message);
  refused({"inspect", run}, message);
  CHECK_FALSE(std::filesystem::exists(folder / "out"));
}
