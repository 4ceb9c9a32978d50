// Several fine-tuning runs side by side: a process each, as many at a time as there are cores.
#pragma once

#include <parsimony/finetune.hpp>

#include <string>

namespace parsimony::cli {

struct ManyRuns {
  std::string tasks;    // "stsb,rte"; "": a user's tables
  std::string methods;  // "deep-lora,lora"
  std::string seeds;    // "0-4" or "1,5,7"; "": the one of the options
  std::string out;
  bool json = false, quiet = false;
  int threads = 0;  // cores to share; 0: all
};

/// Says on stderr which of the given options do not count.
void say_idle_options(const FinetuneOptions& given);

/// Starts this program again with the same arguments for each task, method and seed (--threads 1,
/// --out OUT/TASK-METHOD-seedN), and prints a table of the results and, for several methods, of
/// their differences on the same seeds; both are in OUT/summary.json. An exit code that is not 0 is
/// the first failed run's; the others still run.
/// @throws ValueError on a list that is none, an unknown task or bad options, before any run.
int finetune_many(const ManyRuns& runs, const FinetuneOptions& options);

/// In a run that finetune_many started: ends this process when the starter ends, however that
/// happens.
void end_with_parent();

/// The arguments that this process was started with; set by main().
void remember_arguments(int argc, const char* const* argv);

}  // namespace parsimony::cli
