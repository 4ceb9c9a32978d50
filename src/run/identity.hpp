// A run's identity: experiment, preset, seed and settings, as config.json has them. Results may
// only go on under the same one.
#pragma once

#include <parsimony/experiment.hpp>

#include <string>

namespace parsimony::detail {

/// config.json: "experiment", "preset", "seed", then the settings, one key a line.
std::string identity_json(const std::string& experiment, const RunOptions& options,
                          const Config& config);

/// @throws InputError naming the first key that differs, and what to do, unless both are equal;
/// `where` is the file that `saved` was read from.
void require_same_identity(const std::string& saved, const std::string& current,
                           const std::string& where);

}  // namespace parsimony::detail
