// Text from users, see the header.
#include <parsimony/strings.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// Length of the UTF-8 character at the start of `text`, which is not empty; 0 if there is none.
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xc2   ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool beyond = first == 0xf4 && second >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Optimal string alignment: edits and swaps of neighbours, with three rows of the table.
    const std::size_t n = candidate.size();
    std::vector<std::size_t> before(n + 1), previous(n + 1), row(n + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= name.size(); ++i) {
      before.swap(previous);
      previous.swap(row);
      row[0] = i;
      for (std::size_t j = 1; j <= n; ++j) {
        const std::size_t replaced = previous[j - 1] + (name[i - 1] == candidate[j - 1] ? 0 : 1);
        row[j] = std::min({previous[j] + 1, row[j - 1] + 1, replaced});
        if (i > 1 && j > 1 && name[i - 1] == candidate[j - 2] && name[i - 2] == candidate[j - 1]) {
          row[j] = std::min(row[j], before[j - 2] + 1);
        }
      }
    }
    if (row[n] < best_distance) {
      best_distance = row[n];
      best = candidate;
    }
  }
  // An abbreviation is far by edits and near by meaning.
  if (best.empty() && name.size() >= 2) {
    for (const std::string& candidate : candidates) {
      if (candidate.find(name) != std::string::npos) return candidate;
    }
  }
  return best;
}

std::string printable(std::string_view text, std::size_t most) {
  std::string out;
  const std::string_view shown = text.substr(0, most);
  for (std::size_t i = 0; i < shown.size();) {
    const auto byte = static_cast<unsigned char>(shown[i]);
    const std::size_t length = character_length(shown.substr(i));
    if (length > 0 && byte >= 0x20 && byte != 0x7f) {
      out.append(shown.substr(i, length));
      i += length;
    } else {
      if (text.size() > most && i + 4 > most) break;  // cut within a character
      out += fmt::format("\\x{:02x}", byte);
      ++i;
    }
  }
  return text.size() > most ? out + "..." : out;
}

std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = character_length(text.substr(i));
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool parse_number(std::string_view text, double& value) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec == std::errc::result_out_of_range) {
    value = std::numeric_limits<double>::infinity();
    return result.ptr == end;
  }
  return result.ec == std::errc() && result.ptr == end;
}

}  // namespace parsimony
