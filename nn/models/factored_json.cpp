#include "factored_json.hpp"

#include <parsimony/error.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace parsimony {

namespace {
constexpr const char* key = "factored_ranks";
}  // namespace

FactoredRanks parse_factored_ranks(const std::string& json, const std::string& path) {
  FactoredRanks ranks;
  if (json.empty()) return ranks;
  const auto object = nlohmann::ordered_json::parse(json);
  if (!object.is_object()) {
    throw InputError(
        fmt::format("'{}': {}: expected an object of ranks by layer; got {}", path, key, json));
  }
  for (const auto& [layer, rank] : object.items()) {
    if (!rank.is_number_integer() || rank.get<std::int64_t>() < 1) {
      throw InputError(fmt::format("'{}': {}: '{}': expected a rank of at least 1; got {}", path,
                                   key, layer, rank.dump()));
    }
    ranks[layer] = rank.get<index_t>();
  }
  return ranks;
}

std::string factored_ranks_json(const FactoredRanks& ranks) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [layer, rank] : ranks) json[layer] = rank;
  return json.dump();
}

}  // namespace parsimony
