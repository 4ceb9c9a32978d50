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
#include <cstdlib>
#include <map>
#include <vector>

#include <fmt/format.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/adapter_flags.hpp"
#include "io/nlohmann.hpp"

extern char** environ;

namespace parsimony::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* parent_variable = "PARSIMONY_STARTED_BY";

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
  constexpr std::uint64_t most = 10000;
  std::vector<std::uint64_t> seeds;
  for (const std::string& part : parts(list)) {
    const std::size_t dash = part.find('-');
    const std::uint64_t first = number(part.substr(0, dash), list);
    const std::uint64_t last =
        dash == std::string::npos ? first : number(part.substr(dash + 1), list);
    if (last < first || last - first >= most) {
      throw ValueError(
          fmt::format("--seeds: expected an ascending range of at most {}; got '{}'", most, part));
    }
    for (std::uint64_t seed = first; seed <= last; ++seed) seeds.push_back(seed);
  }
  return seeds;
}

/// Arguments without the options of other methods' adapters.
std::vector<std::string> for_method(const std::vector<std::string>& arguments,
                                    const std::string& method) {
  std::map<std::string, bool> foreign;  // flag, and whether it takes a value
  for (const std::string& other : adapter_methods()) {
    for (const auto& entry : adapter_info(other).options) {
      foreign[flag_name(entry.key)] = !std::holds_alternative<bool>(entry.value);
    }
  }
  FinetuneOptions named;
  named.method = method;
  if (has_adapters(named)) {
    for (const auto& entry : adapter_info(method).options) foreign.erase(flag_name(entry.key));
  }
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i].substr(0, arguments[i].find('='));
    const auto found = foreign.find(name);
    if (found == foreign.end()) {
      kept.push_back(arguments[i]);
    } else if (found->second && name == arguments[i]) {
      ++i;
    }
  }
  return kept;
}

/// The options with what is meant for this method's adapters.
FinetuneOptions for_method(FinetuneOptions options, const std::string& method) {
  options.method = method;
  const auto given = std::move(options.adapter.values);
  options.adapter.values.clear();
  check(options);  // the name first
  if (!has_adapters(options)) return options;
  options.adapter.method = method;
  for (const auto& entry : adapter_info(method).options) {
    const auto found = given.find(entry.key);
    if (found != given.end()) options.adapter.values.insert(*found);
  }
  return options;
}

/// The arguments of this process without the options (and their values) that each run has anew.
std::vector<std::string> kept_arguments() {
  const std::vector<std::string> valued = {"--task", "--method", "--seeds",
                                           "--seed", "--out",    "--threads"};
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
  std::string task, method;
  std::uint64_t seed = 0;
  std::string folder;
  pid_t process = 0;
  int code = -1;
};

void start(OneRun& run, const std::vector<std::string>& kept) {
  std::vector<std::string> words = {arguments().front()};
  const std::vector<std::string> own = for_method(kept, run.method);
  words.insert(words.end(), own.begin(), own.end());
  if (!run.task.empty()) words.insert(words.end(), {"--task", run.task});
  words.insert(words.end(), {"--method", run.method});
  words.insert(words.end(), {"--seed", std::to_string(run.seed), "--out", run.folder, "--threads",
                             "1", "--quiet", "--json"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string parent = fmt::format("{}={}", parent_variable, getpid());
  std::vector<char*> variables;
  for (char** at = environ; *at != nullptr; ++at) variables.push_back(*at);
  variables.push_back(parent.data());
  variables.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
  const int error =
      posix_spawn(&run.process, "/proc/self/exe", &files, nullptr, argv.data(), variables.data());
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw Error("finetune: cannot start a run");
}

/// Values of one metric by seed.
using BySeed = std::map<std::uint64_t, double>;

struct Results {
  Json runs = Json::array();
  /// By task, metric and method, in the order of the runs.
  std::vector<std::pair<std::string, std::string>> order;  // task and metric
  std::map<std::pair<std::string, std::string>, std::map<std::string, BySeed>> values;
};

Results read_results(const std::vector<OneRun>& runs) {
  Results out;
  for (const OneRun& run : runs) {
    if (run.code != 0) continue;
    const Json result = Json::parse(read_file(run.folder + "/result.json"));
    out.runs.push_back(result);
    for (const auto& [name, value] : result["metrics"].items()) {
      const std::pair<std::string, std::string> key{result["task"].get<std::string>(), name};
      if (out.values.find(key) == out.values.end()) out.order.push_back(key);
      out.values[key][run.method][run.seed] = value.get<double>();
    }
  }
  return out;
}

Json table_of(const Results& results, const std::vector<std::string>& methods) {
  Json table = Json::array();
  for (const auto& key : results.order) {
    for (const std::string& method : methods) {
      const auto found = results.values.at(key).find(method);
      if (found == results.values.at(key).end()) continue;
      std::vector<double> values;
      for (const auto& [seed, value] : found->second) values.push_back(value);
      const Spread s = spread(values);
      table.push_back({{"task", key.first},
                       {"metric", key.second},
                       {"method", method},
                       {"seeds", s.count},
                       {"mean", s.mean},
                       {"std", s.sample_std}});
    }
  }
  return table;
}

/// Differences of the first method from each other one, on the seeds that both have.
Json paired_of(const Results& results, const std::vector<std::string>& methods) {
  Json paired = Json::array();
  for (const auto& key : results.order) {
    const auto& by_method = results.values.at(key);
    for (std::size_t other = 1; other < methods.size(); ++other) {
      if (by_method.count(methods[0]) == 0 || by_method.count(methods[other]) == 0) continue;
      std::vector<double> a;
      std::vector<double> b;
      for (const auto& [seed, value] : by_method.at(methods[0])) {
        const auto same = by_method.at(methods[other]).find(seed);
        if (same == by_method.at(methods[other]).end()) continue;
        a.push_back(value);
        b.push_back(same->second);
      }
      if (a.empty()) continue;
      const PairedStatistics p = paired_statistics(a, b);
      paired.push_back({{"task", key.first},
                        {"metric", key.second},
                        {"method", methods[0]},
                        {"minus", methods[other]},
                        {"seeds", p.difference.count},
                        {"mean", p.difference.mean},
                        {"std", p.difference.sample_std},
                        {"t", p.t},
                        {"p", p.p},
                        {"wins", p.wins},
                        {"ties", p.ties},
                        {"losses", p.losses}});
    }
  }
  return paired;
}

void print_table(const Json& table, const Json& paired) {
  fmt::print("{:<12} {:<10} {:<10} {:>5} {:>8} {:>8}\n", "task", "metric", "method", "seeds",
             "mean", "std");
  for (const Json& row : table) {
    const std::string spread =
        row["seeds"] == 1 ? "-" : fmt::format("{:.4f}", row["std"].get<double>());
    fmt::print("{:<12} {:<10} {:<10} {:>5} {:>8.4f} {:>8}\n", row["task"].get<std::string>(),
               row["metric"].get<std::string>(), row["method"].get<std::string>(),
               row["seeds"].get<index_t>(), row["mean"].get<double>(), spread);
  }
  if (paired.empty()) return;
  fmt::print("\n{:<12} {:<10} {:<24} {:>5} {:>8} {:>8} {:>7} {:>7} {:>6}\n", "task", "metric",
             "difference", "seeds", "mean", "std", "t", "p", "wins");
  bool alone = false;
  for (const Json& row : paired) {
    const bool one = row["seeds"] == 1;
    alone = alone || one;
    const auto statistic = [&](const char* key, const char* form) {
      return one ? "-" : fmt::format(fmt::runtime(form), row[key].get<double>());
    };
    fmt::print(
        "{:<12} {:<10} {:<24} {:>5} {:>+8.4f} {:>8} {:>7} {:>7} {:>6}\n",
        row["task"].get<std::string>(), row["metric"].get<std::string>(),
        fmt::format("{} - {}", row["method"].get<std::string>(), row["minus"].get<std::string>()),
        row["seeds"].get<index_t>(), row["mean"].get<double>(), statistic("std", "{:.4f}"),
        statistic("t", "{:.2f}"), statistic("p", "{:.3g}"),
        fmt::format("{}/{}", row["wins"].get<index_t>(), row["seeds"].get<index_t>()));
  }
  if (alone) fmt::print("one pair: no statistic; --seeds 0-4 would give one\n");
}

template <class T>
void refuse_repeated(const char* option, const std::vector<T>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::find(values.begin(), values.begin() + static_cast<long>(i), values[i]) !=
        values.begin() + static_cast<long>(i)) {
      throw ValueError(fmt::format("{}: {} is named twice", option, values[i]));
    }
  }
}

std::vector<OneRun> planned(const ManyRuns& o, const FinetuneOptions& options) {
  const std::vector<std::string> tasks = parts(o.tasks);
  const std::vector<std::string> methods = parts(o.methods);
  const std::vector<std::uint64_t> seeds =
      o.seeds.empty() ? std::vector<std::uint64_t>{options.seed} : seeds_of(o.seeds);
  refuse_repeated("--task", tasks);
  refuse_repeated("--method", methods);
  refuse_repeated("--seeds", seeds);
  std::map<std::string, Setting> unused = options.adapter.values;
  for (const std::string& method : methods) {
    const FinetuneOptions one = for_method(options, method);
    check(one);
    if (!o.quiet) say_idle_options(one);
    for (const auto& [key, value] : one.adapter.values) unused.erase(key);
  }
  if (!unused.empty()) {
    throw ValueError(fmt::format("{}: none of the methods {} has this option",
                                 flag_name(unused.begin()->first), o.methods));
  }
  std::vector<OneRun> runs;
  for (const std::string& task : tasks) {
    const auto& images = image_task_names();
    if (!o.tasks.empty() && std::find(images.begin(), images.end(), task) == images.end()) {
      text_task_files(task);  // refuses a name that is unknown
    }
    for (const std::string& method : methods) {
      for (const std::uint64_t seed : seeds) {
        const std::string name = fmt::format("{}{}seed{}", task.empty() ? "" : task + "-",
                                             methods.size() > 1 ? method + "-" : "", seed);
        runs.push_back({task, method, seed, o.out + "/" + name});
      }
    }
  }
  return runs;
}

}  // namespace

void say_idle_options(const FinetuneOptions& given) {
  if (!has_adapters(given)) {
    if (given.targets == FinetuneOptions().targets) return;
    std::fprintf(stderr, "--targets has no effect on %s, which has no adapters\n",
                 given.method.c_str());
    return;
  }
  for (const std::string& line : idle_options(given.adapter)) {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void remember_arguments(int argc, const char* const* argv) {
  arguments().assign(argv, argv + argc);
}

void end_with_parent() {
  const char* const parent = std::getenv(parent_variable);
  if (parent == nullptr) return;
  // A run whose starter was killed must not go on in a folder that the next command will want.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (std::to_string(getppid()) != parent) throw Interrupted("finetune: the starter has ended");
}

int finetune_many(const ManyRuns& o, const FinetuneOptions& options) {
  std::vector<OneRun> runs = planned(o, options);
  make_folders(o.out);
  const std::vector<std::string> kept = kept_arguments();
  const auto slots = static_cast<std::size_t>(o.threads > 0 ? o.threads : num_threads());
  install_interrupt_handler();
  std::size_t started = 0;
  std::size_t running = 0;
  std::size_t done = 0;
  int code = 0;
  bool told = false;
  while (done < runs.size()) {
    while (running < slots && started < runs.size() && !interrupt_requested()) {
      start(runs[started++], kept);
      ++running;
    }
    if (running == 0) break;
    if (interrupt_requested() && !told) {
      // Ctrl-C reaches them by itself, and another SIGTERM would end them at once.
      for (const OneRun& run : runs) {
        if (run.process > 0 && run.code < 0) kill(run.process, SIGUSR1);
      }
      told = true;
    }
    int status = 0;
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended <= 0) {
      usleep(10000);
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
  const std::vector<std::string> methods = parts(o.methods);
  const Results results = read_results(runs);
  const Json summary = {{"runs", results.runs},
                        {"table", table_of(results, methods)},
                        {"paired", paired_of(results, methods)}};
  write_file_atomically(o.out + "/summary.json", summary.dump(2) + "\n");
  if (o.json) {
    fmt::print("{}\n", summary.dump(2));
  } else {
    print_table(summary["table"], summary["paired"]);
  }
  if (done < runs.size()) {
    throw Interrupted("finetune: interrupted; the same command with --resume goes on");
  }
  return code;
}

}  // namespace parsimony::cli
