// Language runs that are killed, stopped or run out of disk, and go on: the files are those of an
// undisturbed run.
#include <parsimony/files.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include <sys/mount.h>

#include "cli/language_models.hpp"
#include "cli/results.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

json json_of(const std::string& path) { return json::parse(read_file(path)); }

void sleep_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

/// Runs to the end once, and again with kills at random moments; the files must be the same.
void check_kills(const TempFolder& folder, std::vector<std::string> arguments,
                 const std::vector<std::string>& same, int rounds = 2) {
  arguments.insert(arguments.end(), {"--checkpoint-seconds", "0", "--out"});
  auto whole = arguments;
  whole.push_back(folder / "whole");
  const auto began = std::chrono::steady_clock::now();
  done(whole);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - began);
  std::mt19937 random(20240611);
  for (int round = 0; round < rounds; ++round) {
    const std::string out = folder / ("killed" + std::to_string(round));
    auto killed = arguments;
    killed.push_back(out);
    int kills = 0;
    for (int attempt = 0; attempt < 3; ++attempt) {
      Process process("PARSIMONY_PROGRAM", killed);
      sleep_ms(std::uniform_int_distribution<int>(1, static_cast<int>(took.count()))(random));
      process.send(SIGKILL);
      kills += process.finish().signal == SIGKILL ? 1 : 0;
      if (attempt == 0) killed.push_back("--resume");
    }
    INFO("round " << round << ", " << kills << " kills");
    done(killed);
    for (const std::string& file : same) {
      INFO(file);
      CHECK((read_file(out + "/" + file) == read_file(folder / "whole/" + file)));
    }
    if (fs::exists(out + "/summary.json")) continue;  // several runs, each in its own folder
    CHECK(fs::exists(out + "/claims.json"));
    CHECK_FALSE(fs::exists(out + "/checkpoint"));
  }
}

/// quick_finetune's arguments without --out, which check_kills names.
std::vector<std::string> without_out(std::vector<std::string> arguments) {
  const auto at = std::find(arguments.begin(), arguments.end(), "--out");
  arguments.erase(at, at + 2);
  return arguments;
}

/// A file system of its own with so much room, where one can be mounted.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& size) : path_(path) {
    fs::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    if (!mounted_) WARN("no file system of its own can be mounted here");
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  void resize(const std::string& size) const {
    REQUIRE(mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT, ("size=" + size).c_str()) == 0);
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

/// A small BERT from the fixture's text.
std::vector<std::string> quick_pretrain(const std::vector<std::string>& more) {
  std::vector<std::string> all{"pretrain", "--corpus", language_fixture() / "corpus.txt",
                               "--size",   "tiny",     "--vocab-size",
                               "120",      "--length", "16",
                               "--batch",  "4",        "--quiet"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

TEST_CASE("finetune: killed again and again, the adapter is that of an undisturbed run") {
  const TempFolder folder;
  const auto arguments =
      without_out(quick_finetune("", {"--steps", "40", "--eval-every", "10", "--spectra-every",
                                      "20", "--form", "compressed", "--lr", "1e-2"}));
  check_kills(folder, arguments,
              {"adapter/adapter_model.safetensors", "adapter/adapter_config.json",
               "adapter/task.json", "arrays.safetensors", "ranks.csv"});
  CHECK(without_seconds(read_file(folder / "whole/metrics.csv")) ==
        without_seconds(read_file(folder / "killed0/metrics.csv")));
}

TEST_CASE("finetune: the command of many runs killed, its table is that of an undisturbed one") {
  const TempFolder folder;
  check_kills(folder,
              without_out(quick_finetune("", {"--method", "lora,nola", "--seeds", "0-1", "--steps",
                                              "12", "--rank", "4", "--lr", "1e-2"})),
              {"lora-seed0/adapter/adapter_model.safetensors",
               "lora-seed1/adapter/adapter_model.safetensors",
               "nola-seed1/adapter/adapter_model.safetensors"},
              1);
  const auto tables = [&](const char* run) {
    const json all = json_of(folder / run + "/summary.json");
    return json{all["table"], all["paired"]};
  };
  CHECK(tables("whole") == tables("killed0"));
  CHECK(tables("whole")[0].size() >= 2);
  CHECK(json_of(folder / "killed0/summary.json")["runs"].size() == 4);
}

TEST_CASE("pretrain: killed again and again, the model is that of an undisturbed run") {
  const TempFolder folder;
  const auto arguments = quick_pretrain(
      {"--steps", "30", "--eval-every", "10", "--short-length", "8", "--threads", "1"});
  check_kills(folder, arguments,
              {"model/model.safetensors", "model/config.json", "model/vocab.txt"});
  // Finished: the same answer again, without training.
  auto finished = arguments;
  finished.insert(finished.end(), {"--json", "--resume", "--out", folder / "whole"});
  const json again = json::parse(done(finished).out);
  CHECK(again["held_out_loss"] == json_of(folder / "whole/result.json")["held_out_loss"]);
}

TEST_CASE("pretrain: a decoder killed again and again is that of an undisturbed run") {
  const TempFolder folder;
  check_kills(folder,
              {"pretrain", "--arch", "llama", "--corpus", language_fixture() / "corpus.txt",
               "--vocab-size", "280", "--length", "16", "--steps", "30", "--batch", "4",
               "--eval-every", "10", "--threads", "1", "--quiet"},
              {"model/model.safetensors", "model/config.json", "model/vocab.json",
               "model/merges.txt", "loss.csv"},
              1);
}

TEST_CASE("resume: a run that was killed between its last step and its end keeps what it made") {
  const TempFolder folder;
  const auto finetune = quick_finetune(folder / "run", {"--steps", "2", "--keep"});
  done(finetune);
  const std::string adapter = read_file(folder / "run/adapter/adapter_model.safetensors");
  fs::remove(folder / "run/claims.json");
  fs::remove(folder / "run/result.json");
  auto again = finetune;
  again.push_back("--resume");
  done(again);
  CHECK((read_file(folder / "run/adapter/adapter_model.safetensors") == adapter));
  CHECK(fs::exists(folder / "run/result.json"));

  const auto pretrain = quick_pretrain({"--steps", "3", "--keep", "--out", folder / "model"});
  done(pretrain);
  const std::string weights = read_file(folder / "model/model/model.safetensors");
  fs::remove(folder / "model/claims.json");
  again = pretrain;
  again.push_back("--resume");
  done(again);
  CHECK((read_file(folder / "model/model/model.safetensors") == weights));
}

TEST_CASE("finetune: Ctrl-C saves, two runs keep out of one folder, other settings are refused") {
  const TempFolder folder;
  auto slow = quick_finetune(folder / "run", {"--steps", "100000", "--checkpoint-seconds", "0"});
  Process first("PARSIMONY_PROGRAM", slow);
  for (int i = 0; i < 2000 && !fs::exists(folder / "run/checkpoint/finetune.safetensors"); ++i) {
    sleep_ms(5);
  }
  refused(slow, "is held by process");
  first.send(SIGINT);
  const Outcome stopped = first.finish();
  CHECK(stopped.code == 130);
  CHECK_THAT(stopped.err, contains("saved at step"));
  CHECK_FALSE(fs::exists(folder / "run/adapter"));
  slow.insert(slow.end(), {"--resume", "--lr", "0.5"});
  refused(slow, "cannot resume: lr was 0.0001 and is now 0.5");
}

TEST_CASE("finetune: a full file system stops the run, freed space lets it go on") {
  const TempFolder folder;
  const std::string disk = folder / "disk";
  const SmallDisk small(disk, "1m");
  if (!small.mounted()) return;
  auto arguments = quick_finetune(
      disk + "/run", {"--steps", "10", "--method", "full", "--checkpoint-seconds", "1000"});
  const Outcome o = program(arguments);  // the model alone has 2 MB
  CHECK(o.code == 1);
  CHECK_THAT(o.err, contains("No space left"));
  CHECK_FALSE(fs::exists(disk + "/run/model/config.json"));
  CHECK_FALSE(fs::exists(disk + "/run/result.json"));
  small.resize("16m");
  arguments.push_back("--resume");
  done(arguments);
  done(quick_finetune(folder / "whole", {"--steps", "10", "--method", "full"}));
  CHECK((read_file(disk + "/run/model/model.safetensors") ==
         read_file(folder / "whole/model/model.safetensors")));
}

TEST_CASE("pretrain: a full file system stops the run, freed space lets it go on") {
  const TempFolder folder;
  const std::string disk = folder / "disk";
  const SmallDisk small(disk, "1m");
  if (!small.mounted()) return;
  for (const std::string arch : {"bert", "llama"}) {
    CAPTURE(arch);
    const std::string vocabulary = arch == "bert" ? "120" : "280";
    std::vector<std::string> arguments = {"pretrain",
                                          "--arch",
                                          arch,
                                          "--corpus",
                                          language_fixture() / "corpus.txt",
                                          "--length",
                                          "16",
                                          "--vocab-size",
                                          vocabulary,
                                          "--steps",
                                          "6",
                                          "--batch",
                                          "2",
                                          "--threads",
                                          "1",
                                          "--quiet",
                                          "--checkpoint-seconds",
                                          "1000",
                                          "--out"};
    auto whole = arguments;
    whole.push_back(folder / arch);
    arguments.push_back(disk + "/" + arch);
    small.resize("1m");
    const Outcome o = program(arguments);  // the model alone has 1.6 MB
    CHECK(o.code == 1);
    CHECK_THAT(o.err, contains("No space left"));
    CHECK_FALSE(fs::exists(arguments.back() + "/model/config.json"));
    CHECK_FALSE(fs::exists(arguments.back() + "/result.json"));
    small.resize("64m");
    arguments.push_back("--resume");
    done(arguments);
    done(whole);
    CHECK((read_file(disk + "/" + arch + "/model/model.safetensors") ==
           read_file(folder / arch + "/model/model.safetensors")));
    fs::remove_all(disk + "/" + arch);
  }
}

TEST_CASE("finetune: many runs stop and save when their starter alone is asked to") {
  const TempFolder folder;
  auto slow = quick_finetune(
      folder / "many", {"--steps", "100000", "--seeds", "0-1", "--checkpoint-seconds", "1000"});
  Process process("PARSIMONY_PROGRAM", slow);
  for (int i = 0; i < 2000 && !fs::exists(folder / "many/seed0/config.json"); ++i) sleep_ms(5);
  sleep_ms(300);
  process.send(SIGTERM);
  const Outcome stopped = process.finish();
  CHECK(stopped.code == 130);
  CHECK(fs::exists(folder / "many/seed0/checkpoint/finetune.safetensors"));
}
