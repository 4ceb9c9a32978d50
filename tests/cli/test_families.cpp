// GPT-2, LLaMA and ViT through the commands on adapters: finetune, evaluate, predict, merge,
// export, inspect, generate and perplexity give one answer, whichever form the adapter is in.
#include <parsimony/files.hpp>

#include <filesystem>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

json json_of(const std::string& path) { return json::parse(read_file(path)); }

/// A decoder pretrained for a step.
std::string decoder(const TempFolder& folder, const std::string& arch) {
  done({"pretrain", "--arch", arch, "--corpus", language_fixture() / "corpus.txt", "--vocab-size",
        "280", "--length", "16", "--steps", "1", "--batch", "2", "--quiet", "--out",
        folder / arch});
  return folder / arch;
}

/// optdigits' files with a few images that are a bright row each.
void write_digits(const std::string& data) {
  fs::create_directories(data + "/optdigits");
  for (const char* file : {"optdigits.tra", "optdigits.tes"}) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      for (int p = 0; p < 64; ++p) text += std::to_string(p / 8 == i % 8 ? 8 + i % 9 : 0) + ",";
      text += std::to_string(i % 10) + "\n";
    }
    write_raw(data + "/optdigits/" + file, text);
  }
}

}  // namespace

TEST_CASE("families: an adapter on a decoder answers alike native, merged and as PEFT's") {
  const TempFolder folder;
  const std::vector<std::pair<std::string, std::vector<std::string>>> runs = {
      {"gpt2", {"olora", "dora"}}, {"llama", {"nola", "mora"}}};
  for (const auto& [arch, methods] : runs) {
    const std::string base = decoder(folder, arch);
    for (const std::string& method : methods) {
      CAPTURE(arch, method);
      const std::string run = folder / (arch + "-" + method);
      done({"finetune",    "--model", base,      "--train", language_fixture() / "train.tsv",
            "--method",    method,    "--steps", "2",       "--batch",
            "4",           "--lr",    "0.05",    "--rank",  "4",
            "--threads",   "1",       "--quiet", "--out",   run,
            "--train-head"});
      const auto answers = predicted({"--adapter", run});
      done({"merge", "--adapter", run, "--out", run + "-merged"});
      CHECK(largest_difference(answers, predicted({"--model", run + "-merged"})) < 3e-6);
      const std::vector<std::string> generate = {"generate", "--prompt",     "the dog", "--threads",
                                                 "1",        "--max-tokens", "4",       "--json"};
      const auto text_of = [&](const std::vector<std::string>& which) {
        auto arguments = generate;
        arguments.insert(arguments.end(), which.begin(), which.end());
        return json::parse(done(arguments).out)["ids"];
      };
      // The base is the adapter's where none is named.
      CHECK(text_of({"--adapter", run}) == text_of({"--model", run + "-merged"}));
      const std::string peft = run + "-peft";
      if (method == "dora" || method == "mora") {
        refused({"export", "--adapter", run, "--out", peft}, "merge it, or name a rank");
        CHECK_FALSE(fs::exists(peft));
        continue;
      }
      done({"export", "--adapter", run, "--out", peft});
      CHECK_FALSE(fs::exists(peft + "/base"));  // the base is a folder that lasts
      CHECK(json_of(peft + "/adapter_config.json")["fan_in_fan_out"] == (arch == "gpt2"));
      CHECK(largest_difference(answers, predicted({"--adapter", peft})) < 3e-6);
      CHECK(text_of({"--adapter", peft}) == text_of({"--model", run + "-merged"}));
      const auto perplexity = [&](const std::vector<std::string>& which) {
        std::vector<std::string> arguments = {"perplexity", "--input",
                                              language_fixture() / "corpus.txt", "--json"};
        arguments.insert(arguments.end(), which.begin(), which.end());
        return json::parse(done(arguments).out)["loss"].get<double>();
      };
      const double merged = perplexity({"--model", run + "-merged"});
      CHECK(std::abs(perplexity({"--model", base, "--adapter", peft}) - merged) < 1e-5);
      CHECK(std::abs(perplexity({"--adapter", run}) - merged) < 1e-5);
      CHECK(std::abs(perplexity({"--model", base}) - merged) > 1e-4);
    }
  }
  refused({"generate", "--prompt", "a"}, "--model");
  refused({"generate", "--adapter", folder / "gpt2-olora", "--model", folder / "llama"},
          "an adapter for another model");
}

TEST_CASE("families: a ViT's adapter answers alike native, merged and as PEFT's") {
  const TempFolder folder;
  const std::string data = folder / "data";
  write_digits(data);
  const auto finetune = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"finetune", "--task",    "optdigits", "--data",    data,
                                          "--quiet",  "--threads", "1",         "--batch",   "8",
                                          "--lr",     "1e-2",      "--out",     folder / out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    done(arguments);
  };
  finetune("base", {"--model", "scratch:vit-tiny-8x1", "--method", "full", "--steps", "6"});
  const auto metrics = [&](const std::vector<std::string>& which) {
    std::vector<std::string> arguments = {"evaluate", "--task",    "optdigits", "--data",
                                          data,       "--threads", "1",         "--json"};
    arguments.insert(arguments.end(), which.begin(), which.end());
    return json::parse(done(arguments).out)["metrics"];
  };
  for (const std::string method : {"lora", "pissa", "dora"}) {
    CAPTURE(method);
    const std::string run = folder / method;
    finetune(method, {"--model", folder / "base/model", "--method", method, "--steps", "5"});
    const json answers = metrics({"--adapter", run});
    CHECK(answers == json_of(run + "/result.json")["metrics"]);
    done({"merge", "--adapter", run, "--out", run + "-merged"});
    CHECK(metrics({"--model", run + "-merged"}) == answers);
    if (method == "dora") continue;
    done({"export", "--adapter", run, "--out", run + "-peft"});
    CHECK(metrics({"--adapter", run + "-peft"}) == answers);
    CHECK_THAT(done({"inspect", run + "-peft"}).out, contains("lora (peft)"));
  }
}
