// Where a run stands, on stderr: a line redrawn in place on a terminal, a line now and then
// elsewhere, nothing when quiet.
#pragma once

#include <parsimony/tensor.hpp>

#include <chrono>
#include <string>

namespace parsimony::detail {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Progress(bool quiet);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A loop of `label` begins at step `first` of `max_steps`, expected to stop after `expected`
  /// (0 = at max_steps).
  void begin(const std::string& label, index_t first, index_t max_steps, index_t expected = 0);
  /// Draws if the last drawing is long ago. `logged` is the last logged value, with its name.
  void update(index_t step, Clock::time_point now, const std::string& logged);
  /// Removes the line drawn in place.
  void finish();
  /// A message of its own, above the line.
  void say(const std::string& line);

 private:
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

/// "4.2 s", "3 min 05 s", "2 h 07 min".
std::string duration(double seconds);

}  // namespace parsimony::detail
