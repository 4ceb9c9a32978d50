// What the tokenizer asks of Unicode, by code point; the tables are utf8proc's. Lower case is
// Python's str.lower: one code point becomes one, but for U+0130, and a capital sigma that ends a
// word becomes the final one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony::text {

using CodePoints = std::vector<std::int32_t>;

/// Decodes the character at `at`, moving `at` past it; -1, and `at` as it was, if it is not UTF-8.
std::int32_t decode(std::string_view text, std::size_t& at);
void append_utf8(std::int32_t c, std::string& out);

enum class CharClass : std::uint8_t {
  letter,     // whatever is kept: letters, digits, marks, symbols
  dropped,    // NUL, U+FFFD, control, format, unassigned and private characters
  space,      // between words: tab, line ends, Unicode's separators
  ideograph,  // of the CJK blocks that BERT lists
};
CharClass char_class(std::int32_t c);

/// \p{L}, \p{N} and \s of a regular expression over Unicode.
bool is_letter(std::int32_t c);
bool is_number(std::int32_t c);
bool is_white_space(std::int32_t c);

/// `bytes` with what is not UTF-8 replaced by U+FFFD, one for each byte that no character has.
std::string replace_invalid_utf8(std::string_view bytes);

/// BERT's punctuation: Unicode's, and every ASCII sign.
bool is_punctuation(std::int32_t c);

/// Lower case, in place. `buffer` is scratch space.
void to_lower(CodePoints& text, CodePoints& buffer);
/// Canonical decomposition, then nonspacing marks are dropped; in place.
void strip_accents(CodePoints& text, CodePoints& buffer);

}  // namespace parsimony::text
