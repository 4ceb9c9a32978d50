// The key "factored_ranks" of a model's config.json: rank by the name of the layer.
#pragma once

#include <parsimony/factored.hpp>

#include <string>

namespace parsimony {

/// From the text of the key's value, "" if the key is not there. @throws InputError naming file,
/// key and layer unless it is an object whose values are whole numbers of at least 1.
FactoredRanks parse_factored_ranks(const std::string& json, const std::string& path);
/// The value's text.
std::string factored_ranks_json(const FactoredRanks& ranks);

}  // namespace parsimony
