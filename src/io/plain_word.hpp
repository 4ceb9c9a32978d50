// Names that people write in several ways.
#pragma once

#include <cctype>
#include <string>
#include <string_view>

namespace parsimony {

/// Letters and digits alone, in lower case: "userid" of "user_id", "notentailment" of
/// "NOT-ENTAILMENT". ASCII; other bytes are left out.
inline std::string plain_word(std::string_view name) {
  std::string word;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) word += static_cast<char>(std::tolower(byte));
  }
  return word;
}

}  // namespace parsimony
