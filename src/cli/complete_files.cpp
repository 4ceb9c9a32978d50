// What `parsimony complete` writes: predictions, factors with the ids of their rows, metrics and
// the summary as JSON. Every file is whole or absent.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/safetensors.hpp>
#include <parsimony/strings.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "cli/complete.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

using Json = nlohmann::ordered_json;

void write_ids(const std::string& path, const std::string& what, const IdTable& ids) {
  CsvWriter csv(path, {"row", what});
  for (index_t i = 0; i < ids.size(); ++i) csv.row({i, std::string(ids.name(i))});
  csv.finish();
}

/// The factors and the ids of their rows.
struct FactorFiles {
  std::string factors, users, items;
};

const std::string factor_ending = ".safetensors";

/// Whether --factors names a file; else it is a folder.
bool names_factor_file(const std::string& path) { return ends_with(path, factor_ending); }

FactorFiles factor_files(const std::string& path) {
  if (!names_factor_file(path)) {
    return {path + "/factors.safetensors", path + "/users.csv", path + "/items.csv"};
  }
  const std::string stem = path.substr(0, path.size() - factor_ending.size());
  return {path, stem + ".users.csv", stem + ".items.csv"};
}

struct NamedFile {
  std::string option, path;
};

/// Every file that the options ask for.
std::vector<NamedFile> files_to_write(const CompleteSettings& s) {
  std::vector<NamedFile> files;
  const auto add_factors = [&files](const std::string& option, const std::string& path) {
    const FactorFiles f = factor_files(path);
    for (const std::string& file : {f.factors, f.users, f.items}) files.push_back({option, file});
  };
  if (!s.output.empty() && s.output != "-") files.push_back({"--output", s.output});
  if (!s.factors.empty()) add_factors("--factors", s.factors);
  if (s.out.empty()) return files;
  if (!s.predict.empty() && s.output.empty()) files.push_back({"--out", predictions_path(s)});
  add_factors("--out", s.out);
  for (const char* name : {"metrics.csv", "complete.json"}) {
    files.push_back({"--out", s.out + "/" + name});
  }
  return files;
}

/// Whether both are one regular file that is there, under whatever names.
bool same_file(const std::string& one, const std::string& other) {
  std::error_code missing;
  return std::filesystem::equivalent(one, other, missing) &&
         std::filesystem::is_regular_file(one, missing);
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

std::string predictions_path(const CompleteSettings& s) {
  return s.output.empty() ? s.out + "/predictions.csv" : s.output;
}

void check_outputs(const CompleteSettings& s) {
  const std::vector<NamedFile> inputs = {
      {"--ratings", s.ratings}, {"--test", s.test}, {"--predict", s.predict}};
  const std::vector<NamedFile> written = files_to_write(s);
  for (const NamedFile& file : written) {
    for (const NamedFile& input : inputs) {
      // A file that the shell opened as the standard input is one like the others.
      const std::string read = input.path == "-" ? "/dev/stdin" : input.path;
      if (read.empty() || !same_file(read, file.path)) continue;
      throw ValueError(
          fmt::format("{}: '{}' is what {} reads, and would be written over; choose another place",
                      file.option, file.path, input.option));
    }
    // The factors of --factors and --out may share a place: they are the same.
    if (s.output.empty() || file.option == "--output") continue;
    std::error_code error;
    if (std::filesystem::weakly_canonical(file.path, error) ==
        std::filesystem::weakly_canonical(s.output, error)) {
      throw ValueError(fmt::format("--output: '{}' is a file of {} too; choose another name",
                                   s.output, file.option));
    }
  }
}

void try_outputs(const CompleteSettings& s) {
  if (!s.out.empty()) make_folders(s.out);
  if (!s.factors.empty() && !names_factor_file(s.factors)) make_folders(s.factors);
  for (const NamedFile& file : files_to_write(s)) {
    // To open and close a pipe would be all that its reader sees.
    std::error_code error;
    const auto type = std::filesystem::status(file.path, error).type();
    if (type == std::filesystem::file_type::fifo) continue;
    AtomicFile probe(file.path);
  }
}

std::string complete_json(const CompleteSettings& s, const CompletionData& data,
                          const CompletionOutcome& outcome, const PredictionCounts& predictions) {
  Json j;
  j["ratings"] = {{"file", s.ratings},
                  {"format", data.ratings.dialect},
                  {"count", data.ratings.size()},
                  {"users", data.ratings.users.size()},
                  {"items", data.ratings.items.size()},
                  {"skipped_lines", data.ratings.skipped},
                  {"merged_duplicates", data.ratings.merged}};
  j["train"] = data.train.size();
  j["validation"] = outcome.validation_size;
  j["test"] = {{"count", data.test.size()},
               {"source", data.test_source},
               {"taken_out_of_training", data.test_in_train},
               {"without_training_ratings", data.test_cold}};
  j["clamp"] = {data.low, data.high};
  j["seed"] = s.seed;
  const DeepCompletionFit& fit = outcome.fit;
  j["model"] = {{"rank", outcome.rank},
                {"depth", s.deep.depth},
                {"gamma", s.deep.gamma},
                {"step", fit.step},
                {"eps", fit.eps},
                {"momentum", s.deep.momentum},
                {"weight_decay", s.deep.weight_decay},
                {"stability_number", fit.stability},
                {"sigma1", fit.spectrum.sigma1},
                {"seen_share", fit.spectrum.density},
                {"iterations", outcome.iterations},
                {"best_iteration", fit.best_iteration},
                {"step_halvings", fit.halvings},
                {"refitted", outcome.refitted},
                {"interrupted", outcome.interrupted},
                {"seconds_per_iteration", fit.seconds_per_iteration}};
  j["methods"] = Json::array();
  for (const MethodResult& m : outcome.methods) {
    Json row = {{"name", m.name}};
    row["rmse"] = number_or_null(m.error.rmse);
    row["mae"] = number_or_null(m.error.mae);
    row["rmse_unclamped"] = number_or_null(m.error.rmse_unclamped);
    row["mae_unclamped"] = number_or_null(m.error.mae_unclamped);
    row["seconds"] = m.seconds;
    j["methods"].push_back(row);
  }
  if (!predictions.path.empty()) {
    j["predictions"] = {{"file", predictions.path},
                        {"count", predictions.pairs},
                        {"without_training_ratings", predictions.unknown}};
  }
  return j.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

PredictionCounts write_predictions(const CompletionData& data, const CompletionModel& model,
                                   const std::string& path) {
  const Ratings& pairs = data.pairs;
  std::vector<bool> warm_user(static_cast<std::size_t>(data.ratings.users.size()), false);
  std::vector<bool> warm_item(static_cast<std::size_t>(data.ratings.items.size()), false);
  for (const index_t i : data.train) {
    const auto at = static_cast<std::size_t>(i);
    warm_user[static_cast<std::size_t>(data.ratings.user[at])] = true;
    warm_item[static_cast<std::size_t>(data.ratings.item[at])] = true;
  }
  PredictionCounts counts;
  counts.path = path;
  counts.pairs = pairs.size();
  const auto write_lines = [&](const auto& write) {
    write(csv_line({"user", "item", "prediction"}));
    for (std::size_t i = 0; i < pairs.user.size(); ++i) {
      const std::string user(pairs.users.name(pairs.user[i]));
      const std::string item(pairs.items.name(pairs.item[i]));
      const index_t u = data.ratings.users.find(user);
      const index_t v = data.ratings.items.find(item);
      const bool known = u >= 0 && v >= 0 && warm_user[static_cast<std::size_t>(u)] &&
                         warm_item[static_cast<std::size_t>(v)];
      if (!known) ++counts.unknown;
      write(csv_line({user, item, fmt::format("{:.8g}", model.predict(u, v))}));
    }
  };
  if (path == "-") {
    write_lines([](const std::string& line) { std::fputs(line.c_str(), stdout); });
  } else {
    write_file_atomically(path, [&](AtomicFile& file) {
      write_lines([&file](const std::string& line) { file.write(line); });
    });
  }
  return counts;
}

void write_factors(const CompleteSettings& s, const CompletionData& data,
                   const CompletionOutcome& outcome, const std::string& path) {
  const FactorFiles files = factor_files(path);
  if (!names_factor_file(path)) make_folders(path);
  TensorMap map;
  const DeepCompletionFit& fit = outcome.fit;
  map.set("mean", Tensor<double>({1}, {fit.model.mean}));
  map.set("user_bias", fit.model.user_bias);
  map.set("item_bias", fit.model.item_bias);
  if (outcome.rank > 0) {
    map.set("left", fit.left);
    map.set("right", fit.right);
    for (std::size_t l = 0; l < fit.cores.size(); ++l) {
      map.set(fmt::format("core{}", l + 1), fit.cores[l]);
    }
  }
  map.metadata["prediction"] =
      "mean + user_bias[u] + item_bias[i] + left[u] core_L ... core_1 right[i], clamped to "
      "low..high";
  map.metadata["low"] = format_number(data.low);
  map.metadata["high"] = format_number(data.high);
  map.metadata["rank"] = std::to_string(outcome.rank);
  map.metadata["depth"] = std::to_string(s.deep.depth);
  map.metadata["gamma"] = format_number(s.deep.gamma);
  map.metadata["seed"] = std::to_string(s.seed);
  save_safetensors(files.factors, map);
  write_ids(files.users, "user", data.ratings.users);
  write_ids(files.items, "item", data.ratings.items);
}

void write_complete_folder(const CompleteSettings& s, const CompletionData& data,
                           const CompletionOutcome& outcome, const std::string& json) {
  make_folders(s.out);
  CsvWriter csv(s.out + "/metrics.csv", {"step", "seconds", "train_rmse", "validation_rmse"});
  for (const DeepCompletionCheck& c : outcome.checks) {
    csv.row({c.iteration, c.seconds, c.train_rmse, c.validation_rmse});
  }
  csv.finish();
  write_factors(s, data, outcome, s.out);
  write_file_atomically(s.out + "/complete.json", json);
}

}  // namespace parsimony::cli
