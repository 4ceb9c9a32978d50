// parsimony: the program. app.cpp does the work, so that tests can link it with other experiments.
#include "cli/command.hpp"

#include <cstdlib>

#include <unistd.h>

namespace {

/// OpenMP's threads spin for milliseconds when they wait, which on a busy machine keeps the very
/// thread they wait for off its core: steps take ten times as long. 50 µs keep the gain of spinning
/// on an idle machine. libgomp reads the setting once, when it is loaded, so the program starts
/// again with it; settings of the user's own stand.
void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length <= 0) return;
  self[length] = '\0';
  if (setenv("GOMP_SPINCOUNT", "10000", 0) == 0) execv(self, argv);
}

}  // namespace

int main(int argc, char** argv) {
  bound_spinning(argv);
  return parsimony::cli::main(argc, argv);
}
