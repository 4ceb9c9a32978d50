// The options of all adapter methods as flags of a command: one flag an option, whichever methods
// have it, with the methods' own defaults and help.
#pragma once

#include <parsimony/adapter.hpp>

#include <map>
#include <string>
#include <vector>

#include "cli/command.hpp"

namespace parsimony::cli {

/// What was given, by the option's name; must outlive the flags.
struct AdapterFlags {
  std::map<std::string, std::string> texts;
  std::map<std::string, bool> switches;
};

/// --rank, --basis-seed, …: option names with dashes.
std::vector<Option> adapter_flags(AdapterFlags& flags);
/// The options that were given; which method they are for is not known here.
AdapterOptions given_adapter_options(const AdapterFlags& flags);
/// "basis_seed" as a flag: --basis-seed.
std::string flag_name(std::string option);
/// What to tell a user of the options that were given and do not count: lines such as "--rank has
/// no effect on deep-lora with --form full, only with narrow or compressed".
std::vector<std::string> idle_options(const AdapterOptions& given);

}  // namespace parsimony::cli
