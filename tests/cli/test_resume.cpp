// Runs that are killed, interrupted, resumed, or that share or run out of disk.
#include <parsimony/files.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/process.hpp"
#include "cli/results.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

void sleep_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

/// About half a second in three stages, saved as often as that pays.
std::vector<std::string> slow_run(const std::string& out, const std::string& extra = "") {
  std::vector<std::string> arguments = {
      "run",      "probe-chaos",          "--set", "steps=1500", "--set",
      "pause=50", "--checkpoint-seconds", "0",     "--out",      out};
  if (!extra.empty()) arguments.push_back(extra);
  return arguments;
}

void check_same_results(const std::string& a, const std::string& b) {
  CHECK(without_seconds(read_file(a + "/probe-chaos/metrics.csv")) ==
        without_seconds(read_file(b + "/probe-chaos/metrics.csv")));
  for (const char* file : {"arrays.safetensors", "claims.json", "config.json"}) {
    INFO(file);
    CHECK(read_file(a + "/probe-chaos/" + file) == read_file(b + "/probe-chaos/" + file));
  }
}

/// Waits until the run has written its first checkpoint.
void wait_for_checkpoint(const std::string& out) {
  const std::string folder = out + "/probe-chaos/checkpoint";
  for (int i = 0; i < 2000; ++i) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".safetensors") return;
    }
    sleep_ms(5);
  }
  FAIL("no checkpoint appeared");
}

}  // namespace

TEST_CASE("resume: killed again and again, the results are those of an undisturbed run") {
  TempFolder folder;
  REQUIRE(probe(slow_run(folder / "whole")).code == 0);
  std::mt19937 random(20240611);
  for (int round = 0; round < 4; ++round) {
    const std::string out = folder / ("killed" + std::to_string(round));
    int kills = 0;
    for (int attempt = 0; attempt < 3; ++attempt) {
      Process process("PARSIMONY_PROBE", slow_run(out, attempt > 0 ? "--resume" : ""));
      sleep_ms(std::uniform_int_distribution<int>(1, 300)(random));
      process.send(SIGKILL);
      kills += process.finish().signal == SIGKILL ? 1 : 0;
    }
    INFO("round " << round << ", " << kills << " kills");
    // What a kill while gnuplot draws leaves.
    const std::string drawing = out + "/probe-chaos/.parsimony-1-figure-0.tmp";
    fs::create_directories(drawing);
    parsimony::write_file_atomically(drawing + "/chaos.svg", "<svg>");
    REQUIRE(probe(slow_run(out, "--resume")).code == 0);
    check_same_results(folder / "whole", out);
    std::size_t left = 0;  // nothing half-written stays
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
      left += entry.path().extension() == ".tmp" ? 1 : 0;
    }
    CHECK(left == 0);
  }
}

TEST_CASE("resume: Ctrl-C and SIGTERM save and exit 130") {
  TempFolder folder;
  REQUIRE(probe(slow_run(folder / "whole")).code == 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = folder / std::to_string(signal);
    Process process("PARSIMONY_PROBE", slow_run(out));
    wait_for_checkpoint(out);
    sleep_ms(40);
    process.send(signal);
    const Outcome stopped = process.finish();
    CHECK(stopped.code == 130);
    CHECK_THAT(stopped.err, contains("saved at step") && contains("--resume"));
    CHECK(fs::exists(out + "/probe-chaos/metrics.csv"));
    CHECK_FALSE(fs::exists(out + "/probe-chaos/claims.json"));
    CHECK(probe(slow_run(out, "--resume")).code == 0);
    check_same_results(folder / "whole", out);
    CHECK_FALSE(fs::exists(out + "/probe-chaos/checkpoint"));
  }
}

TEST_CASE("resume: a second Ctrl-C does not wait for the step to end") {
  TempFolder folder;
  Process process("PARSIMONY_PROBE",
                  {"run", "probe-chaos", "--set", "pause=1000000", "--out", folder.path()});
  while (!fs::exists(folder / "probe-chaos/environment.json")) sleep_ms(5);
  sleep_ms(100);
  const auto began = std::chrono::steady_clock::now();
  process.send(SIGINT);
  sleep_ms(50);
  process.send(SIGINT);
  CHECK(process.finish().signal == SIGINT);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::milliseconds(800));
}

TEST_CASE("resume: a finished run is reused, other settings are refused") {
  TempFolder folder;
  REQUIRE(probe(slow_run(folder.path())).code == 0);
  const auto written = fs::last_write_time(folder / "probe-chaos/metrics.csv");
  const Outcome again = probe(slow_run(folder.path(), "--resume"));
  CHECK(again.code == 0);
  CHECK_THAT(again.err, contains("finished before"));
  CHECK_THAT(again.out, contains("P1"));
  CHECK(fs::last_write_time(folder / "probe-chaos/metrics.csv") == written);
  auto other = slow_run(folder.path(), "--resume");
  other.insert(other.end(), {"--set", "rate=3.9"});
  const Outcome refused = probe(other);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.err, contains("cannot resume: rate was 3.99 and is now 3.9"));
  auto seeded = slow_run(folder.path(), "--resume");
  seeded.insert(seeded.end(), {"--seed", "5"});
  CHECK_THAT(probe(seeded).err, contains("seed was 0 and is now 5"));
}

TEST_CASE("resume: a corrupt checkpoint is exit 2 with the file and the way out") {
  TempFolder folder;
  Process process("PARSIMONY_PROBE", slow_run(folder.path()));
  wait_for_checkpoint(folder.path());
  process.send(SIGKILL);
  process.finish();
  const std::string path = folder / "probe-chaos/checkpoint/stage%200.safetensors";
  std::string bytes = read_file(path);
  bytes[bytes.size() - 9] = static_cast<char>(bytes[bytes.size() - 9] ^ 16);
  write_raw(path, bytes);
  const Outcome flipped = probe(slow_run(folder.path(), "--resume"));
  CHECK(flipped.code == 2);
  CHECK_THAT(flipped.err, contains(path) && contains("checksum") && contains("remove this file"));
  write_raw(path, bytes.substr(0, bytes.size() / 2));
  CHECK(probe(slow_run(folder.path(), "--resume")).code == 2);
  CHECK(probe(slow_run(folder.path())).code == 0);  // afresh
}

TEST_CASE("resume: two runs in one folder") {
  TempFolder folder;
  Process first("PARSIMONY_PROBE", slow_run(folder.path()));
  wait_for_checkpoint(folder.path());
  const Outcome second = probe(slow_run(folder.path()));
  CHECK(second.code == 2);
  CHECK_THAT(second.err, contains("probe-chaos") && contains("process"));
  CHECK(first.finish().code == 0);
}

TEST_CASE("disk: an --out that cannot be written") {
  TempFolder folder;
  write_raw(folder / "file", "x");
  const Outcome below = probe(slow_run(folder / "file"));
  CHECK(below.code == 2);
  CHECK_THAT(below.err, contains(folder / "file"));
  if (geteuid() != 0) {
    fs::create_directory(folder / "locked");
    fs::permissions(folder / "locked", fs::perms::owner_read);
    CHECK(probe(slow_run(folder / "locked")).code == 1);
    fs::permissions(folder / "locked", fs::perms::owner_all);
  }
  CHECK(probe(slow_run("/proc/parsimony")).code == 1);
}

TEST_CASE("disk: a limit on file sizes stops the run, the checkpoint before stays good") {
  TempFolder folder;
  std::vector<std::string> arguments = slow_run(folder / "limited");
  arguments.insert(arguments.end(), {"--set", "size=2000"});
  std::vector<std::string> whole = slow_run(folder / "whole");
  whole.insert(whole.end(), {"--set", "size=2000"});
  Process process("PARSIMONY_PROBE", arguments);
  wait_for_checkpoint(folder / "limited");
  sleep_ms(30);
  process.send(SIGKILL);
  process.finish();
  Environment limited;
  limited.before = [] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192, 8192};
    setrlimit(RLIMIT_FSIZE, &limit);
  };
  arguments.push_back("--resume");
  const Outcome stopped = probe(arguments, limited);
  CHECK(stopped.code == 1);
  CHECK_THAT(stopped.err, contains("File too large"));
  CHECK(probe(arguments).code == 0);
  REQUIRE(probe(whole).code == 0);
  check_same_results(folder / "whole", folder / "limited");
}

TEST_CASE("disk: a full file system stops the run, freed space lets it go on") {
  TempFolder folder;
  const std::string disk = folder / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=512k") != 0) {
    WARN("no file system of its own can be mounted here; the limit on file sizes stands in");
    return;
  }
  struct Unmount {
    std::string path;
    ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
  } unmount{disk};
  std::vector<std::string> arguments = slow_run(disk);
  arguments.insert(arguments.end(), {"--set", "size=2000"});
  std::vector<std::string> whole = slow_run(folder / "whole");
  whole.insert(whole.end(), {"--set", "size=2000"});
  Process process("PARSIMONY_PROBE", arguments);
  wait_for_checkpoint(disk);
  {
    std::ofstream filler(disk + "/filler");
    const std::string block(4096, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  const Outcome stopped = process.finish();
  CHECK(stopped.code == 1);
  CHECK_THAT(stopped.err, contains("No space left"));
  fs::remove(disk + "/filler");
  arguments.push_back("--resume");
  CHECK(probe(arguments).code == 0);
  REQUIRE(probe(whole).code == 0);
  check_same_results(folder / "whole", disk);
}

TEST_CASE("disk: stdout that cannot be written is exit 1") {
  Environment full;
  full.before = [] {
    std::freopen("/dev/full", "w", stdout);
    dup2(fileno(stdout), STDOUT_FILENO);
  };
  CHECK(probe({"list"}, full).code == 1);
}
