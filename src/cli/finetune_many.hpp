// Several fine-tuning runs side by side: a process each, as many at a time as there are cores.
#pragma once

#include <string>

namespace parsimony::cli {

struct ManyRuns {
  std::string tasks;  // "stsb,rte"
  std::string seeds;  // "0-4" or "1,5,7"; "": 0
  std::string out;
  bool json = false, quiet = false;
  int threads = 0;  // cores to share; 0: all
};

/// Starts this program again with the same arguments for each task and seed (--threads 1, --out
/// OUT/TASK-seedN), and prints a table of the results. An exit code that is not 0 is the first
/// failed run's; the others still run. @throws ValueError on a list that is none.
int finetune_many(const ManyRuns& runs);

/// The arguments that this process was started with; set by main().
void remember_arguments(int argc, const char* const* argv);

}  // namespace parsimony::cli
