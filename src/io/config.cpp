// Configuration: declared keys keep their type; text from `--set` is parsed into it with
// locale-independent conversions, and a name that is not declared is answered with the nearest one.
#include <parsimony/config.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony {

namespace {

constexpr auto replace_bad_utf8 = nlohmann::json::error_handler_t::replace;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

const char* type_name(const Setting& setting) {
  static const char* const names[] = {"true or false", "an integer",         "a number",
                                      "text",          "a list of integers", "a list of numbers"};
  return names[setting.index()];
}

[[noreturn]] void throw_expected(const std::string& key, const std::string& what,
                                 const std::string& got) {
  throw ValueError(fmt::format("{}: expected {}; got '{}'", key, what, got));
}

template <class Number>
bool parse_number(const std::string& raw, Number& out) {
  std::string text = trimmed(raw);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.erase(0, 1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if constexpr (std::is_floating_point_v<Number>) return std::isfinite(out);
  return true;
}

template <class Number>
bool parse_list(const std::string& raw, std::vector<Number>& out) {
  // "10,20" or, as configurations are printed, "[10,20]".
  std::string text = trimmed(raw);
  if (text.size() > 1 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::size_t begin = 0;
  while (true) {
    const auto comma = text.find(',', begin);
    Number number{};
    if (!parse_number(text.substr(begin, comma - begin), number)) return false;
    out.push_back(number);
    if (comma == std::string::npos) return true;
    begin = comma + 1;
  }
}

bool parse_flag(const std::string& raw, bool& out) {
  std::string text = trimmed(raw);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char* yes : {"true", "1", "yes", "on"}) {
    if (text == yes) return out = true, true;
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    if (text == no) return out = false, true;
  }
  return false;
}

// Parses `text` into the alternative that `value` holds.
void parse_into(const std::string& key, const std::string& text, Setting& value) {
  const bool ok = std::visit(
      [&](auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, bool>) {
          return parse_flag(text, held);
        } else if constexpr (std::is_same_v<Held, std::string>) {
          held = text;
          return true;
        } else if constexpr (std::is_arithmetic_v<Held>) {
          Held parsed{};
          if (!parse_number(text, parsed)) return false;
          held = parsed;
          return true;
        } else {
          Held parsed;
          if (!parse_list(text, parsed)) return false;
          held = std::move(parsed);
          return true;
        }
      },
      value);
  if (ok) return;
  std::string expected = type_name(value);
  if (std::holds_alternative<std::vector<index_t>>(value) ||
      std::holds_alternative<std::vector<double>>(value)) {
    expected += " such as 10,20,30";
  }
  throw_expected(key, expected, text);
}

void require_finite(const std::string& key, const Setting& value) {
  const auto check = [&](double number) {
    if (!std::isfinite(number)) {
      throw ValueError(fmt::format("{}: expected a finite number; got {}", key, number));
    }
  };
  if (const auto* number = std::get_if<double>(&value)) check(*number);
  if (const auto* list = std::get_if<std::vector<double>>(&value)) {
    for (const double number : *list) check(number);
  }
}

template <class Held>
const Held& get(const Config::Entry& entry, const char* wanted) {
  const Held* held = std::get_if<Held>(&entry.value);
  if (held == nullptr) {
    throw ValueError(fmt::format("{}: read as {}, but declared as {}", entry.key, wanted,
                                 type_name(entry.value)));
  }
  return *held;
}

}  // namespace

void Config::declare(const std::string& key, Setting value, const std::string& help) {
  for (const Entry& entry : entries_) {
    if (entry.key == key) throw ValueError(fmt::format("config: key '{}' declared twice", key));
  }
  require_finite(key, value);
  entries_.push_back({key, std::move(value), help});
}

const Config::Entry& Config::find(const std::string& key) const {
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry;
  }
  std::vector<std::string> keys;
  for (const Entry& entry : entries_) keys.push_back(entry.key);
  const std::string near = nearest_name(key, keys);
  if (!near.empty()) {
    throw ValueError(fmt::format("unknown key '{}'; did you mean '{}'?", key, near));
  }
  throw ValueError(fmt::format("unknown key '{}'; the keys are: {}", key, fmt::join(keys, ", ")));
}

Config::Entry& Config::find(const std::string& key) {
  return const_cast<Entry&>(std::as_const(*this).find(key));
}

void Config::preset(const std::string& key, Setting value) {
  Entry& entry = find(key);
  if (entry.value.index() != value.index()) {
    throw ValueError(fmt::format("{}: a preset gives {}, but it was declared as {}", key,
                                 type_name(value), type_name(entry.value)));
  }
  require_finite(key, value);
  entry.value = std::move(value);
}

void Config::set(const std::string& key, const std::string& text) {
  parse_into(key, text, find(key).value);
}

bool Config::has(const std::string& key) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.key == key; });
}

bool Config::flag(const std::string& key) const { return get<bool>(find(key), "true or false"); }

index_t Config::integer(const std::string& key) const {
  return get<index_t>(find(key), "an integer");
}

double Config::real(const std::string& key) const { return get<double>(find(key), "a number"); }

const std::string& Config::text(const std::string& key) const {
  return get<std::string>(find(key), "text");
}

const std::vector<index_t>& Config::integers(const std::string& key) const {
  return get<std::vector<index_t>>(find(key), "a list of integers");
}

const std::vector<double>& Config::reals(const std::string& key) const {
  return get<std::vector<double>>(find(key), "a list of numbers");
}

index_t Config::integer(const std::string& key, index_t low, index_t high) const {
  const index_t value = integer(key);
  if (value < low || value > high) {
    throw ValueError(fmt::format("{}: expected {}..{}; got {}", key, low, high, value));
  }
  return value;
}

double Config::real(const std::string& key, double low, double high) const {
  const double value = real(key);
  if (!(value >= low && value <= high)) {
    throw ValueError(fmt::format("{}: expected {}..{}; got {}", key, low, high, value));
  }
  return value;
}

const std::string& Config::text(const std::string& key,
                                const std::vector<std::string>& choices) const {
  const std::string& value = text(key);
  if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
    const std::string near = nearest_name(value, choices);
    throw ValueError(fmt::format("{}: expected {}; got '{}'{}", key, fmt::join(choices, ", "),
                                 value, near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  return value;
}

std::string Config::json() const {
  std::string text = "{";
  for (const Entry& entry : entries_) {
    nlohmann::json value;
    std::visit([&](const auto& held) { value = held; }, entry.value);
    text +=
        fmt::format("{}\n  {}: {}", text.size() == 1 ? "" : ",", nlohmann::json(entry.key).dump(),
                    value.dump(-1, ' ', false, replace_bad_utf8));
  }
  return text + "\n}\n";
}

}  // namespace parsimony
