// Where a run stands, on stderr: a line redrawn in place on a terminal, a line now and then
// elsewhere, nothing when quiet.
#pragma once

#include <parsimony/tensor.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace parsimony::detail {

/// Who hears how far a loop is.
class LoopProgress {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~LoopProgress() = default;
  /// A loop of `label` begins at step `first` of `max_steps`, expected to stop after `expected`
  /// (0 = at max_steps).
  virtual void begin(const std::string& label, index_t first, index_t max_steps,
                     index_t expected = 0) = 0;
  /// Draws if the last drawing is long ago. `logged` is the last logged value, with its name.
  virtual void update(index_t step, Clock::time_point now, const std::string& logged) = 0;
  /// Removes the line drawn in place.
  virtual void finish() = 0;
};

/// The line of one loop after the other.
class Progress : public LoopProgress {
 public:
  explicit Progress(bool quiet);
  ~Progress() override { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void begin(const std::string& label, index_t first, index_t max_steps,
             index_t expected = 0) override;
  void update(index_t step, Clock::time_point now, const std::string& logged) override;
  void finish() override;
  /// A message of its own, above the line. May come from any thread.
  void say(const std::string& line);

 private:
  friend class GroupProgress;
  /// True if the last drawing is so long ago that it is time for another.
  bool due(Clock::time_point now);
  void draw(std::string line);
  void erase();

  std::mutex mutex_;  // of the line
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::string label_;
  index_t first_ = 0;
  index_t max_steps_ = 0;
  index_t expected_ = 0;
  Clock::time_point began_;
  Clock::time_point last_;
};

/// Loops side by side on one line: how many are done, the time left for all, and the one that
/// reported last. Its members may report from different threads.
class GroupProgress {
 public:
  GroupProgress(Progress& line, const std::string& label, std::size_t loops);
  ~GroupProgress();
  /// Valid as long as the group.
  LoopProgress& member(std::size_t loop);
  /// The loop will report no more; `skipped` if it had been done before.
  void done(std::size_t loop, bool skipped);

 private:
  class Member;
  void report(std::size_t loop, double share, LoopProgress::Clock::time_point now,
              const std::string& text);

  Progress& line_;
  std::string label_;
  LoopProgress::Clock::time_point began_;
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<double> share_, share_before_;  // of each loop, now and when it began here
  std::size_t done_ = 0;
};

/// "4.2 s", "3 min 05 s", "2 h 07 min".
std::string duration(double seconds);

}  // namespace parsimony::detail
