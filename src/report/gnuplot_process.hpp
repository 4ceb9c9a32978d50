// Runs gnuplot as a child process.
#pragma once

#include <string>
#include <vector>

namespace parsimony::report {

struct ProcessResult {
  bool started = false;
  int status = -1;       // exit status; 128 + signal if it was killed
  std::string messages;  // what it wrote to stderr and stdout
};

/// Runs a program from the PATH in `folder`, without a shell, with no input and in a UTF-8 locale
/// whose decimal point is '.'. The rest of the process goes on meanwhile.
ProcessResult run_in_folder(const std::vector<std::string>& command, const std::string& folder);

}  // namespace parsimony::report
