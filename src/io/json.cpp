// Strings in JSON, and how deep it is.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony {

void check_json_depth(const std::string& path, std::string_view text) {
  constexpr int deepest = 32;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest) {
        throw InputError(fmt::format("'{}': nested deeper than {} levels", path, deepest));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

std::string json_quote(std::string_view text) {
  try {
    return nlohmann::json(std::string(text)).dump();
  } catch (const nlohmann::json::exception&) {
    throw ValueError("json: the text is not UTF-8");
  }
}

std::string json_escape(std::string_view text) {
  const std::string quoted = json_quote(text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace parsimony
