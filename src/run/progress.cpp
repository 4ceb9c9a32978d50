// The progress line: label, step of steps, steps per second, time to go and the last logged value.
// The time to go is that of the whole loop at its average rate; a loop that stops early is done
// sooner.
#include "run/progress.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace parsimony::detail {

namespace {

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (term == nullptr || std::string(term) != "dumb");
}

std::size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10) return size.ws_col;
  return 80;
}

double seconds_between(Progress::Clock::time_point a, Progress::Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::string rate_text(double rate) {
  if (rate >= 10000) return fmt::format("{:.0f}k it/s", rate / 1000);
  return rate >= 10 ? fmt::format("{:.0f} it/s", rate) : fmt::format("{:.2f} it/s", rate);
}

}  // namespace

std::string duration(double seconds) {
  if (!(seconds >= 0) || !std::isfinite(seconds)) return "?";
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(!quiet && is_terminal()) {}

void Progress::begin(const std::string& label, index_t first, index_t max_steps, index_t expected) {
  label_ = label;
  first_ = first;
  max_steps_ = max_steps;
  expected_ = expected;
  began_ = last_ = Clock::now();
}

void Progress::update(index_t step, Clock::time_point now, const std::string& logged) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!due(now)) return;
  const double elapsed = seconds_between(began_, now);
  const double rate = static_cast<double>(step - first_) / std::max(elapsed, 1e-9);
  // Past its expected end a loop may go on to the limit.
  const bool guessed = step < expected_ && expected_ < max_steps_;
  const index_t total = guessed ? expected_ : max_steps_;
  std::string line =
      fmt::format("{}  {}/{}{}  {}", label_, step, guessed ? "~" : "", total, rate_text(rate));
  if (rate > 0) {
    line += "  ETA " + duration(static_cast<double>(std::max<index_t>(0, total - step)) / rate);
  }
  if (!logged.empty()) line += "  " + logged;
  draw(std::move(line));
}

bool Progress::due(Clock::time_point now) {
  if (quiet_ || seconds_between(last_, now) < (terminal_ ? 0.1 : 30.0)) return false;
  last_ = now;
  return true;
}

void Progress::draw(std::string line) {
  if (terminal_) {
    line = line.substr(0, terminal_columns() - 1);
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void Progress::erase() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

void Progress::finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  erase();
}

void Progress::say(const std::string& line) {
  if (quiet_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  erase();
  std::fprintf(stderr, "%s\n", line.c_str());
}

// --- Loops side by side -------------------------------------------------------------------------

class GroupProgress::Member : public LoopProgress {
 public:
  Member(GroupProgress& group, std::size_t loop) : group_(group), loop_(loop) {}

  void begin(const std::string& label, index_t first, index_t max_steps,
             index_t expected) override {
    label_ = label;
    total_ = expected > 0 ? expected : max_steps;
    const std::lock_guard<std::mutex> lock(group_.line_.mutex_);
    group_.share_[loop_] = group_.share_before_[loop_] = share(first);
  }
  void update(index_t step, Clock::time_point now, const std::string& logged) override {
    group_.report(loop_, share(step), now,
                  fmt::format("{} {}/{}  {}", label_, step, total_, logged));
  }
  void finish() override {}

 private:
  double share(index_t step) const {
    if (total_ < 1) return 1;
    return std::min(1.0, static_cast<double>(step) / static_cast<double>(total_));
  }
  GroupProgress& group_;
  std::size_t loop_;
  std::string label_;
  index_t total_ = 0;
};

GroupProgress::GroupProgress(Progress& line, const std::string& label, std::size_t loops)
    : line_(line),
      label_(label),
      began_(LoopProgress::Clock::now()),
      share_(loops, 0.0),
      share_before_(loops, 0.0) {
  for (std::size_t i = 0; i < loops; ++i) members_.push_back(std::make_unique<Member>(*this, i));
  line_.last_ = began_;
}

GroupProgress::~GroupProgress() { line_.finish(); }

LoopProgress& GroupProgress::member(std::size_t loop) { return *members_[loop]; }

void GroupProgress::done(std::size_t loop, bool skipped) {
  const std::lock_guard<std::mutex> lock(line_.mutex_);
  share_[loop] = 1;
  if (skipped) share_before_[loop] = 1;
  ++done_;
}

// Every loop counts the same; the time left is that of what is left at the rate so far.
void GroupProgress::report(std::size_t loop, double share, LoopProgress::Clock::time_point now,
                           const std::string& text) {
  const std::lock_guard<std::mutex> lock(line_.mutex_);
  share_[loop] = share;
  if (!line_.due(now)) return;
  double made = 0;
  double left = 0;
  for (std::size_t i = 0; i < share_.size(); ++i) {
    made += share_[i] - share_before_[i];
    left += 1 - share_[i];
  }
  std::string line = fmt::format("{}  {} of {} runs", label_, done_, share_.size());
  if (made > 0) line += "  ETA " + duration(seconds_between(began_, now) * left / made);
  line_.draw(line + "  " + text);
}

}  // namespace parsimony::detail
