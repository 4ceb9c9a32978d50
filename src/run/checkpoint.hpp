// A stage's checkpoint: one safetensors file with everything the stage needs to go on, and a
// checksum over it, so that a flipped bit is an error and not another result.
#pragma once

#include <parsimony/safetensors.hpp>

#include <string>

namespace parsimony::detail {

/// Checkpoint file of a stage in a run folder: every stage name has its own.
std::string checkpoint_path(const std::string& folder, const std::string& stage);

/// Adds the checksum and writes, so that PATH is, at every moment, the former file or the new one.
/// @throws IoError if the disk refuses.
void save_checkpoint(const std::string& path, TensorMap state);

/// @throws InputError naming the file and what to do, if it is unreadable, cut short, altered, or
/// not a checkpoint.
TensorMap load_checkpoint(const std::string& path);

/// The error for a checkpoint that cannot be used.
[[noreturn]] void throw_bad_checkpoint(const std::string& path, const std::string& why);

}  // namespace parsimony::detail
