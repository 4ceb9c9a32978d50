#include "cli/adapter_flags.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace parsimony::cli {

namespace {

std::string printed(const Setting& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "on" : "off";
  if (const auto* whole = std::get_if<index_t>(&value)) return std::to_string(*whole);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{:g}", *real);
  return std::get<std::string>(value);
}

const char* placeholder(const Setting& value) {
  if (std::holds_alternative<index_t>(value)) return "N";
  return std::holds_alternative<double>(value) ? "X" : "NAME";
}

/// "lora, dora: help (default); vera: help (default)".
std::string joined(const std::vector<std::pair<std::string, std::vector<std::string>>>& meanings) {
  std::string out;
  for (const auto& [help, methods] : meanings) {
    out += fmt::format("{}{}: {}", out.empty() ? "" : "; ", fmt::join(methods, ", "), help);
  }
  return out;
}

}  // namespace

std::string flag_name(std::string option) {
  std::replace(option.begin(), option.end(), '_', '-');
  return "--" + option;
}

std::vector<std::string> idle_options(const AdapterOptions& given) {
  std::vector<std::string> lines;
  for (const auto& [key, value] : given.values) {
    const OptionCondition* const unmet = unmet_condition(given, key);
    if (unmet == nullptr) continue;
    lines.push_back(fmt::format("{} has no effect on {} with {} {}, only with {}", flag_name(key),
                                given.method, flag_name(unmet->other),
                                adapter_config(given).text(unmet->other),
                                fmt::join(unmet->values, " or ")));
  }
  return lines;
}

std::vector<Option> adapter_flags(AdapterFlags& flags) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::pair<std::string, std::vector<std::string>>>> meanings;
  std::map<std::string, const char*> placeholders;
  for (const std::string& method : adapter_methods()) {
    for (const auto& entry : adapter_info(method).options) {
      if (meanings.count(entry.key) == 0) {
        order.push_back(entry.key);
        if (std::holds_alternative<bool>(entry.value)) {
          flags.switches[entry.key] = false;
        } else {
          flags.texts[entry.key];
          placeholders[entry.key] = placeholder(entry.value);
        }
      }
      auto& known = meanings[entry.key];
      const std::string help = fmt::format("{} ({})", entry.help, printed(entry.value));
      auto same = std::find_if(known.begin(), known.end(),
                               [&](const auto& meaning) { return meaning.first == help; });
      if (same == known.end()) {
        known.push_back({help, {}});
        same = known.end() - 1;
      }
      same->second.push_back(method);
    }
  }
  std::vector<Option> options;
  for (const std::string& key : order) {
    const auto flag = flags.switches.find(key);
    if (flag != flags.switches.end()) {
      options.push_back({flag_name(key), "", joined(meanings[key]), &flag->second});
    } else {
      options.push_back(
          {flag_name(key), placeholders[key], joined(meanings[key]), &flags.texts[key]});
    }
  }
  return options;
}

AdapterOptions given_adapter_options(const AdapterFlags& flags) {
  AdapterOptions options;
  for (const auto& [key, text] : flags.texts) {
    if (!text.empty()) options.set(key, text);
  }
  for (const auto& [key, on] : flags.switches) {
    if (on) options.set(key, true);
  }
  return options;
}

}  // namespace parsimony::cli
