// parsimony run NAME…: experiments into run folders, then the table of claims and the report.
#include <parsimony/claims.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/report.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

struct RunSettings {
  std::vector<std::string> names;
  RunOptions run;
  std::string model;
  int threads = threads_unset;
  bool strict = false;
  bool json = false;
};

using Results = std::vector<std::pair<std::string, std::vector<Claim>>>;

void say(const RunSettings& s, const std::string& line) {
  if (!s.run.quiet) std::fprintf(stderr, "%s\n", line.c_str());
}

// The experiments named, each once; `all` stands for every one.
std::vector<const Experiment*> chosen(const std::vector<std::string>& names) {
  std::vector<const Experiment*> result;
  const auto add = [&](const Experiment* experiment) {
    if (std::find(result.begin(), result.end(), experiment) == result.end()) {
      result.push_back(experiment);
    }
  };
  for (const std::string& name : names) {
    if (name == "all") {
      for (const Experiment* experiment : experiments()) add(experiment);
    } else {
      add(&find_experiment(name));
    }
  }
  if (result.empty()) throw Error("run: this program was built without experiments");
  return result;
}

bool takes_model(const Experiment& experiment) {
  Config config;
  experiment.declare(config);
  const auto& entries = config.entries();
  return std::any_of(entries.begin(), entries.end(),
                     [](const Config::Entry& entry) { return entry.key == "model"; });
}

// --model goes to the experiments on language models, the others run as they are.
RunOptions options_for(const Experiment& experiment, const RunSettings& s) {
  RunOptions options = s.run;
  if (!s.model.empty() && takes_model(experiment)) options.settings.push_back("model=" + s.model);
  return options;
}

// Every setting must suit every experiment, before any of them starts.
void check_settings(const std::vector<const Experiment*>& which, const RunSettings& s) {
  if (!s.model.empty() &&
      std::none_of(which.begin(), which.end(),
                   [](const Experiment* experiment) { return takes_model(*experiment); })) {
    throw ValueError("--model: none of these experiments is on a language model");
  }
  for (const Experiment* experiment : which) {
    try {
      resolve_config(*experiment, options_for(*experiment, s));
    } catch (const ValueError& error) {
      if (which.size() == 1) throw;
      throw ValueError(fmt::format("{}: {}", experiment->info().name, error.what()));
    }
  }
}

std::string expected_time(const ExperimentInfo& info, const RunOptions& options) {
  const auto minutes = info.minutes.find(options.preset);
  if (minutes == info.minutes.end()) return "";
  return fmt::format(", about {:.2g} min{}", minutes->second,
                     options.settings.empty() ? "" : " at the preset's settings");
}

void print_json(const Results& results) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const auto& [name, claims] : results) {
    for (const Claim& c : claims) {
      array.push_back({{"experiment", name},
                       {"id", c.id},
                       {"statement", c.statement},
                       {"source", c.source},
                       {"criterion", c.criterion},
                       {"expected", c.expected},
                       {"measured", c.measured},
                       {"verdict", verdict_word(c.verdict)}});
    }
  }
  fmt::print("{}\n", array.dump(2));
}

void print_tables(const Results& results) {
  ClaimCounts total;
  for (const auto& [name, claims] : results) {
    fmt::print("{}\n{}\n", name, claims_table(claims, stdout_width(), color_on_stdout()));
    const ClaimCounts counts = count_claims(claims);
    total.holds += counts.holds;
    total.fails += counts.fails;
    total.not_run += counts.not_run;
  }
  if (results.size() > 1) {
    fmt::print("all claims: {} hold, {} fail, {} not run\n", total.holds, total.fails,
               total.not_run);
  }
}

int run(RunSettings& s) {
  check_checkpoint_seconds(s.run.checkpoint_seconds);
  check_data_folder(s.run.data);
  const std::vector<const Experiment*> which = chosen(s.names);
  check_settings(which, s);
  apply_threads(s.threads);
  install_interrupt_handler();

  const bool all = std::find(s.names.begin(), s.names.end(), "all") != s.names.end();
  Results results;
  int code = 0;
  for (std::size_t i = 0; i < which.size(); ++i) {
    const ExperimentInfo info = which[i]->info();
    s.run.require_data = !all;
    const RunOptions options = options_for(*which[i], s);
    say(s, fmt::format("{} ({} of {}): preset {}{}", info.name, i + 1, which.size(), options.preset,
                       expected_time(info, options)));
    try {
      results.emplace_back(info.name, run_experiment(*which[i], options));
    } catch (const MissingData& error) {
      std::fprintf(stderr, "parsimony: %s: not run: %s\n", info.name.c_str(), error.what());
      if (code == 0) code = 2;
    } catch (const NumericalError& error) {
      std::fprintf(stderr,
                   "parsimony: %s: %s; try a smaller step size; the last good checkpoint is kept "
                   "in %s/%s/checkpoint\n",
                   info.name.c_str(), error.what(), s.run.out.c_str(), info.name.c_str());
      code = 3;
    } catch (const Interrupted& error) {
      throw Interrupted(fmt::format("{}: interrupted: {}; the same command with --resume goes on",
                                    info.name, error.what()));
    }
  }

  if (s.json) {
    print_json(results);
  } else {
    print_tables(results);
  }
  std::fflush(stdout);
  const Report written = write_report(s.run.out);
  say(s, fmt::format("report: {}", written.path));
  for (const std::string& damage : written.damage) fmt::print(stderr, "warning: {}\n", damage);
  const bool some_fail = std::any_of(results.begin(), results.end(), [](const auto& result) {
    return count_claims(result.second).fails > 0;
  });
  if (s.strict && some_fail && code == 0) {
    std::fputs("parsimony: a claim fails (--strict)\n", stderr);
    code = 1;
  }
  return code;
}

}  // namespace

Command run_command() {
  auto s = std::make_shared<RunSettings>();
  Command c;
  c.name = "run";
  c.summary = "Run experiments and judge their claims";
  c.details =
      "Each experiment fills OUT/NAME with its configuration, metrics, claims, arrays and figures; "
      "OUT/report.html shows them all. A run that was stopped, by Ctrl-C or otherwise, goes on "
      "with "
      "--resume; without it, what is in OUT/NAME is replaced.\n\nExit codes: 0 done, 1 failed, 2 "
      "usage, bad input or missing data, 3 a quantity diverged, 130 interrupted after saving.";
  c.examples = {"parsimony run dln-subspace", "parsimony run all --preset smoke --out /tmp/results",
                "parsimony run completion-compression --set gamma=0.02 --set d=100 --seed 3",
                "parsimony run dmf-compression --preset paper --resume",
                "parsimony run stsb-fewshot --model bert-base-cased --preset paper"};
  c.options = {
      {"NAME", "", "experiments (see parsimony list), or all", &s->names, true},
      {"--preset", "P",
       "smoke (seconds), quick (minutes, the default) or paper (the paper's sizes)",
       &s->run.preset},
      {"--set", "KEY=VALUE", "change a setting (see parsimony show NAME); may be repeated",
       &s->run.settings},
      {"--model", "DIR", "BERT folder for the experiments on language models (the shipped tiny-en)",
       &s->model},
      {"--seed", "N", "seed of every random stream (0)", &s->run.seed},
      {"--out", "DIR", "where the run folders go (results)", &s->run.out},
      data_option(&s->run.data),
      threads_option(&s->threads),
      {"--resume", "", "go on with a run that was stopped", &s->run.resume},
      {"--checkpoint-seconds", "S", "how often a running stage is saved (20)",
       &s->run.checkpoint_seconds},
      {"--keep", "", "keep the checkpoints of a run that is done", &s->run.keep_checkpoint},
      {"--strict", "", "exit 1 if a claim fails", &s->strict},
      quiet_option(&s->run.quiet),
      json_option(&s->json)};
  c.action = [s] { return run(*s); };
  return c;
}

}  // namespace parsimony::cli
