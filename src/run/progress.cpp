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
  if (quiet_ || seconds_between(last_, now) < (terminal_ ? 0.1 : 30.0)) return;
  last_ = now;
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
  if (terminal_) {
    line = line.substr(0, terminal_columns() - 1);
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void Progress::finish() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

void Progress::say(const std::string& line) {
  if (quiet_) return;
  finish();
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace parsimony::detail
