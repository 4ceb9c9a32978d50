// The parts of `parsimony complete`: settings, the ratings as training, validation and test parts,
// what the methods achieved, and the files written.
#pragma once

#include <parsimony/completion.hpp>
#include <parsimony/ratings.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace parsimony::cli {

struct CompleteSettings {
  std::string ratings, test, predict, output, factors, out, generate;
  std::string delimiter, header = "detect", columns, range, duplicates = "error", baselines = "all";
  bool skip_bad = false, json = false, quiet = false, single = false, no_refit = false;
  double holdout = 0.1, validation = 0.1, noise = 0;
  DeepCompletionOptions deep;
  std::uint64_t seed = 0;
  int threads = 0;
};

/// The ratings taken apart.
struct CompletionData {
  Ratings ratings;
  std::vector<index_t> train;  // positions in `ratings`
  RatedPairs test;
  Ratings pairs;              // to predict, numbered by tables of their own
  std::string test_source;    // for the reader: "10 % held out (seed 0)"
  index_t test_in_train = 0;  // test ratings that were among the ratings, and were taken out
  index_t test_cold = 0;      // test ratings whose user or item has no training rating
  double low = 0, high = 0;   // predictions are clamped to this
  bool range_given = false;
};

/// A line of the table.
struct MethodResult {
  std::string name;
  CompletionError error;
  double seconds = 0;
};

struct CompletionOutcome {
  std::vector<MethodResult> methods;
  DeepCompletionFit fit;  // what predicts
  index_t rank = 0;       // 0: only biases, there was nothing to factor
  std::string rank_note;  // why the rank is not the usual one
  std::vector<DeepCompletionCheck> checks;
  index_t iterations = 0;  // of the training with the validation part
  bool refitted = false;
  bool interrupted = false;  // the training ended early, with the best factors until then
  index_t fit_size = 0, validation_size = 0;
};

/// What came of --predict.
struct PredictionCounts {
  index_t pairs = 0;
  index_t unknown = 0;  // user or item without a training rating
  std::string path;
};

/// DeepCompletionOptions::rank as long as --rank is not given.
constexpr index_t rank_unset = std::numeric_limits<index_t>::min();

/// Ratings at some positions.
RatedPairs pairs_at(const Ratings& ratings, const std::vector<index_t>& positions);
/// Trains every method and measures it on the test part.
/// @throws ValueError on a rank that does not fit, NumericalError on divergence.
CompletionOutcome train_completion(const CompleteSettings& s, const CompletionData& data);

/// Where the predictions go.
std::string predictions_path(const CompleteSettings& s);
/// @throws ValueError if a file that is to be written is one that is read, or two are one.
void check_outputs(const CompleteSettings& s);
/// Makes the folders. @throws IoError now rather than after the training if a file cannot be
/// written.
void try_outputs(const CompleteSettings& s);

std::string complete_json(const CompleteSettings& s, const CompletionData& data,
                          const CompletionOutcome& outcome, const PredictionCounts& predictions);
/// Predicts data.pairs.
PredictionCounts write_predictions(const CompletionData& data, const CompletionModel& model,
                                   const std::string& path);
/// Tensors left, core{l}, right, user_bias, item_bias and mean, and beside them users.csv and
/// items.csv with the ids. `path` is a folder, or a file that ends in .safetensors.
void write_factors(const CompleteSettings& s, const CompletionData& data,
                   const CompletionOutcome& outcome, const std::string& path);
/// metrics.csv, complete.json and the factors.
void write_complete_folder(const CompleteSettings& s, const CompletionData& data,
                           const CompletionOutcome& outcome, const std::string& json);

}  // namespace parsimony::cli
