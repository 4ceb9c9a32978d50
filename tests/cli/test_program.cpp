// The program with its real experiments: each, killed in the middle and resumed, must give the bits
// of an undisturbed run, which fails if an experiment forgets to track part of its state.
#include <parsimony/files.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "cli/process.hpp"
#include "cli/results.hpp"
#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;
namespace fs = std::filesystem;

TEST_CASE("program: every experiment, killed and resumed, gives the same bits") {
  const json list = json::parse(program({"list", "--json"}).out);
  REQUIRE_FALSE(list.empty());
  for (const json& experiment : list) {
    const std::string name = experiment["name"];
    INFO(name);
    TempFolder folder;
    const auto arguments = [&](const std::string& out, const std::string& extra) {
      std::vector<std::string> all = {
          "run", name,    "--preset",   "smoke",  "--checkpoint-seconds",
          "0",   "--out", folder / out, "--quiet"};
      if (!extra.empty()) all.push_back(extra);
      return all;
    };
    const auto began = std::chrono::steady_clock::now();
    const Outcome whole = program(arguments("whole", ""));
    const auto taken = std::chrono::steady_clock::now() - began;
    if (whole.code == 2) {  // its data is not here
      CHECK_THAT(whole.err, contains("not run"));
      continue;
    }
    REQUIRE(whole.code == 0);
    CHECK_FALSE(whole.out.empty());
    for (const json& claim : json::parse(read_file(folder / "whole/" + name + "/claims.json"))) {
      // Counts and files, which need no training to judge.
      const std::string id = claim["id"];
      if (id == "RV1" || id == "NB4" || id == "AC3" || id == "AC5") {
        INFO(id << ": " << claim["measured"]);
        CHECK(claim["verdict"] == "holds");
      }
    }
    // Killed in its first third, and after it was resumed once more.
    for (const char* extra : {"", "--resume"}) {
      Process process("PARSIMONY_PROGRAM", arguments("killed", extra));
      std::this_thread::sleep_for(taken * 35 / 100);
      process.send(SIGKILL);
      process.finish();
    }
    REQUIRE(program(arguments("killed", "--resume")).code == 0);
    for (const char* file : {"config.json", "arrays.safetensors"}) {
      if (!fs::exists(folder / "whole/" + name + "/" + file)) continue;
      INFO(file);
      CHECK(read_file(folder / "whole/" + name + "/" + file) ==
            read_file(folder / "killed/" + name + "/" + file));
    }
    CHECK(without_seconds(read_file(folder / "whole/" + name + "/metrics.csv")) ==
          without_seconds(read_file(folder / "killed/" + name + "/metrics.csv")));
  }
}

TEST_CASE("program: what a killed run left beside saved adapters is not counted") {
  TempFolder folder;
  const std::string left = folder / "nola-budget/saved/nola 1024 seed0";
  fs::create_directories(left);
  parsimony::write_file_atomically(left + "/.parsimony-1-1.tmp", std::string(5000, 'x'));
  const Outcome o =
      program({"run", "nola-budget", "--preset", "smoke", "--out", folder.path(), "--quiet"});
  if (o.code == 2) return;  // its data is not here
  REQUIRE(o.code == 0);
  for (const json& claim : json::parse(read_file(folder / "nola-budget/claims.json"))) {
    INFO(claim["measured"]);
    if (claim["id"] == "NB4") CHECK(claim["verdict"] == "holds");
  }
}

TEST_CASE("program: a step size that diverges is exit 3 with quantity and step") {
  TempFolder folder;
  const Outcome o = program({"run", "dmf-compression", "--preset", "smoke", "--set", "eta_sum=50",
                             "--out", folder.path()});
  CHECK(o.code == 3);
  CHECK_THAT(o.err, contains("loss") && contains("at step"));
  CHECK_FALSE(fs::is_empty(folder / "dmf-compression/checkpoint"));
  CHECK(fs::exists(folder / "dmf-compression/metrics.csv"));
}

TEST_CASE("program: dmf-compression says the smallest d") {
  TempFolder folder;
  const Outcome o = program(
      {"run", "dmf-compression", "--preset", "smoke", "--set", "d=4", "--out", folder.path()});
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains("d: expected at least 5, 2 r + 1 with r = 2; got 4"));
}

TEST_CASE("program: movielens refuses files that are not those of MovieLens 100K") {
  TempFolder folder;
  fs::create_directories(folder / "movielens-100k");
  // As many ratings, of 943 users and 107 items; the test part is every fifth.
  std::string all, fold;
  for (int i = 0; i < 100000; ++i) {
    const std::string line = std::to_string(1 + i % 943) + "\t" + std::to_string(1 + i / 943) +
                             "\t" + std::to_string(1 + i % 5) + "\t881250949\n";
    all += line;
    if (i % 5 == 0) fold += line;
  }
  const auto refused = [&](const std::string& data, const std::string& test,
                           const std::string& message) {
    write_raw(folder / "movielens-100k/u.data", data);
    write_raw(folder / "movielens-100k/u1.test", test);
    const Outcome o = program({"run", "movielens", "--preset", "smoke", "--data", folder.path(),
                               "--out", folder / "runs", "--quiet"});
    INFO(message);
    CHECK(o.code == 2);
    CHECK_THAT(o.err, contains(message) && !contains("--skip-bad") && !contains("--duplicates"));
  };
  const std::string less = all.substr(0, all.rfind('\n', all.size() - 2) + 1);
  refused(less, fold, "u.data: expected the 100000 ratings of MovieLens 100K; got 99999");
  refused(all, "1\t1\t1\t881250949\n", "u1.test: expected the 20000 ratings");
  refused(less + "5000\t107\t5\t1\n", fold,
          "u.data: rating 100000, user: expected an id in 1..943; got '5000'");
  refused(less + "44\t0\t5\t1\n", fold, "item: expected an id in 1..1682; got '0'");
  refused(less + "44\t107\t9\t1\n", fold, "line 100000: rating 9 is outside 1..5");
  refused(less + "44\t107\t4.5\t1\n", fold, "rating 100000: expected 1, 2, 3, 4 or 5; got 4.5");
  refused(less + "44\t10", fold, "line 100000: expected 4 columns; got 2");
  refused(all + "1\t1\t5\t1\n", fold, "rated before, in line 1");
  const std::string first = "1\t1\t1\t881250949\n", rest = fold.substr(first.size());
  refused(all, "1\t1\t2\t881250949\n" + rest,
          "u1.test: rating 1, user 1 and item 1: expected a rating of u.data");
  refused(all, "1\t900\t1\t881250949\n" + rest, "user 1 and item 900: expected a rating of u.data");
}

TEST_CASE("program: a language experiment without data runs on generated text and judges nothing") {
  TempFolder folder;
  Environment bare;
  bare.unset = {"PARSIMONY_DATA"};
  const std::vector<std::string> settings = {"run",   "rank-robustness", "--preset", "smoke",
                                             "--set", "seeds=1",         "--set",    "ranks=4",
                                             "--set", "steps=1",         "--quiet"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), settings.begin(), settings.end());
    return more;
  };
  REQUIRE(program(with({"--out", folder / "one", "--threads", "1"}), bare).code == 0);
  REQUIRE(program(with({"--out", folder / "two", "--threads", "2"}), bare).code == 0);
  const std::string one = folder / "one/rank-robustness/";
  const std::string two = folder / "two/rank-robustness/";
  CHECK(without_seconds(read_file(one + "metrics.csv")) ==
        without_seconds(read_file(two + "metrics.csv")));
  CHECK(read_file(one + "arrays.safetensors") == read_file(two + "arrays.safetensors"));
  for (const json& claim : json::parse(read_file(one + "claims.json"))) {
    CHECK(claim["verdict"] == "not run");
    CHECK_THAT(claim["measured"].get<std::string>(), contains("generated sentence pairs"));
  }
  CHECK_THAT(read_file(one + "ranks.gp"), contains("generated sentence pairs"));
}

TEST_CASE("program: --model goes to the experiments on language models") {
  TempFolder folder;
  const Outcome o = program({"run", "overhead", "--preset", "smoke", "--set", "repeats=1",
                             "--model", "scratch:mini", "--out", folder.path(), "--quiet"});
  CHECK(o.code == 0);
  CHECK_THAT(read_file(folder / "overhead/config.json"), contains("\"model\": \"scratch:mini\""));
  CHECK_THAT(o.out, contains("scratch:mini"));
  const Outcome none = program({"run", "overhead", "--preset", "smoke", "--model",
                                folder / "nowhere", "--out", folder.path(), "--quiet"});
  CHECK(none.code == 2);
  CHECK_THAT(none.err, contains("nowhere"));
  const Outcome other =
      program({"run", "sensing", "--model", "scratch:tiny", "--out", folder.path()});
  CHECK(other.code == 2);
  CHECK_THAT(other.err, contains("--model"));
}
