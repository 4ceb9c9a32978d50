// nlohmann's JSON, whose classes are compiled once, in nlohmann*.cpp, and not again in every file
// that reads or writes some: a file that parses and prints would take three to five seconds.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>

#ifdef PARSIMONY_JSON_INSTANTIATE
#define PARSIMONY_JSON_EXTERN
#else
#define PARSIMONY_JSON_EXTERN extern
#endif

namespace nlohmann {

/// What reads a string; parsers of other inputs are compiled where they are used.
using JsonText = decltype(detail::input_adapter(std::declval<const std::string&>()));

#define PARSIMONY_JSON(Json)                                           \
  PARSIMONY_JSON_EXTERN template class detail::lexer<Json, JsonText>;  \
  PARSIMONY_JSON_EXTERN template class detail::parser<Json, JsonText>; \
  PARSIMONY_JSON_EXTERN template class detail::serializer<Json>;

#if !defined(PARSIMONY_JSON_INSTANTIATE) || defined(PARSIMONY_JSON_SORTED)
PARSIMONY_JSON_EXTERN template class basic_json<>;
PARSIMONY_JSON(json)
#endif
#if !defined(PARSIMONY_JSON_INSTANTIATE) || defined(PARSIMONY_JSON_ORDERED)
PARSIMONY_JSON_EXTERN template class basic_json<ordered_map>;
PARSIMONY_JSON(ordered_json)
#endif

#undef PARSIMONY_JSON
#undef PARSIMONY_JSON_EXTERN

}  // namespace nlohmann
