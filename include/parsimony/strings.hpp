// Small services for text from users: numbers in every locale alike, UTF-8, text that is safe to
// put into a message, beginnings and ends, and the name that was probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace parsimony {

/// The candidate nearest to `name` by edit distance, or "" if none is near.
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

/// Text for a message: at most `most` bytes, control and broken bytes as \xNN.
std::string printable(std::string_view text, std::size_t most = 40);

bool starts_with(std::string_view text, std::string_view start);
bool ends_with(std::string_view text, std::string_view end);

/// Where the first byte lies that is not UTF-8 (overlong forms, surrogates and what is above
/// U+10FFFF are not); npos if all of it is.
std::size_t find_invalid_utf8(std::string_view text);

/// Whole text as a number, with '.' in every locale; nan and inf are numbers, what is too large for
/// a double is inf. False, with `value` untouched or 0, if it is none.
bool parse_number(std::string_view text, double& value);

}  // namespace parsimony
