// What stands behind Run: its folder, its stages, what it is to write at the end.
#pragma once

#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/run.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "run/progress.hpp"

namespace parsimony {

struct Run::Impl {
  using Clock = std::chrono::steady_clock;

  Impl(const Experiment& which, const RunOptions& run_options);

  /// Takes the folder at the first use, so that a setting which is refused before leaves nothing:
  /// lock, remove what an earlier run left (or check that it is the same run), config.json and
  /// environment.json.
  void begin();
  /// True if the folder holds this run, finished; its claims are then `claims`.
  bool load_finished();
  /// metrics.csv, if there is something new; at most every few seconds unless `force`.
  void save_metrics(bool force);
  void save_arrays();
  /// Every file of a finished run. @throws Error if the experiment left out a claim.
  void finish();
  /// Claims without an outcome become "not run".
  void mark_not_run(const std::string& why);
  Claim& stated_claim(const std::string& id);

  const Experiment& experiment;
  std::string name;
  RunOptions options;
  Config config;
  std::string identity;
  std::string folder;
  detail::Progress progress;
  std::optional<FileLock> lock;
  bool begun = false;

  struct NamedRecord {
    std::string name;
    Record record;
  };
  std::vector<std::unique_ptr<NamedRecord>> stages;
  std::mutex rows;        // of the records, while stages run side by side
  bool in_group = false;  // while they do

  /// A record for a stage. @throws ValueError on no name or one that is taken; Interrupted.
  NamedRecord& new_record(const std::string& stage);
  /// Runs the stage's body, or fills the record from what a resumed run had finished (true).
  bool run_stage(NamedRecord& named, const std::function<void(Stage&)>& body,
                 detail::LoopProgress& loop, const std::atomic<bool>* cancelled = nullptr);

  std::vector<Claim> claims;
  std::vector<bool> recorded;  // by claims

  /// A tensor for arrays.safetensors with the version it had when it was handed in.
  template <class T>
  struct Array {
    Tensor<T> tensor;
    std::uint32_t version;
  };
  std::map<std::string, Array<double>> reals;
  std::map<std::string, Array<float>> floats;
  std::map<std::string, Array<std::uint8_t>> bytes;
  std::map<std::string, Array<std::int64_t>> integers;
  std::map<std::string, std::string> notes;

  std::size_t rows_written = 0;
  Clock::time_point next_metrics;
};

}  // namespace parsimony
