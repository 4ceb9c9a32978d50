// Runs the program under test as a user does: arguments, environment, signals, a terminal.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace parsimony::testing {

struct Outcome {
  int code = -1;    // exit code; -1 if a signal ended it
  int signal = 0;   // the signal, or 0
  std::string out;  // stdout; on a terminal, both streams
  std::string err;
};

struct Environment {
  std::vector<std::pair<std::string, std::string>> set;
  std::vector<std::string> unset;
  /// Runs in the child before the program starts.
  std::function<void()> before;
  bool terminal = false;
};

/// A program that is running; finish() waits for it.
class Process {
 public:
  /// `program` is the name of an environment variable that holds its path.
  /// @throws std::runtime_error if the variable is not set or the process cannot be started.
  Process(const char* program, const std::vector<std::string>& arguments,
          const Environment& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void send(int signal) const;
  Outcome finish();

 private:
  pid_t id_ = -1;
  int out_ = -1;
  int err_ = -1;
};

/// The tests' own build of the command line, with the experiments of probe.cpp.
Outcome probe(const std::vector<std::string>& arguments, const Environment& environment = {});
/// The program itself.
Outcome program(const std::vector<std::string>& arguments, const Environment& environment = {});

}  // namespace parsimony::testing
