// parsimony compress on decoders: every method, folders and llama2.c's files, what loads the
// result, and what is refused.
#include <parsimony/files.hpp>
#include <parsimony/rng.hpp>

#include <cmath>
#include <filesystem>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"
#include "support/fixtures.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string sentences(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "The " + std::to_string(i % 7) + " cats of house " + std::to_string(i % 5) +
            " sat on the mat.\nA dog ran over the " + (i % 2 == 0 ? "old" : "new") +
            " bridge to the cat.\n";
  }
  return text;
}

/// A GPT-2 and a LLaMA of a few steps, and text.
struct Fixture {
  TempFolder folder;
  std::string text = folder / "text.txt";
  Fixture() {
    write_raw(text, sentences(110));
    for (const std::string arch : {"gpt2", "llama"}) {
      done({"pretrain",  "--arch",   arch,    "--corpus",     text, "--vocab-size",
            "300",       "--length", "32",    "--steps",      "40", "--batch",
            "8",         "--lr",     "1e-3",  "--eval-every", "40", "--quiet",
            "--threads", "1",        "--out", folder / arch});
    }
  }
};

const Fixture& fixture_models() {
  static const Fixture made;
  return made;
}

json report_of(const std::string& folder) {
  return json::parse(read_file(folder + "/compression.json"));
}

std::vector<std::string> compress(const std::string& model, const std::string& out,
                                  const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = {"compress",
                                  "--model",
                                  model,
                                  "--calibration",
                                  fixture_models().text,
                                  "--length",
                                  "32",
                                  "--windows",
                                  "6",
                                  "--threads",
                                  "1",
                                  "--out",
                                  out};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

double perplexity_of(const std::string& model) {
  return json::parse(done({"perplexity", "--model", model, "--input", fixture_models().text,
                           "--length", "32", "--json"})
                         .out)["perplexity"];
}

template <class Number>
void append(std::string& bytes, Number value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// A llama2.c model of random weights and its vocabulary of bytes.
void write_llama2c(const std::string& folder, const std::string& name) {
  constexpr std::int32_t dim = 16, hidden = 24, layers = 2, heads = 2, keys = 1, words = 262,
                         window = 48;
  std::string model;
  for (const std::int32_t n : {dim, hidden, layers, heads, keys, words, window}) append(model, n);
  Rng rng(4);
  const auto normal = [&](int count, double std, double mean = 0) {
    for (int i = 0; i < count; ++i) append(model, static_cast<float>(mean + std * rng.normal()));
  };
  normal(words * dim, 1);
  normal(layers * dim, 0.1, 1);
  normal(layers * (2 * dim * dim + dim * dim), 0.3);  // q, k and v (half as wide), o
  normal(layers * dim, 0.1, 1);
  normal(layers * 3 * dim * hidden, 0.3);
  normal(dim, 0.1, 1);
  normal(window * dim / heads, 0);  // the tables of positions
  write_raw(folder + "/" + name, model);
  std::string pieces;
  append(pieces, std::int32_t{8});
  const auto piece = [&](const std::string& bytes) {
    append(pieces, 0.0F);
    append(pieces, static_cast<std::int32_t>(bytes.size()));
    pieces += bytes;
  };
  for (const char* special : {"<unk>", "<s>", "</s>"}) piece(special);
  for (int i = 0; i < 256; ++i) piece("<" + std::to_string(i) + ">");
  for (const char* word : {" ", "e", "a"}) piece(word);
  write_raw(folder + "/tok262.bin", pieces);
}

}  // namespace

TEST_CASE("compress: every method on a GPT-2 and a LLaMA, and what loads the result") {
  const TempFolder out;
  const Fixture& f = fixture_models();
  write_raw(out / "train.tsv", "a cat\ta dog\tsame\nthe mat\tthe cat\tother\na b\tc d\tsame\n");
  for (const std::string arch : {"gpt2", "llama"}) {
    for (const std::string method : {"bolaco", "svd", "asvd", "pc-lora"}) {
      INFO(arch << " " << method);
      const std::string to = out / (arch + "-" + method);
      std::vector<std::string> more = {"--method", method, "--ratio", "0.6"};
      if (method == "bolaco") more.insert(more.end(), {"--evaluations", "4"});
      if (method == "pc-lora") {
        more.insert(more.end(), {"--steps", "12", "--batch", "4", "--sequences", "32", "--quiet"});
      }
      const Outcome o = done(compress(f.folder / arch, to, more));
      CHECK_THAT(o.out, contains("perplexity") && !contains("masked"));
      const json r = report_of(to);
      CHECK(r["kept"].get<double>() <= 0.6);
      CHECK(r["kept"].get<double>() > 0.45);
      CHECK(r["parameters_after"].get<long>() < r["parameters_before"].get<long>());
      CHECK(std::isfinite(r["after"]["loss"].get<double>()));
      const json config = json::parse(read_file(to + "/config.json"));
      CHECK(config["model_type"] == arch);
      // All but LLaMA's two value projections; searched shares may leave a group dense.
      const std::size_t all =
          method == "pc-lora" ? (arch == "gpt2" ? 8 : 14) : (arch == "gpt2" ? 8 : 12);
      CHECK(config["factored_ranks"].size() <= all);
      if (method != "bolaco") CHECK(config["factored_ranks"].size() == all);
      CHECK(perplexity_of(to) < 400);
      CHECK_THAT(done({"generate", "--model", to, "--prompt", "The", "--max-tokens", "3"}).err,
                 contains("tokens"));
      CHECK_THAT(done({"inspect", to}).out,
                 contains(arch == "gpt2" ? "GPT-2" : "LLaMA") && contains("are pairs of rank"));
      refused(compress(to, out / "again", {"--method", method}), "compressed already");
    }
    const json pca = report_of(out / (arch + "-bolaco"));
    CHECK(pca["after"]["divergence"].get<double>() <
          report_of(out / (arch + "-svd"))["after"]["divergence"].get<double>());
    // On the windows that the report is of, the score is the command's own.
    CHECK(std::abs(std::log(perplexity_of(f.folder / arch)) - pca["before"]["loss"].get<double>()) <
          0.2);
    done({"finetune", "--model", out / (arch + "-bolaco"), "--train", out / "train.tsv", "--dev",
          out / "train.tsv", "--steps", "2", "--method", "lora", "--quiet", "--out",
          out / (arch + "-adapted")});
    done({"evaluate", "--model", out / (arch + "-bolaco"), "--adapter",
          out / (arch + "-adapted/adapter"), "--dev", out / "train.tsv"});
  }
}

TEST_CASE("compress: recovery trains next tokens, in both ways") {
  const TempFolder out;
  const Fixture& f = fixture_models();
  for (const std::string method : {"lora", "subspace"}) {
    INFO(method);
    const Outcome o = done(compress(
        f.folder / "llama", out / method,
        {"--method", "bolaco", "--allocation", "uniform", "--ratio", "0.3", "--recover", "30",
         "--recover-method", method, "--recover-lr", method == "lora" ? "3e-3" : "3e-2"}));
    CHECK_THAT(o.out, contains("loss before recovery"));
    const json r = report_of(out / method);
    CHECK(r["after"]["loss"].get<double>() < r["unrecovered"]["loss"].get<double>());
    CHECK(r["kept"].get<double>() <= 0.3);
    CHECK(perplexity_of(out / method) > 1);
  }
  refused(compress(f.folder / "llama", out / "x", {"--recover-method", "vera"}),
          "lora or subspace");
}

TEST_CASE("compress: a llama2.c file becomes a folder with its vocabulary") {
  const TempFolder out;
  write_llama2c(out.path(), "small.bin");
  const auto with = [&](const std::string& model, const std::vector<std::string>& more = {}) {
    return compress(model, out / "small", more);
  };
  for (const std::string& model : {out.path(), out / "small.bin"}) {
    done(with(model, {"--ratio", "0.8", "--evaluations", "4"}));
    CHECK(fs::exists(out / "small/tokenizer.bin"));
    CHECK(perplexity_of(out / "small") > 1);
    done({"generate", "--model", out / "small", "--max-tokens", "4"});
    fs::remove_all(out / "small");
  }
  refused(compress(out / "small.bin", out.path()), "another folder");
  fs::create_directory(out / "bare");
  fs::rename(out / "tok262.bin", out / "bare/words.bin");
  refused(with(out / "small.bin"), "--tokenizer FILE");
  done(with(out / "small.bin",
            {"--tokenizer", out / "bare/words.bin", "--method", "svd", "--ratio", "0.8"}));
  write_raw(out / "small.bin", std::string(60, '\1'));
  refused(with(out / "small.bin"), "llama2.c's header");
}

TEST_CASE("compress: a decoder's classifier on its task") {
  const TempFolder out;
  const Fixture& f = fixture_models();
  std::string train;
  for (int i = 0; i < 24; ++i) {
    train += "cat " + std::to_string(i) + "\t" + (i % 2 == 0 ? "a cat" : "a dog") +
             (i % 2 == 0 ? "\tsame\n" : "\tother\n");
  }
  write_raw(out / "train.tsv", train);
  const std::vector<std::string> task = {"--train", out / "train.tsv", "--dev", out / "train.tsv"};
  std::vector<std::string> tune = {
      "finetune", "--model", f.folder / "llama", "--method", "full",
      "--steps",  "4",       "--quiet",          "--out",    out / "t"};
  tune.insert(tune.end(), task.begin(), task.end());
  done(tune);
  for (const std::string method : {"bolaco", "pc-lora"}) {
    INFO(method);
    std::vector<std::string> command = {"compress",   "--model", out / "t",   "--method",
                                        method,       "--ratio", "0.5",       "--out",
                                        out / method, "--quiet", "--threads", "1"};
    if (method == "pc-lora") command.insert(command.end(), {"--steps", "6", "--batch", "4"});
    if (method == "bolaco") command.insert(command.end(), {"--evaluations", "4"});
    command.insert(command.end(), task.begin(), task.end());
    done(command);
    done({"evaluate", "--model", out / method, "--dev", out / "train.tsv"});
  }
  auto untrained =
      std::vector<std::string>{"compress", "--model", f.folder / "llama", "--out", out / "x"};
  untrained.insert(untrained.end(), task.begin(), task.end());
  refused(untrained, "finetune --method full");
}

TEST_CASE("compress: what is refused of decoders") {
  const TempFolder out;
  const Fixture& f = fixture_models();
  const std::string llama = f.folder / "llama";
  for (const std::string ratio : {"0", "1", "2", "-1"}) {
    refused(compress(llama, out / "x", {"--ratio", ratio}), "(0, 1)");
  }
  refused(compress(llama, out / "x", {"--ratio", "0.03"}), "--dense none");
  refused(compress(llama, out / "x", {"--dense", "qk,v,o,gate,up,down"}), "--dense");
  refused(compress(llama, llama), "another folder");
  refused(compress(fixture("decoders/vit"), out / "x"), "model type vit");
  refused(compress("scratch:llama-tiny", out / "x"), "fresh weights");
  refused(compress(out / "none", out / "x"), "none");
  write_raw(out / "short.txt", "a cat\n");
  write_raw(out / "bad.txt", "a cat\n\xff\n");
  const auto on = [&](const std::string& text, const std::string& length) {
    return std::vector<std::string>{"compress", "--model", llama,   "--calibration", text,
                                    "--length", length,    "--out", out / "x"};
  };
  refused(
      on(out / "short.txt", "32"),
      "short.txt': expected text for at least 3 sequences of 16 tokens, to which the 32 asked for "
      "were halved; there is enough for 0");
  refused(on(out / "bad.txt", "32"), "line 2, byte 1: expected UTF-8");
  refused(on(out / "none.txt", "32"), "none.txt");
  refused(on(f.text, "8"), "--length: expected 16..512");
  refused(on(f.text, "1024"), "--length: expected 16..512");
  refused(
      {"compress", "--tokenizer", out / "short.txt", "--calibration", f.text, "--out", out / "x"},
      "--tokenizer");
  CHECK_FALSE(fs::exists(out / "x"));
}

TEST_CASE("run bolaco: on a model and texts of the data folder's names") {
  const TempFolder out;
  for (const char* folder : {"data/stories260k", "data/text"}) fs::create_directories(out / folder);
  write_llama2c(out / "data/stories260k", "stories260K.bin");
  write_raw(out / "data/text/tinystories-sample.txt", sentences(60));
  std::string captions;
  for (int i = 0; i < 60; ++i) captions += sentences(i % 3 + 1) + "\n";
  write_raw(out / "data/text/flickr8k-captions.txt", captions);
  done({"run", "bolaco", "--preset", "smoke", "--set", "length=32", "--data", out / "data", "--out",
        out / "runs", "--quiet"});
  for (const json& claim : json::parse(read_file(out / "runs/bolaco/claims.json"))) {
    CHECK(claim["verdict"] == "not run");
    CHECK_THAT(claim["measured"].get<std::string>(), contains("preset smoke"));
  }
  for (const char* figure : {"perplexity", "allocation", "search"}) {
    CHECK(fs::exists(out / ("runs/bolaco/" + std::string(figure) + ".csv")));
  }
  CHECK_THAT(done({"generate", "--model", out / "runs/bolaco/own", "--max-tokens", "3"}).err,
             contains("tokens"));
  refused({"run", "bolaco", "--preset", "smoke", "--set", "ratios=0.8,0.5", "--data", out / "data",
           "--out", out / "runs"},
          "ascending numbers in (0, 1)");
}
