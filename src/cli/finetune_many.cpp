#include "cli/finetune_many.hpp"

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/run.hpp>
#include <parsimony/threads.hpp>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <map>
#include <vector>

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

extern char** environ;

namespace parsimony::cli {

namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string>& arguments() {
  static std::vector<std::string> all;
  return all;
}

std::uint64_t number(const std::string& text, const std::string& list) {
  std::uint64_t value = 0;
  const auto end = text.data() + text.size();
  const auto got = std::from_chars(text.data(), end, value);
  if (got.ec != std::errc() || got.ptr != end) {
    throw ValueError(fmt::format("--seeds: expected 0-4 or 1,5,7; got '{}'", list));
  }
  return value;
}

std::vector<std::string> parts(const std::string& list) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    out.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

std::vector<std::uint64_t> seeds_of(const std::string& list) {
  if (list.empty()) return {0};
  constexpr std::uint64_t most = 10000;
  std::vector<std::uint64_t> seeds;
  for (const std::string& part : parts(list)) {
    const std::size_t dash = part.find('-');
    const std::uint64_t first = number(part.substr(0, dash), list);
    const std::uint64_t last =
        dash == std::string::npos ? first : number(part.substr(dash + 1), list);
    if (last < first || last - first >= most) {
      throw ValueError(fmt::format("--seeds: expected an ascending range; got '{}'", part));
    }
    for (std::uint64_t seed = first; seed <= last; ++seed) seeds.push_back(seed);
  }
  return seeds;
}

/// The arguments of this process without the options (and their values) that each run has anew.
std::vector<std::string> kept_arguments() {
  const std::vector<std::string> valued = {"--task", "--seeds", "--seed", "--out", "--threads"};
  const std::vector<std::string> flags = {"--json", "--quiet"};
  std::vector<std::string> kept;
  const auto& all = arguments();
  for (std::size_t i = 1; i < all.size(); ++i) {
    const std::string name = all[i].substr(0, all[i].find('='));
    if (std::find(flags.begin(), flags.end(), name) != flags.end()) continue;
    if (std::find(valued.begin(), valued.end(), name) != valued.end()) {
      if (name == all[i]) ++i;
      continue;
    }
    kept.push_back(all[i]);
  }
  return kept;
}

struct OneRun {
  std::string task;
  std::uint64_t seed = 0;
  std::string folder;
  pid_t process = 0;
  int code = -1;
};

void start(OneRun& run, const std::vector<std::string>& kept) {
  std::vector<std::string> words = {arguments().front()};
  words.insert(words.end(), kept.begin(), kept.end());
  if (!run.task.empty()) words.insert(words.end(), {"--task", run.task});
  words.insert(words.end(), {"--seed", std::to_string(run.seed), "--out", run.folder, "--threads",
                             "1", "--quiet", "--json"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
  const int error =
      posix_spawn(&run.process, "/proc/self/exe", &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw Error("finetune: cannot start a run");
}

void print_table(const std::vector<OneRun>& runs, bool json) {
  Json all = Json::array();
  std::map<std::string, std::map<std::string, std::vector<double>>> by_task;
  std::vector<std::string> order;
  for (const OneRun& run : runs) {
    if (run.code != 0) continue;
    const Json result = Json::parse(read_file(run.folder + "/result.json"));
    all.push_back(result);
    const auto task = result["task"].get<std::string>();
    if (by_task.find(task) == by_task.end()) order.push_back(task);
    for (const auto& [name, value] : result["metrics"].items()) {
      by_task[task][name].push_back(value.get<double>());
    }
  }
  if (json) {
    fmt::print("{}\n", all.dump(2));
    return;
  }
  fmt::print("{:<12} {:<10} {:>5} {:>8} {:>8}\n", "task", "metric", "seeds", "mean", "std");
  for (const std::string& task : order) {
    for (const auto& [name, values] : by_task[task]) {
      const Spread s = spread(values);
      fmt::print("{:<12} {:<10} {:>5} {:>8.4f} {:>8.4f}\n", task, name, s.count, s.mean,
                 s.population_std);
    }
  }
}

}  // namespace

void remember_arguments(int argc, const char* const* argv) {
  arguments().assign(argv, argv + argc);
}

int finetune_many(const ManyRuns& o) {
  std::vector<OneRun> runs;
  const std::vector<std::string> tasks = parts(o.tasks);
  for (const std::string& task : tasks) {
    for (const std::uint64_t seed : seeds_of(o.seeds)) {
      const std::string name = fmt::format("{}seed{}", task.empty() ? "" : task + "-", seed);
      runs.push_back({task, seed, o.out + "/" + name});
    }
  }
  make_folders(o.out);
  const std::vector<std::string> kept = kept_arguments();
  const auto slots = static_cast<std::size_t>(o.threads > 0 ? o.threads : num_threads());
  install_interrupt_handler();
  std::size_t started = 0;
  std::size_t running = 0;
  std::size_t done = 0;
  int code = 0;
  while (done < runs.size()) {
    while (running < slots && started < runs.size() && !interrupt_requested()) {
      start(runs[started++], kept);
      ++running;
    }
    if (running == 0) break;
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    if (ended < 0) {
      if (interrupt_requested()) {
        for (const OneRun& run : runs) {
          if (run.process > 0 && run.code < 0) kill(run.process, SIGTERM);
        }
      }
      continue;
    }
    for (OneRun& run : runs) {
      if (run.process != ended) continue;
      run.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
      if (code == 0) code = run.code;
      --running;
      ++done;
      if (!o.quiet) {
        std::fprintf(stderr, "%zu/%zu %s%s\n", done, runs.size(), run.folder.c_str(),
                     run.code == 0 ? "" : fmt::format(": exit code {}", run.code).c_str());
      }
    }
  }
  print_table(runs, o.json);
  if (done < runs.size()) {
    throw Interrupted("finetune: interrupted; the same command with --resume goes on");
  }
  return code;
}

}  // namespace parsimony::cli
