// One experiment from its options to a complete run folder. Every file appears whole or not at all;
// claims.json comes last and so marks a run as finished.
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/version.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "run/identity.hpp"
#include "run/state.hpp"

namespace parsimony {

namespace fs = std::filesystem;

namespace {

constexpr double metrics_every_seconds = 5;

void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error)
    throw IoError(fmt::format("{}: cannot be removed: {}", path.string(), error.message()));
}

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    paths.push_back(it->path());
  }
  return paths;
}

// What processes that were killed while writing left behind; the lock says that nobody writes now.
void remove_leftovers(const std::string& folder) {
  for (const std::string& place : {folder, folder + "/checkpoint"}) {
    for (const fs::path& path : files_in(place)) {
      const std::string name = path.filename().string();
      if (name.compare(0, 11, ".parsimony-") == 0 && path.extension() == ".tmp") remove_file(path);
    }
  }
}

// What every run makes, config.json apart: that is replaced, so that a folder is a run's until the
// next run has it.
const char* const made_by_runs[] = {"claims.json", "checkpoint", "environment.json", "metrics.csv",
                                    "arrays.safetensors"};

std::vector<std::string> made_in(const RunOptions& options) {
  std::vector<std::string> names(std::begin(made_by_runs), std::end(made_by_runs));
  names.insert(names.end(), options.makes.begin(), options.makes.end());
  return names;
}

// A folder that no run made may hold anything but what would now be removed.
void check_nothing_lost(const std::string& folder, const RunOptions& options) {
  if (is_run_folder(folder)) return;
  std::vector<std::string> names = made_in(options);
  names.emplace_back("config.json");
  for (const std::string& name : names) {
    std::error_code error;
    if (!fs::exists(fs::path(folder) / name, error)) continue;
    throw InputError(fmt::format(
        "'{}': expected a new folder or a run's; its {} is neither made by a run nor to "
        "be written over",
        folder, name));
  }
}

// The files of an earlier run: those with fixed names, and every figure, known by its script. Other
// files in the folder are not ours to remove.
void remove_earlier_run(const std::string& folder, const RunOptions& options) {
  const std::vector<fs::path> paths = files_in(folder);
  // claims.json first: from then on the folder is not taken for a finished run.
  for (const std::string& name : made_in(options)) remove_file(fs::path(folder) / name);
  for (const fs::path& path : paths) {
    if (path.extension() != ".gp") continue;
    for (const char* extension : {".csv", ".svg", ".png", ".gp"}) {
      remove_file(fs::path(path).replace_extension(extension));
    }
  }
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string csv_number(double value) {
  return std::isnan(value) ? "nan" : fmt::format("{:.17g}", value);
}

// step,seconds,series, then every column in the order of its first appearance.
template <class Stages>
std::string metrics_csv(const Stages& stages) {
  std::vector<std::string> columns;
  for (const auto& stage : stages) {
    for (const std::string& column : stage->record.columns()) {
      if (std::find(columns.begin(), columns.end(), column) == columns.end()) {
        columns.push_back(column);
      }
    }
  }
  std::string text = "step,seconds,series";
  for (const std::string& column : columns) text += "," + csv_field(column);
  text += "\n";
  for (const auto& stage : stages) {
    const auto& own = stage->record.columns();
    std::vector<std::size_t> place;
    for (const std::string& column : columns) {
      place.push_back(
          static_cast<std::size_t>(std::find(own.begin(), own.end(), column) - own.begin()));
    }
    const std::string series = csv_field(stage->name);
    for (const Record::Row& row : stage->record.rows()) {
      text += fmt::format("{},{:.17g},{}", row.step, row.seconds, series);
      for (const std::size_t index : place) {
        text += index < row.values.size() ? "," + csv_number(row.values[index]) : ",nan";
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace

Config resolve_config(const Experiment& experiment, const RunOptions& options) {
  Config config;
  experiment.declare(config);
  const std::vector<std::string> presets(preset_names.begin(), preset_names.end());
  if (std::find(presets.begin(), presets.end(), options.preset) == presets.end()) {
    const std::string near = nearest_name(options.preset, presets);
    throw ValueError(fmt::format("--preset: expected smoke, quick or paper; got '{}'{}",
                                 options.preset,
                                 near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
  }
  if (options.preset != "quick") experiment.preset(options.preset, config);
  for (const std::string& setting : options.settings) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw ValueError(fmt::format("--set: expected key=value; got '{}'", setting));
    }
    try {
      config.set(setting.substr(0, equals), setting.substr(equals + 1));
    } catch (const ValueError& error) {
      throw ValueError(fmt::format("--set {}: {}", setting, error.what()));
    }
  }
  return config;
}

Run::Impl::Impl(const Experiment& which, const RunOptions& run_options)
    : experiment(which),
      name(which.info().name),
      options(run_options),
      config(resolve_config(which, run_options)),
      identity(detail::identity_json(name, run_options, config)),
      progress(run_options.quiet) {
  if (options.out.empty()) throw ValueError("--out: expected a folder; got ''");
  folder = (fs::path(options.out) / name).string();
  for (const ClaimStatement& s : which.claims()) {
    claims.push_back({s.id, s.statement, s.source, s.criterion, s.expected, "", Claim::not_run});
  }
  recorded.assign(claims.size(), false);
}

void Run::Impl::begin() {
  if (begun) return;
  make_folders(folder);
  lock.emplace(folder + "/.lock");
  remove_leftovers(folder);
  check_nothing_lost(folder, options);
  std::error_code error;
  const std::string config_path = folder + "/config.json";
  if (!options.resume) {
    remove_earlier_run(folder, options);
  } else if (fs::exists(config_path, error)) {
    detail::require_same_identity(read_file(config_path), identity, config_path);
  } else {
    progress.say(fmt::format("{}: nothing to resume in {}; starting afresh", name, folder));
    remove_earlier_run(folder, options);
  }
  write_file_atomically(config_path, identity);
  make_folders(folder + "/checkpoint");
  write_file_atomically(folder + "/environment.json", environment_json());
  next_metrics = Clock::now();
  begun = true;
}

bool Run::Impl::load_finished() {
  std::error_code error;
  if (!fs::exists(folder + "/config.json", error)) return false;
  begin();
  const std::string path = folder + "/claims.json";
  if (!fs::exists(path, error)) return false;
  const std::vector<Claim> found = read_claims(path);
  // A run without its data made claims.json too; it deserves another attempt.
  if (count_claims(found).not_run == static_cast<int>(found.size()) && !found.empty()) {
    remove_file(path);
    return false;
  }
  claims = found;
  if (!options.keep_checkpoint) remove_file(folder + "/checkpoint");
  progress.say(fmt::format("{}: finished before; using the results in {}", name, folder));
  return true;
}

void Run::Impl::save_metrics(bool force) {
  const auto now = Clock::now();
  const std::lock_guard<std::mutex> lock(rows);
  if (!force && now < next_metrics) return;
  std::size_t count = 0;
  for (const auto& stage : stages) count += stage->record.rows().size();
  if (!force && count == rows_written) return;
  write_file_atomically(folder + "/metrics.csv", metrics_csv(stages));
  rows_written = count;
  const auto after = Clock::now();
  const double pause =
      std::max(metrics_every_seconds, 20 * std::chrono::duration<double>(after - now).count());
  next_metrics =
      after + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(pause));
}

Claim& Run::Impl::stated_claim(const std::string& id) {
  std::vector<std::string> ids;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    ids.push_back(claims[i].id);
    if (claims[i].id != id) continue;
    recorded[i] = true;
    return claims[i];
  }
  throw ValueError(
      fmt::format("claim '{}' is not among those stated: {}", id, fmt::join(ids, ", ")));
}

void Run::Impl::mark_not_run(const std::string& why) {
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (recorded[i]) continue;
    claims[i].measured = why;
    recorded[i] = true;
  }
}

void Run::Impl::finish() {
  begin();
  progress.finish();
  save_metrics(true);
  save_arrays();
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (!recorded[i]) {
      throw Error(
          fmt::format("{}: claim '{}' was stated but got no outcome; this is a mistake in "
                      "the experiment",
                      name, claims[i].id));
    }
  }
  write_claims(folder + "/claims.json", claims);
  if (!options.keep_checkpoint) remove_file(folder + "/checkpoint");
}

/// Has access to what stands behind a run.
class Runner {
 public:
  static std::vector<Claim> run(const Experiment& experiment, const RunOptions& options) {
    Run run(std::make_unique<Run::Impl>(experiment, options));
    Run::Impl& impl = *run.impl_;
    if (options.resume && impl.load_finished()) return impl.claims;
    try {
      experiment.run(run);
      impl.finish();
    } catch (const MissingData& missing) {
      impl.mark_not_run(missing.what());
      impl.finish();
      if (options.require_data) throw;
    } catch (...) {
      impl.progress.finish();
      save_what_there_is(impl);
      throw;
    }
    return impl.claims;
  }

 private:
  // The rows of a run that stopped are worth having; the error that stopped it is worth more.
  static void save_what_there_is(Run::Impl& impl) {
    if (!impl.begun || impl.stages.empty()) return;
    try {
      impl.save_metrics(true);
    } catch (const Error&) {
    }
  }
};

std::vector<Claim> run_experiment(const Experiment& experiment, const RunOptions& options) {
  return Runner::run(experiment, options);
}

}  // namespace parsimony
