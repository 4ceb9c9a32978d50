// parsimony show NAME: the settings of an experiment with their values in each preset, its claims.
#include <parsimony/experiment.hpp>

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

using nlohmann::ordered_json;

struct ShowSettings {
  std::string name;
  bool json = false;
};

Config config_of(const Experiment& experiment, const char* preset) {
  RunOptions options;
  options.preset = preset;
  return resolve_config(experiment, options);
}

ordered_json value_of(const Config& config, const std::string& key) {
  return ordered_json::parse(config.json())[key];
}

void print_json(const Experiment& experiment) {
  const ExperimentInfo info = experiment.info();
  ordered_json object;
  object["name"] = info.name;
  object["summary"] = info.summary;
  object["section"] = info.source;
  ordered_json settings = ordered_json::array();
  const Config quick = config_of(experiment, "quick");
  for (const Config::Entry& entry : quick.entries()) {
    ordered_json values;
    for (const char* preset : preset_names) {
      values[preset] = value_of(config_of(experiment, preset), entry.key);
    }
    settings.push_back({{"key", entry.key},
                        {"default", values["quick"]},
                        {"presets", values},
                        {"help", entry.help}});
  }
  object["settings"] = settings;
  ordered_json claims = ordered_json::array();
  for (const ClaimStatement& claim : experiment.claims()) {
    claims.push_back({{"id", claim.id},
                      {"statement", claim.statement},
                      {"source", claim.source},
                      {"criterion", claim.criterion},
                      {"expected", claim.expected}});
  }
  object["claims"] = claims;
  fmt::print("{}\n", object.dump(2));
}

void print_text(const Experiment& experiment) {
  const ExperimentInfo info = experiment.info();
  fmt::print("{}: {}\n{}\n\nSettings, with their defaults (preset quick):\n", info.name,
             info.summary, info.source);
  const Config quick = config_of(experiment, "quick");
  std::size_t width = 0;
  for (const Config::Entry& entry : quick.entries()) width = std::max(width, entry.key.size());
  for (const Config::Entry& entry : quick.entries()) {
    const std::string value = value_of(quick, entry.key).dump();
    fmt::print("  {:{}}  {}\n  {:{}}    {}", entry.key, width, value, "", width, entry.help);
    for (const char* preset : {"smoke", "paper"}) {
      const std::string other = value_of(config_of(experiment, preset), entry.key).dump();
      if (other != value) fmt::print("; {}: {}", preset, other);
    }
    fmt::print("\n");
  }
  fmt::print("\nClaims:\n");
  for (const ClaimStatement& claim : experiment.claims()) {
    fmt::print("  {}  {}\n      criterion: {}\n      expected: {}\n      source: {}\n", claim.id,
               claim.statement, claim.criterion, claim.expected, claim.source);
  }
}

}  // namespace

Command show_command() {
  auto s = std::make_shared<ShowSettings>();
  Command c;
  c.name = "show";
  c.summary = "Show the settings and claims of an experiment";
  c.examples = {"parsimony show dln-subspace", "parsimony show movielens --json"};
  c.options = {{"NAME", "", "the experiment (see parsimony list)", &s->name, true},
               json_option(&s->json)};
  c.action = [s] {
    const Experiment& experiment = find_experiment(s->name);
    if (s->json) {
      print_json(experiment);
    } else {
      print_text(experiment);
    }
    return 0;
  };
  return c;
}

}  // namespace parsimony::cli
