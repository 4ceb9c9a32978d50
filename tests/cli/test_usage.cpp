// What the command line answers: help, lists, JSON, wrong usage and its exit codes.
#include <parsimony/files.hpp>

#include <filesystem>

#include "cli/process.hpp"
#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

void check_refused(const std::vector<std::string>& arguments, const std::string& message) {
  const Outcome o = probe(arguments);
  INFO(message);
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains(message));
  CHECK(o.out.empty());
}

}  // namespace

TEST_CASE("cli: help on everything, with examples") {
  const Outcome top = probe({"--help"});
  CHECK(top.code == 0);
  CHECK_THAT(top.out, contains("Examples:"));
  for (const char* command :
       {"run", "list", "show", "report", "complete", "tokenize", "pretrain", "finetune", "evaluate",
        "predict", "compress", "merge", "export", "inspect", "bench", "doctor"}) {
    CHECK_THAT(top.out, contains(command));
    const Outcome o = probe({command, "--help"});
    CHECK(o.code == 0);
    CHECK(o.err.empty());
    CHECK_THAT(o.out, contains("Examples:") && contains(std::string("parsimony ") + command));
  }
  const Outcome version = probe({"--version"});
  CHECK(version.code == 0);
  CHECK_THAT(version.out, contains("parsimony 0."));
  const Outcome nothing = probe({});
  CHECK(nothing.code == 2);
  CHECK_THAT(nothing.err, contains("Examples:"));
}

TEST_CASE("cli: wrong usage is exit 2 and says what was meant") {
  TempFolder folder;
  const std::string out = folder / "out";
  check_refused({"rnu"}, "unknown command 'rnu'; did you mean 'run'?");
  check_refused({"frobnicate"}, "unknown command 'frobnicate'; see parsimony --help");
  check_refused({"run", "probe-choas", "--out", out}, "did you mean 'probe-chaos'?");
  check_refused({"show", "probe-dat"}, "did you mean 'probe-data'?");
  check_refused({"run", "probe-chaos", "--prest", "smoke", "--out", out},
                "run: unknown option '--prest'; did you mean '--preset'?");
  check_refused({"list", "extra"}, "list: unexpected argument 'extra'");
  check_refused({"run", "probe-chaos", "--preset", "papr", "--out", out}, "did you mean 'paper'?");
  check_refused({"run", "probe-chaos", "--set", "rate=abc", "--out", out},
                "--set rate=abc: rate: expected a number; got 'abc'");
  check_refused({"run", "probe-chaos", "--set", "rat=1", "--out", out},
                "unknown key 'rat'; did you mean 'rate'?");
  check_refused({"run", "probe-chaos", "--set", "rate", "--out", out},
                "--set: expected key=value; got 'rate'");
  check_refused({"run", "probe-chaos", "--set", "rate=7", "--out", out},
                "rate: expected 0..4; got 7");
  check_refused({"run", "all", "--set", "rate=3", "--out", out}, "probe-diverge: --set rate=3");
  check_refused({"run", "probe-chaos", "--seed", "-1", "--out", out},
                "--seed: expected a whole number from 0; got '-1'");
  check_refused({"run", "probe-chaos", "--seed", "x", "--out", out}, "got 'x'");
  check_refused({"run", "probe-chaos", "--seed", "1.5", "--out", out}, "got '1.5'");
  check_refused({"run", "probe-chaos", "--threads", "0", "--out", out},
                "--threads: expected 1..1024; got 0");
  check_refused({"run", "probe-chaos", "--threads", "-3", "--out", out}, "got -3");
  check_refused({"run", "probe-chaos", "--threads", "two", "--out", out}, "got 'two'");
  check_refused({"run", "probe-chaos", "--checkpoint-seconds", "-1", "--out", out}, "at least 0");
  check_refused({"run", "probe-chaos", "--out", ""}, "--out: expected a folder; got ''");
  check_refused({"run", "probe-chaos", "--out", out, "--data", folder / "none"},
                "none': expected a folder of data sets; it does not exist");
  check_refused({"run", "probe-chaos", "--checkpoint-seconds", "1e300", "--out", out},
                "at most 1e6");
  check_refused({"run", "probe-chaos", "--preset", "", "--out", out},
                "--preset: expected P; got ''");
  check_refused({"run", "--out", out}, "NAME");
  check_refused({"report", folder / "none"}, "none");
  CHECK_FALSE(fs::exists(out));
}

TEST_CASE("cli: list, show and doctor as text and as JSON") {
  CHECK_THAT(probe({"list"}).out, contains("probe-chaos") && contains("a chaotic recursion"));
  const json list = json::parse(probe({"list", "--json"}).out);
  REQUIRE(list.size() == 3);
  CHECK(list[0]["name"] == "probe-chaos");
  CHECK(list[0]["presets"]["smoke"] == 0.01);
  CHECK(list[0].contains("summary"));
  CHECK(list[0].contains("section"));
  CHECK_THAT(probe({"show", "probe-chaos"}).out,
             contains("rate") && contains("3.99") && contains("P1") && contains("smoke: 50"));
  const json show = json::parse(probe({"show", "probe-chaos", "--json"}).out);
  CHECK(show["settings"].size() == 6);
  CHECK(show["claims"][1]["id"] == "P2");
  CHECK_THAT(probe({"doctor"}).out, contains("OpenBLAS") && contains("data sets"));
  const json doctor = json::parse(probe({"doctor", "--json"}).out);
  for (const char* key : {"version", "compiler", "blas", "blas_core", "threads", "simd", "gnuplot",
                          "determinism", "data"}) {
    INFO(key);
    CHECK(doctor.contains(key));
  }
}

TEST_CASE("cli: results on stdout, the rest on stderr, nothing when quiet") {
  TempFolder folder;
  const std::vector<std::string> base = {"run",   "probe-chaos", "--preset",
                                         "smoke", "--out",       folder.path()};
  const Outcome loud = probe(base);
  CHECK(loud.code == 0);
  CHECK_THAT(loud.out, contains("P1") && contains("holds"));
  CHECK_THAT(loud.err, contains("report.html"));
  CHECK(loud.err.find('\r') == std::string::npos);
  CHECK(loud.out.find('\033') == std::string::npos);
  CHECK_THAT(loud.err, contains(", about 0.01 min\n"));
  auto changed = base;
  changed.insert(changed.end(), {"--set", "rate=3.5"});
  CHECK_THAT(probe(changed).err, contains(", about 0.01 min at the preset's settings\n"));
  auto quiet = base;
  quiet.push_back("--quiet");
  CHECK(probe(quiet).err.empty());
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"list"}, {"show", "probe-chaos"}, {"report", folder.path()}, {"doctor"}}) {
    INFO(command[0]);
    auto hushed = command;
    hushed.push_back("--quiet");
    const Outcome o = probe(hushed);
    CHECK(o.code == 0);
    CHECK(o.err.empty());
    CHECK(!o.out.empty());
  }
  auto as_json = base;
  as_json.push_back("--json");
  const Outcome o = probe(as_json);
  const json claims = json::parse(o.out);
  REQUIRE(claims.size() == 2);
  CHECK(claims[0]["experiment"] == "probe-chaos");
  CHECK(claims[0]["verdict"] == "holds");
  CHECK(json::parse(read_file(folder / "probe-chaos/claims.json"))[0]["id"] == "P1");
  CHECK(json::parse(read_file(folder / "probe-chaos/config.json"))["steps"] == 50);
  CHECK(json::parse(read_file(folder / "probe-chaos/environment.json")).contains("threads"));
  CHECK(fs::exists(folder / "report.html"));
  // What cannot be read is said, and the page written all the same.
  write_raw(folder / "probe-chaos/claims.json", "[{\"id\": ");
  const Outcome damaged = probe({"report", folder.path()});
  CHECK(damaged.code == 1);
  CHECK_THAT(damaged.out, contains("report.html"));
  CHECK_THAT(damaged.err, contains("warning: ") && contains("probe-chaos/claims.json: not JSON"));
}

TEST_CASE("cli: colours and progress on a terminal only, NO_COLOR respected") {
  TempFolder folder;
  const std::vector<std::string> arguments = {"run",   "probe-chaos", "--set", "steps=400",
                                              "--set", "pause=500",   "--set", "stages=1",
                                              "--out", folder.path()};
  Environment terminal;
  terminal.terminal = true;
  terminal.set = {{"TERM", "xterm"}};
  terminal.unset = {"NO_COLOR"};
  const Outcome colored = probe(arguments, terminal);
  CHECK(colored.code == 0);
  CHECK_THAT(colored.out, contains("ETA") && contains("it/s") && contains("/400"));
  CHECK_THAT(colored.out, contains("\033[3") || contains("\033[1;3") || contains("\033[0;3"));
  terminal.set.push_back({"NO_COLOR", "1"});
  terminal.unset.clear();
  const Outcome plain = probe(arguments, terminal);
  CHECK_THAT(plain.out, contains("holds"));
  CHECK_THAT(plain.out, !contains("\033[3") && !contains("\033[1;3") && !contains("\033[0;3"));
}

TEST_CASE("cli: a failing claim is exit 1 under --strict only") {
  TempFolder folder;
  std::vector<std::string> arguments = {"run",   "probe-chaos",  "--preset", "smoke",
                                        "--set", "second=false", "--out",    folder.path()};
  CHECK(probe(arguments).code == 0);
  arguments.push_back("--strict");
  CHECK(probe(arguments).code == 1);
}

TEST_CASE("cli: missing data") {
  TempFolder folder;
  Environment no_data;
  no_data.unset = {"PARSIMONY_DATA"};
  const Outcome alone = probe({"run", "probe-data", "--out", folder.path()}, no_data);
  CHECK(alone.code == 2);
  CHECK_THAT(alone.err, contains("probe/file.txt") && contains("write one yourself"));
  const json claims = json::parse(read_file(folder / "probe-data/claims.json"));
  CHECK(claims[0]["verdict"] == "not run");

  fs::create_directories(folder / "data/probe");
  write_raw(folder / "data/probe/file.txt", "x");
  const Outcome found =
      probe({"run", "probe-data", "--resume", "--out", folder.path(), "--data", folder / "data"});
  CHECK(found.code == 0);
  CHECK_THAT(found.out, contains("found"));
}

TEST_CASE("cli: run all goes on past a divergence and missing data") {
  TempFolder folder;
  Environment no_data;
  no_data.unset = {"PARSIMONY_DATA"};
  const Outcome o = probe({"run", "all", "--preset", "smoke", "--out", folder.path()}, no_data);
  CHECK(o.code == 3);
  CHECK_THAT(o.err, contains("probe-diverge") && contains("train_loss") && contains("step 4"));
  CHECK_THAT(o.out, contains("P1") && contains("F1") && contains("not run"));
  CHECK(fs::exists(folder / "probe-diverge/metrics.csv"));
  CHECK(fs::exists(folder / "probe-diverge/config.json"));
  CHECK(fs::exists(folder / "probe-diverge/checkpoint/growth.safetensors"));
  CHECK_FALSE(fs::exists(folder / "probe-diverge/claims.json"));
}

TEST_CASE("cli: a locale with decimal commas changes no number") {
  TempFolder folder;
  // A locale made here, of the least that localedef takes; where that cannot be made (the package
  // `locales` is missing) the variables alone must do.
  std::string definition =
      "escape_char /\ncomment_char %\nLC_NUMERIC\ndecimal_point \",\"\nthousands_sep \".\"\n"
      "grouping 3;3\nEND LC_NUMERIC\n";
  for (const std::string part : {"CTYPE", "COLLATE", "MONETARY", "TIME", "MESSAGES"}) {
    definition += "LC_" + part + "\ncopy \"POSIX\"\nEND LC_" + part + "\n";
  }
  write_raw(folder / "comma.def", definition);
  const std::string make = "localedef -c -i '" + (folder / "comma.def") + "' -f UTF-8 '" +
                           (folder / "xx_XX.UTF-8") + "' >/dev/null 2>&1";
  // Its status is 1 for the warnings about what is left out, too.
  if (std::system(make.c_str()) < 0 || !fs::exists(folder / "xx_XX.UTF-8/LC_NUMERIC")) {
    WARN("no locale could be made");
  }
  Environment commas;
  commas.set = {{"LC_ALL", "xx_XX.UTF-8"}, {"LOCPATH", folder.path()}};
  for (const auto& [name, environment] :
       {std::pair<std::string, Environment>{"plain", {}}, {"commas", commas}}) {
    const Outcome o = probe(
        {"run", "probe-chaos", "--preset", "smoke", "--set", "rate=3.5", "--out", folder / name},
        environment);
    CHECK(o.code == 0);
  }
  CHECK(read_file(folder / "plain/probe-chaos/config.json") ==
        read_file(folder / "commas/probe-chaos/config.json"));
  CHECK_THAT(read_file(folder / "commas/probe-chaos/config.json"), contains("\"rate\": 3.5"));
  CHECK(read_file(folder / "plain/probe-chaos/arrays.safetensors") ==
        read_file(folder / "commas/probe-chaos/arrays.safetensors"));
  CHECK_THAT(probe({"run", "probe-chaos", "--set", "rate=3,5", "--out", folder.path()}, commas).err,
             contains("expected a number; got '3,5'"));
}
