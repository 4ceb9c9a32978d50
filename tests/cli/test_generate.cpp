// parsimony generate, perplexity and pretrain of decoders, as a user runs them, and what they
// refuse.
#include <parsimony/files.hpp>

#include <filesystem>

#include "cli/process.hpp"
#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

void check_refused(const std::vector<std::string>& command, const std::string& message) {
  const Outcome o = program(command);
  INFO(message);
  INFO(o.err);
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains(message));
}

/// A small GPT-2 or LLaMA, pretrained a few steps on a text.
struct Trained {
  explicit Trained(const std::string& arch) : run(folder / "run"), corpus(folder / "corpus.txt") {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "The cat sat on the mat.\nA dog ran to the cat.\n\n";
    write_raw(corpus, text);
    command = {
        "pretrain", "--arch",  arch,        "--corpus", corpus, "--vocab-size", "300", "--length",
        "16",       "--steps", "6",         "--batch",  "4",    "--eval-every", "3",   "--quiet",
        "--out",    run,       "--threads", "1"};
  }
  TempFolder folder;
  std::string run, corpus;
  std::vector<std::string> command;
};

}  // namespace

TEST_CASE("pretrain: a GPT-2 and a LLaMA that generate and foretell") {
  for (const std::string arch : {"gpt2", "llama"}) {
    INFO(arch);
    const Trained t(arch);
    const Outcome trained = program(t.command);
    INFO(trained.err);
    REQUIRE(trained.code == 0);
    CHECK(json::parse(read_file(t.run + "/model/config.json"))["model_type"] == arch);
    const std::vector<std::string> generate = {"generate", "--model",      t.run, "--prompt",
                                               "The cat",  "--max-tokens", "12",  "--json"};
    const Outcome text = program(generate);
    INFO(text.err);
    REQUIRE(text.code == 0);
    const json result = json::parse(text.out);
    CHECK(result["text"].get<std::string>().compare(0, 7, "The cat") == 0);
    CHECK(result["ids"].size() <= 12);
    CHECK_THAT(text.err, contains("tokens/s"));
    auto uncached = generate;
    uncached.emplace_back("--no-cache");
    CHECK(json::parse(program(uncached).out)["ids"] == result["ids"]);
    const Outcome p = program({"perplexity", "--model", t.run, "--input", t.corpus, "--json"});
    INFO(p.err);
    REQUIRE(p.code == 0);
    CHECK(json::parse(p.out)["perplexity"].get<double>() < 300);
    // On from where it is, and the vocabulary is its own.
    const Outcome more =
        program({"pretrain", "--model", t.run, "--corpus", t.corpus, "--length", "16", "--steps",
                 "2", "--out", t.folder / "more", "--quiet", "--json"});
    INFO(more.err);
    REQUIRE(more.code == 0);
    CHECK(json::parse(more.out)["held_out_loss"].get<double>() > 0);
    CHECK(read_file(t.folder / "more/model/vocab.json") == read_file(t.run + "/model/vocab.json"));
    check_refused({"pretrain", "--model", t.run, "--arch", arch, "--corpus", t.corpus, "--out",
                   t.folder / "other"},
                  "arch: the model to go on from has its own");
    CHECK(json::parse(p.out)["tokens"].get<int>() > 500);
    // Resumed without anything left to do; refused with another architecture.
    auto other = t.command;
    other[2] = arch == "gpt2" ? "llama" : "gpt2";
    other.emplace_back("--resume");
    CHECK(program(other).code == 2);
  }
}

TEST_CASE("generate and perplexity: what is refused") {
  const TempFolder temp;
  const std::string model = temp / "model";
  fs::copy(fixture("decoders/gpt2_bare"), model);
  check_refused({"generate", "--model", model}, "expected a tokenizer: vocab.txt");
  for (const char* file : {"vocab.json", "merges.txt"}) {
    fs::copy(fixture(std::string("decoders/bpe/") + file), model + "/" + file);
  }
  // The fixture's vocabulary is larger than the model's.
  check_refused({"generate", "--model", model}, "tokens, the model's vocab_size is 40");
  check_refused({"generate", "--model", temp / "none"}, "expected a model folder");
  check_refused({"generate", "--model", fixture("decoders/vit")},
                "model_type: expected gpt2 or llama; got 'vit'");
  write_raw(temp / "broken.bin", std::string(40, '\0'));
  check_refused({"generate", "--model", temp / "broken.bin"}, "llama2.c's header");

  const Trained t("llama");
  auto quick = t.command;
  quick[10] = "1";
  REQUIRE(program(quick).code == 0);
  const auto refused = [&](std::vector<std::string> more, const std::string& message) {
    more.insert(more.begin(), {"generate", "--model", t.run});
    check_refused(more, message);
  };
  refused({"--max-tokens", "600"}, "the context window is of 512 tokens");
  refused({"--input", t.corpus}, "leaves no room for a new one");
  refused({"--temperature", "-1"}, "a temperature of 0 or more; got -1");
  refused({"--top-p", "1.5"}, "top-p above 0, at most 1; got 1.5");
  refused({"--beams", "2", "--temperature", "1"}, "--beams or a draw");
  refused({"--greedy", "--top-k", "3"}, "--greedy or a draw");
  refused({"--max-tokens", "0"}, "--max-tokens: expected 1 or more");
  refused({"--max-tokens", "-1"}, "--max-tokens: expected 1 or more; got -1");
  check_refused({"perplexity", "--model", t.run, "--input", t.corpus, "--length", "1000"},
                "expected a length of 2..512");
  const auto no_pretraining = [&](std::vector<std::string> more, const std::string& message) {
    more.insert(more.begin(), {"pretrain", "--corpus", t.corpus, "--out", temp / "x"});
    check_refused(more, message);
  };
  no_pretraining({"--arch", "gpt3"}, "did you mean 'gpt2'?");
  no_pretraining({"--arch", "gpt2", "--masked", "0.2"}, "masked: a gpt2 predicts every token");
  no_pretraining({"--model", t.run, "--dropout", "0.1"}, "dropout: a llama has none");
  no_pretraining({"--short-length", "-1"}, "short-length: expected 8 or more that divides");
  no_pretraining({"--vocab-size", "0"}, "vocab");
  no_pretraining({"--vocab", t.run, "--vocab-size", "300"}, "vocab-size: '");
  // A run that was stopped before it had a model.
  fs::create_directory(temp / "stopped");
  fs::copy(t.run + "/config.json", temp / "stopped/config.json");
  for (const char* command : {"generate", "predict", "tokenize"}) {
    check_refused({command, "--model", temp / "stopped"}, "got a run without model/: one that is");
  }
  // A run stands for the model in it.
  CHECK(program({"tokenize", "--model", t.run, "--input", t.corpus}).out ==
        program({"tokenize", "--model", t.run + "/model", "--input", t.corpus}).out);
  write_raw(temp / "nul.txt", std::string("The cat\nsat\0 on the mat.\n", 24));
  for (const char* command : {"generate", "perplexity"}) {
    check_refused({command, "--model", t.run, "--input", temp / "nul.txt"},
                  "nul.txt': line 2, byte 4: expected text; got a NUL byte");
  }
  write_raw(temp / "empty.txt", "");
  check_refused({"pretrain", "--corpus", temp / "empty.txt", "--out", temp / "x"},
                "empty.txt': expected text; there are no words");
  check_refused({"pretrain", "--arch", "gpt2", "--corpus", temp / "empty.txt", "--out", temp / "x"},
                "empty.txt': expected text for at least one sequence of 128 tokens");
}

TEST_CASE("perplexity: progress with the time to go, on a terminal only") {
  const Trained t("gpt2");
  REQUIRE(program(t.command).code == 0);
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "The cat sat on the mat.\nA dog ran to the cat.\n\n";
  write_raw(t.folder / "long.txt", text);
  const std::vector<std::string> command = {
      "perplexity", "--model", t.run,     "--input", t.folder / "long.txt",
      "--length",   "16",      "--batch", "1"};
  Environment terminal;
  terminal.terminal = true;
  terminal.set = {{"TERM", "xterm"}};
  CHECK_THAT(program(command, terminal).out, contains("perplexity  ") && contains("ETA"));
  const Outcome plain = program(command);
  CHECK(plain.code == 0);
  CHECK(plain.err.empty());
}

TEST_CASE("export: a llama2.c file as a folder that finetune takes") {
  const TempFolder temp;
  const Trained t("llama");
  REQUIRE(program(t.command).code == 0);
  const Outcome copied = program({"export", "--model", t.run, "--out", temp / "copy", "--json"});
  INFO(copied.err);
  REQUIRE(copied.code == 0);
  CHECK(json::parse(copied.out)["model"] == temp / "copy");
  const auto loss = [&](const std::string& model) {
    return program(
        {"perplexity", "--model", model, "--input", t.corpus, "--json", "--threads", "1"});
  };
  CHECK(json::parse(loss(t.run).out)["loss"] == json::parse(loss(temp / "copy").out)["loss"]);
  write_raw(temp / "m.bin", std::string(40, '\0'));
  check_refused({"finetune", "--model", temp / "m.bin", "--task", "synthetic", "--out", temp / "x"},
                "got a model of llama2.c's: parsimony export --model");
  check_refused({"export", "--out", temp / "y"}, "--adapter: expected an adapter folder");
}
