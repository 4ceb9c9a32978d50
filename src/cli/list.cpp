// parsimony list: what there is to run.
#include <parsimony/experiment.hpp>

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

std::string minutes_text(const ExperimentInfo& info, const char* preset) {
  const auto found = info.minutes.find(preset);
  if (found == info.minutes.end()) return "-";
  const double minutes = found->second;
  if (minutes < 1) return fmt::format("{:.0f} s", std::max(1.0, std::round(minutes * 60)));
  return minutes < 120 ? fmt::format("{:.0f} min", minutes) : fmt::format("{:.1f} h", minutes / 60);
}

void print_json() {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const Experiment* experiment : experiments()) {
    const ExperimentInfo info = experiment->info();
    nlohmann::ordered_json minutes = nlohmann::ordered_json::object();
    for (const char* preset : preset_names) {
      const auto found = info.minutes.find(preset);
      if (found != info.minutes.end()) minutes[preset] = found->second;
    }
    array.push_back({{"name", info.name},
                     {"summary", info.summary},
                     {"section", info.source},
                     {"presets", minutes}});
  }
  fmt::print("{}\n", array.dump(2));
}

void print_table() {
  std::size_t width = 4;
  for (const Experiment* experiment : experiments()) {
    width = std::max(width, experiment->info().name.size());
  }
  fmt::print("{:{}}  {:>8} {:>8} {:>8}\n", "name", width, "smoke", "quick", "paper");
  for (const Experiment* experiment : experiments()) {
    const ExperimentInfo info = experiment->info();
    fmt::print("{:{}}  {:>8} {:>8} {:>8}\n    {}\n    {}\n", info.name, width,
               minutes_text(info, preset_names[0]), minutes_text(info, preset_names[1]),
               minutes_text(info, preset_names[2]), info.summary, info.source);
  }
}

}  // namespace

Command list_command() {
  auto json = std::make_shared<bool>(false);
  Command c;
  c.name = "list";
  c.summary = "List the experiments and how long they take";
  c.examples = {"parsimony list", "parsimony list --json"};
  c.options = {json_option(json.get())};
  c.action = [json] {
    if (*json) {
      print_json();
    } else {
      print_table();
    }
    return 0;
  };
  return c;
}

}  // namespace parsimony::cli
