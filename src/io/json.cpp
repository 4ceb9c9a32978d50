// Strings in JSON.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <nlohmann/json.hpp>

namespace parsimony {

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
