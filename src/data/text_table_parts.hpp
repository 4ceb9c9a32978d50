// What the readers of text tables share: a row with its line, and the choice of columns.
#pragma once

#include <parsimony/text_table.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony::detail {

/// Positions of the wanted columns among `names` (or `count` columns without names, if `names` is
/// empty). Empty `wanted` means all. @throws InputError with the nearest name, or the largest
/// number; ValueError on a column wanted twice.
std::vector<std::size_t> choose_columns(const std::string& file,
                                        const std::vector<std::string>& wanted,
                                        const std::vector<std::string>& names, std::size_t count);

/// True if a wanted column is a number rather than a name.
bool is_column_number(const std::string& wanted);

/// Fills `table` from JSON lines; `text` has been checked to be UTF-8 without NUL bytes.
void read_json_lines(std::string_view text, const TextFormat& format, TextTable& table);

/// Takes the next line off `text`, without its end; false if there is none.
bool next_line(std::string_view& text, std::string_view& line);

}  // namespace parsimony::detail
