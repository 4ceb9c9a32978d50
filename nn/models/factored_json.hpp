// The key "factored_ranks" of a model's config.json: rank by the name of the layer.
#pragma once

#include <parsimony/factored.hpp>

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace parsimony {

/// Empty if the key is not there. @throws InputError naming file, key and layer unless every rank
/// is a whole number of at least 1.
FactoredRanks read_factored_ranks(const nlohmann::ordered_json& config, const std::string& path);
/// Adds the key, unless there are no factored layers.
void write_factored_ranks(const FactoredRanks& ranks, nlohmann::ordered_json& config);

}  // namespace parsimony
