// parsimony compress as a user runs it: every method on text or a task, folders that load wherever
// a model does, a kill in between, and what is refused.
#include <parsimony/files.hpp>

#include <chrono>
#include <csignal>
#include <thread>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;

namespace {

/// A classifier trained for a few steps, and text: the shipped model's own vocabulary.
struct Fixture {
  TempFolder folder;
  Fixture() {
    done({"finetune", "--task", "synthetic", "--method", "full", "--steps", "20", "--samples", "64",
          "--quiet", "--out", folder / "trained"});
    std::string text;
    for (int i = 0; i < 700; ++i) {
      text += "the " + std::to_string(i % 37) + " dogs of house " + std::to_string(i % 11) +
              " run over the old bridge while a man reads the news\n";
    }
    write_raw(folder / "text.txt", text);
    write_raw(folder / "short.txt", text.substr(0, 1500));
  }
};

const Fixture& fixture() {
  static const Fixture made;
  return made;
}

json report_of(const std::string& folder) {
  return json::parse(read_file(folder + "/compression.json"));
}

}  // namespace

TEST_CASE("compress: bolaco, svd and asvd on text keep the ratio and load again") {
  const TempFolder out;
  for (const std::string method : {"bolaco", "svd", "asvd"}) {
    INFO(method);
    const Outcome o = done({"compress", "--method", method, "--ratio", "0.5", "--calibration",
                            fixture().folder / "text.txt", "--sequences", "24", "--windows", "8",
                            "--evaluations", "5", "--threads", "1", "--out", out / method});
    CHECK_THAT(o.out,
               contains("masked perplexity") && contains("KL from the original, nats/token"));
    const json r = report_of(out / method);
    CHECK(r["kept"].get<double>() <= 0.5);
    CHECK(r["kept"].get<double>() > 0.4);
    CHECK(r["parameters_after"].get<long>() < r["parameters_before"].get<long>());
    CHECK(r.value("evaluations", json::array()).size() == (method == "bolaco" ? 5U : 0U));
    const json config = json::parse(read_file(out / (method + "/config.json")));
    CHECK(config["factored_ranks"].size() == 10);  // all but the two value projections
    CHECK_THAT(done({"inspect", out / method}).out, contains("10 layers are pairs of rank"));
    refused({"compress", "--model", out / method, "--calibration", fixture().folder / "text.txt",
             "--out", out / "again"},
            "compressed already");
  }
  CHECK(report_of(out / "bolaco")["after"]["divergence"].get<double>() <
        report_of(out / "svd")["after"]["divergence"].get<double>());
  done({"finetune", "--model", out / "bolaco", "--task", "synthetic", "--samples", "16", "--steps",
        "2", "--method", "lora", "--quiet", "--out", out / "adapted"});
  done({"evaluate", "--model", out / "bolaco", "--adapter", out / "adapted/adapter", "--task",
        "synthetic"});
}

TEST_CASE("compress: a short calibration is shrunk and said; recovery lowers the training loss") {
  const TempFolder out;
  const Outcome o = done({"compress", "--ratio", "0.3", "--allocation", "uniform", "--calibration",
                          fixture().folder / "short.txt", "--recover", "5", "--threads", "1",
                          "--json", "--out", out / "short"});
  CHECK_THAT(o.err, contains("calibration is short"));
  CHECK(json::parse(o.out)["remarks"].size() >= 2);
  CHECK(json::parse(o.out)["kept"].get<double>() <= 0.3);
}

TEST_CASE("compress: pc-lora on a task; killed and resumed it has the same bits") {
  const TempFolder out;
  std::vector<std::string> arguments{"compress",
                                     "--method",
                                     "pc-lora",
                                     "--ratio",
                                     "0.2",
                                     "--model",
                                     fixture().folder / "trained",
                                     "--task",
                                     "synthetic",
                                     "--sequences",
                                     "64",
                                     "--windows",
                                     "8",
                                     "--steps",
                                     "30",
                                     "--threads",
                                     "1",
                                     "--checkpoint-seconds",
                                     "0",
                                     "--quiet",
                                     "--out"};
  auto whole = arguments;
  whole.push_back(out / "whole");
  const auto began = std::chrono::steady_clock::now();
  done(whole);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - began);
  auto killed = arguments;
  killed.push_back(out / "killed");
  for (const double share : {0.6, 0.85}) {
    Process process("PARSIMONY_PROGRAM", killed);
    std::this_thread::sleep_for(took * share);
    process.send(SIGKILL);
    process.finish();
    if (killed.back() != "--resume") killed.push_back("--resume");
  }
  done(killed);
  CHECK(
      (read_file(out / "whole/model.safetensors") == read_file(out / "killed/model.safetensors")));
  const json config = json::parse(read_file(out / "whole/config.json"));
  CHECK(config["factored_ranks"].size() == 12);
  CHECK(report_of(out / "whole")["kept"].get<double>() <= 0.2);
  done({"evaluate", "--model", out / "whole", "--task", "synthetic"});
  write_raw(out / "in.tsv", "a dog runs\ta dog is running\n");
  done({"predict", "--model", out / "whole", "--input", out / "in.tsv"});
}

TEST_CASE("compress: what is refused") {
  const TempFolder out;
  const std::string text = fixture().folder / "text.txt";
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"compress", "--out", out / "x"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  for (const std::string ratio : {"0", "1", "1.5", "-0.1"}) {
    INFO(ratio);
    for (const std::string method : {"bolaco", "svd", "pc-lora"}) {
      refused(with({"--ratio", ratio, "--method", method, "--calibration", text}), "(0, 1)");
    }
  }
  refused(with({"--method", "bolacco", "--calibration", text}), "bolaco");
  refused(with({"--ratio", "0.05", "--calibration", text}), "--dense none");
  refused(with({}), "--calibration");
  refused(with({"--calibration", out / "none.txt"}), "none.txt");
  refused(with({"--calibration", text, "--task", "synthetic"}), "not both");
  refused(with({"--method", "pc-lora", "--calibration", text, "--decay", "sin"}), "sine");
  refused(with({"--method", "pc-lora", "--calibration", text, "--rank", "64"}), "smaller");
  refused(with({"--task", "synthetic"}), "finetune --method full");
  refused(with({"--calibration", text, "--model", "scratch:tiny"}), "fresh weights");
  refused(with({"--calibration", text, "--dense", "qk,v,o,up,down"}), "--dense");
  refused(with({"--calibration", text, "--length", "4"}), "--length");
  refused({"compress", "--model", fixture().folder / "trained/model", "--task", "synthetic",
           "--out", fixture().folder / "trained/model"},
          "another folder");
  write_raw(out / "tiny.txt", "a dog\n");
  refused(with({"--calibration", out / "tiny.txt"}), "text for at least");
  const Outcome o = program({"compress", "--calibration", text, "--out", "/proc/none"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, contains("/proc/none"));
}
