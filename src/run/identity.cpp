// Comparing the configuration of a run with the one it is to go on under, key by key.
#include "run/identity.hpp"

#include <parsimony/error.hpp>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony::detail {

using nlohmann::json;

std::string identity_json(const std::string& experiment, const RunOptions& options,
                          const Config& config) {
  for (const Config::Entry& entry : config.entries()) {
    for (const char* reserved : {"experiment", "preset", "seed"}) {
      if (entry.key == reserved) {
        throw ValueError(
            fmt::format("{}: key '{}' is taken by the run itself", experiment, reserved));
      }
    }
  }
  std::string text =
      fmt::format("{{\n  \"experiment\": {},\n  \"preset\": {},\n  \"seed\": {}",
                  json(experiment).dump(), json(options.preset).dump(), options.seed);
  if (config.entries().empty()) return text + "\n}\n";
  return text + "," + config.json().substr(1);
}

void require_same_identity(const std::string& saved, const std::string& current,
                           const std::string& where) {
  if (saved == current) return;
  const json before = json::parse(saved, nullptr, false);
  const json now = json::parse(current, nullptr, false);
  if (!before.is_object()) {
    throw InputError(fmt::format(
        "{}: cannot be read as the configuration of a run; start afresh without --resume", where));
  }
  for (const auto& [key, value] : now.items()) {
    if (before.contains(key) && before[key] == value) continue;
    throw InputError(fmt::format(
        "cannot resume: {} was {} and is now {} ({}); resume with the same settings, or start "
        "afresh without --resume",
        key, before.contains(key) ? before[key].dump() : "not set", value.dump(), where));
  }
  for (const auto& [key, value] : before.items()) {
    if (now.contains(key)) continue;
    throw InputError(fmt::format(
        "cannot resume: {} was {} and is no longer a setting ({}); start afresh without --resume",
        key, value.dump(), where));
  }
}

}  // namespace parsimony::detail
