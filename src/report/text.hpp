// Text for the places it ends up in: terminals, HTML pages, gnuplot scripts, links.
// Input may be any bytes; what is not UTF-8 becomes U+FFFD, control characters become spaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace parsimony::text {

/// Valid UTF-8 without control characters; newlines and tabs become spaces unless kept.
std::string clean(std::string_view s, bool keep_newlines = false);

/// Columns that cleaned text takes on a terminal: combining marks 0, East Asian wide forms 2.
int display_width(std::string_view s);
/// Cleaned text broken at spaces into lines of at most `width` >= 1 columns; a longer word is cut.
/// At least one line.
std::vector<std::string> wrap(std::string_view s, int width);

/// For HTML text and double-quoted attributes.
std::string html(std::string_view s);
/// A path as a relative link: percent-encoded, '/' kept.
std::string link(std::string_view path);
/// A gnuplot string literal. Single quotes: no escapes, no shell substitution; '' is a quote.
std::string gnuplot(std::string_view s);

/// The parser's message without its internal number.
std::string json_message(std::string_view what);

std::string base64(std::string_view bytes);

}  // namespace parsimony::text
