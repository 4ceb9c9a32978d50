#include "factored_json.hpp"

#include <parsimony/error.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace parsimony {

namespace {
constexpr const char* key = "factored_ranks";
}  // namespace

FactoredRanks read_factored_ranks(const nlohmann::ordered_json& config, const std::string& path) {
  FactoredRanks ranks;
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return ranks;
  if (!found->is_object()) {
    throw InputError(fmt::format("'{}': {}: expected an object of ranks by layer; got {}", path,
                                 key, found->dump()));
  }
  for (const auto& [layer, rank] : found->items()) {
    if (!rank.is_number_integer() || rank.get<std::int64_t>() < 1) {
      throw InputError(fmt::format("'{}': {}: '{}': expected a rank of at least 1; got {}", path,
                                   key, layer, rank.dump()));
    }
    ranks[layer] = rank.get<index_t>();
  }
  return ranks;
}

void write_factored_ranks(const FactoredRanks& ranks, nlohmann::ordered_json& config) {
  if (ranks.empty()) return;
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [layer, rank] : ranks) json[layer] = rank;
  config[key] = json;
}

}  // namespace parsimony
