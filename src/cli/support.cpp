// What commands share: common options, the terminal.
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/threads.hpp>

#include <cstdlib>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/command.hpp"

namespace parsimony::cli {

Option json_option(bool* target) {
  return {"--json", "", "print JSON for a machine to read", target};
}

Option quiet_option(bool* target) {
  return {"--quiet", "", "no progress and no messages on stderr, errors excepted", target};
}

Option data_option(std::string* target) {
  return {"--data", "DIR", "folder of data sets, before $PARSIMONY_DATA and ./data", target};
}

Option threads_option(int* target) {
  return {"--threads", "N",
          "threads of kernels and BLAS (default: $OMP_NUM_THREADS, else the cores of this process)",
          target};
}

void apply_threads(int threads) {
  if (threads == threads_unset) return;
  if (threads < 1 || threads > 1024) {
    throw ValueError(fmt::format("--threads: expected 1..1024; got {}", threads));
  }
  set_num_threads(threads);
}

void check_checkpoint_seconds(double seconds) {
  if (seconds >= 0 && seconds <= 1e6) return;
  throw ValueError(
      fmt::format("--checkpoint-seconds: expected at least 0, at most 1e6; got {}", seconds));
}

void check_data_folder(const std::string& folder) {
  if (!folder.empty()) check_folder(folder, "a folder of data sets");
}

bool color_on_stdout() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
         term != nullptr && std::string(term) != "dumb";
}

int stdout_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

}  // namespace parsimony::cli
