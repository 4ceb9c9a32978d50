// What stands behind Stage: its clock, its record, the state it tracks.
#pragma once

#include <parsimony/run.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "run/checkpoint.hpp"
#include "run/progress.hpp"

namespace parsimony {

namespace detail {

/// One tracked value: how it is saved, restored in place, and checked.
struct Tracked {
  std::string name;
  std::function<void(TensorMap&)> save;
  std::function<void(const TensorMap&)> restore;
  std::function<bool()> finite;
};

/// What a stage shares with its run.
struct StageContext {
  std::string experiment;
  std::string name;
  std::string checkpoint;  // path
  std::string identity;    // the configuration as JSON; a checkpoint of another one is refused
  double checkpoint_seconds = 20;
  LoopProgress* progress = nullptr;
  std::function<void()> save_metrics;  // if it is time to
  std::mutex* rows = nullptr;          // held while a record's rows change
  /// Set when a stage beside this one failed: save and stop.
  const std::atomic<bool>* cancelled = nullptr;
};

}  // namespace detail

struct Stage::Impl {
  using Clock = std::chrono::steady_clock;

  Impl(Record& stage_record, detail::StageContext stage_context)
      : record(stage_record), context(std::move(stage_context)) {}

  /// @throws ValueError on a name that is taken, or after the loop began.
  void add(detail::Tracked value);

  double seconds() const;
  void start_clock();
  void stop_clock();

  /// Writes the checkpoint from which `next_step` follows; `done` leaves the tracked state out.
  /// False, and the former checkpoint stays, if the tracked state is not finite.
  bool save(index_t next_step, bool done);
  TensorMap snapshot(index_t next_step, bool done) const;
  bool tracked_is_finite() const;
  /// After a divergence: writes the state that the loop began with, unless a later one was saved.
  void save_beginning();
  /// Reads the checkpoint; true if the stage was done, with its record filled.
  bool load();
  /// Puts the tracked state and the record back as the checkpoint has them.
  void restore();
  void restore_record(const TensorMap& state);
  /// Between two steps, now and then: checkpoint, metrics, progress.
  void housekeeping(index_t next_step, Clock::time_point now);
  std::string last_logged() const;
  bool asked_to_stop() const;

  Record& record;
  detail::StageContext context;
  std::vector<detail::Tracked> tracked;
  TensorMap loaded;
  bool has_loaded = false;
  TensorMap beginning;  // copies; dropped at the first checkpoint
  bool looped = false;
  index_t step = 0;
  index_t expected = 0;

  double spent = 0;
  bool clock_runs = false;
  Clock::time_point clock_since;
  Clock::time_point next_checkpoint;
};

}  // namespace parsimony
