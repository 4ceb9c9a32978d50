#include "config_file.hpp"

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony {

namespace {

constexpr const char* factored_key = "factored_ranks";

/// A key that comes twice would silently be the last.
nlohmann::ordered_json parse(const std::string& text, const std::string& path) {
  using Json = nlohmann::ordered_json;
  check_json_depth(path, text);
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  try {
    return Json::parse(text, [&](int, Json::parse_event_t event, Json& value) {
      if (event == Json::parse_event_t::object_start) keys.emplace_back();
      if (event == Json::parse_event_t::object_end) keys.pop_back();
      if (event == Json::parse_event_t::key &&
          !keys.back().insert(value.get<std::string>()).second) {
        throw InputError(fmt::format("'{}': the key '{}' comes twice", path,
                                     printable(value.get<std::string>())));
      }
      return true;
    });
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected JSON; {}", path, printable(e.what(), 200)));
  }
}

}  // namespace

std::string config_path(const std::string& folder) {
  return (std::filesystem::path(folder) / "config.json").string();
}

struct ConfigReader::Json {
  nlohmann::ordered_json value;
};

ConfigReader::ConfigReader(const std::string& path) : path_(path) {
  json_ = std::make_unique<Json>(Json{parse(read_file(path), path)});
  if (!json_->value.is_object()) fail("expected a JSON object");
}
ConfigReader::ConfigReader(std::string path, std::unique_ptr<Json> json)
    : path_(std::move(path)), json_(std::move(json)) {}
ConfigReader::~ConfigReader() = default;
ConfigReader::ConfigReader(ConfigReader&&) noexcept = default;

void ConfigReader::fail(const std::string& what) const {
  throw InputError(fmt::format("'{}': {}", path_, what));
}

bool ConfigReader::has(const char* key) const {
  return json_->value.contains(key) && !json_->value[key].is_null();
}

void ConfigReader::integer(const char* key, index_t& value, bool required) const {
  if (!has(key)) {
    if (required) fail(fmt::format("the key '{}' is missing", key));
    return;
  }
  const auto& found = json_->value[key];
  if (!found.is_number_integer() ||
      (found.is_number_unsigned() &&
       found.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<index_t>::max()})) {
    fail(fmt::format("{}: expected a whole number; got {}", key, found.dump()));
  }
  value = found.get<index_t>();
}

void ConfigReader::real(const char* key, double& value) const {
  if (!has(key)) return;
  const auto& found = json_->value[key];
  if (!found.is_number()) fail(fmt::format("{}: expected a number; got {}", key, found.dump()));
  value = found.get<double>();
}

void ConfigReader::real(const char* key, std::optional<double>& value) const {
  if (!has(key)) return;
  value = 0.0;
  real(key, *value);
}

void ConfigReader::boolean(const char* key, bool& value) const {
  if (!has(key)) return;
  const auto& found = json_->value[key];
  if (!found.is_boolean())
    fail(fmt::format("{}: expected true or false; got {}", key, found.dump()));
  value = found.get<bool>();
}

void ConfigReader::text(const char* key, std::string& value) const {
  if (!has(key)) return;
  const auto& found = json_->value[key];
  if (!found.is_string()) fail(fmt::format("{}: expected a name; got {}", key, found.dump()));
  value = found.get<std::string>();
}

void ConfigReader::only(const char* key, const std::vector<std::string>& allowed) const {
  if (!has(key)) return;
  const auto& found = json_->value[key];
  const bool fits = found.is_string() && std::find(allowed.begin(), allowed.end(),
                                                   found.get<std::string>()) != allowed.end();
  if (!fits) {
    fail(fmt::format("{}: expected \"{}\"; got {}", key, fmt::join(allowed, "\" or \""),
                     found.dump()));
  }
}

void ConfigReader::must_be(const char* key, bool value) const {
  if (has(key) && json_->value[key] != nlohmann::ordered_json(value)) {
    fail(fmt::format("{}: expected {}; got {}", key, value, json_->value[key].dump()));
  }
}

void ConfigReader::first_integer(const char* key, index_t& value) const {
  if (!has(key)) return;
  const auto& found = json_->value[key];
  if (found.is_array() && !found.empty() && found[0].is_number_integer()) {
    value = found[0].get<index_t>();
  } else {
    integer(key, value);
  }
}

void ConfigReader::factored_ranks(FactoredRanks& ranks) const {
  if (!has(factored_key)) return;
  const auto& found = json_->value[factored_key];
  if (!found.is_object()) {
    fail(fmt::format("{}: expected an object of ranks by layer; got {}", factored_key,
                     found.dump()));
  }
  for (const auto& [layer, rank] : found.items()) {
    if (!rank.is_number_integer() || rank.get<std::int64_t>() < 1) {
      fail(fmt::format("{}: '{}': expected a rank of at least 1; got {}", factored_key,
                       printable(layer), rank.dump()));
    }
    ranks[layer] = rank.get<index_t>();
  }
}

void ConfigReader::labels(index_t& count, std::vector<std::string>& names) const {
  if (!has("id2label")) {
    integer("num_labels", count);
    return;
  }
  const auto& found = json_->value["id2label"];
  if (!found.is_object()) {
    fail(fmt::format("id2label: expected an object of names by number; got {}", found.dump()));
  }
  count = static_cast<index_t>(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::string key = std::to_string(i);
    if (!found.contains(key) || !found[key].is_string()) {
      fail(fmt::format("id2label: expected a name for each of 0..{}; '{}' is missing",
                       found.size() - 1, key));
    }
    names.push_back(found[key].get<std::string>());
  }
  index_t stated = count;
  integer("num_labels", stated);
  if (stated != count) fail(fmt::format("num_labels is {}, but id2label has {}", stated, count));
  if (!has("label2id") || !json_->value["label2id"].is_object()) return;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto back = json_->value["label2id"].find(names[i]);
    if (back == json_->value["label2id"].end()) continue;
    const bool number = back->is_number_unsigned() && *back < names.size();
    if (!number || names[back->get<std::size_t>()] != names[i]) {
      fail(fmt::format("id2label has '{}' as {}, but label2id as {}", printable(names[i]), i,
                       back->dump()));
    }
  }
}

ConfigReader ConfigReader::inside(const char* key) const {
  auto json = std::make_unique<Json>(Json{nlohmann::ordered_json::object()});
  if (has(key)) {
    if (!json_->value[key].is_object()) {
      fail(fmt::format("{}: expected an object; got {}", key, json_->value[key].dump()));
    }
    json->value = json_->value[key];
  }
  return {path_, std::move(json)};
}

struct ConfigWriter::Json {
  nlohmann::ordered_json value;
};

ConfigWriter::ConfigWriter(const char* model_type, const std::string& architecture)
    : json_(std::make_unique<Json>()) {
  json_->value["architectures"] = {architecture};
  json_->value["model_type"] = model_type;
}
ConfigWriter::~ConfigWriter() = default;

ConfigWriter& ConfigWriter::set(const char* key, index_t value) {
  json_->value[key] = value;
  return *this;
}
ConfigWriter& ConfigWriter::set(const char* key, double value) {
  json_->value[key] = value;
  return *this;
}
ConfigWriter& ConfigWriter::set(const char* key, bool value) {
  json_->value[key] = value;
  return *this;
}
ConfigWriter& ConfigWriter::set(const char* key, const char* value) {
  json_->value[key] = value;
  return *this;
}

ConfigWriter& ConfigWriter::labels(index_t count, const std::vector<std::string>& names) {
  auto id2label = nlohmann::ordered_json::object();
  auto label2id = nlohmann::ordered_json::object();
  for (index_t i = 0; i < count; ++i) {
    const std::string name =
        names.empty() ? "LABEL_" + std::to_string(i) : names[static_cast<std::size_t>(i)];
    id2label[std::to_string(i)] = name;
    label2id[name] = i;
  }
  json_->value["id2label"] = id2label;
  json_->value["label2id"] = label2id;
  if (count == 1) json_->value["problem_type"] = "regression";
  return *this;
}

ConfigWriter& ConfigWriter::factored_ranks(const FactoredRanks& ranks) {
  if (ranks.empty()) return *this;
  auto& json = json_->value[factored_key] = nlohmann::ordered_json::object();
  for (const auto& [layer, rank] : ranks) json[layer] = rank;
  return *this;
}

void ConfigWriter::save(const std::string& path) const {
  write_file_atomically(path, json_->value.dump(2) + "\n");
}

void check_sizes(const std::vector<std::pair<const char*, index_t>>& sizes) {
  for (const auto& [name, value] : sizes) {
    constexpr index_t largest = 1 << 24;  // no model has a side of more entries
    if (value < 1 || value > largest) {
      throw ValueError(fmt::format("{}: expected 1..{}; got {}", name, largest, value));
    }
  }
}

void check_labels(index_t count, const std::vector<std::string>& names) {
  if (!names.empty() && static_cast<index_t>(names.size()) != count) {
    throw ValueError(
        fmt::format("labels: expected {} names, num_labels; got {}", count, names.size()));
  }
}

void check_dropout(const std::vector<double>& probabilities) {
  for (const double p : probabilities) {
    if (!(p >= 0 && p < 1)) {
      throw ValueError(fmt::format("dropout: expected a probability in [0, 1); got {}", p));
    }
  }
}

}  // namespace parsimony
