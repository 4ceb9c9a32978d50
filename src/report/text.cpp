// Escaping, wrapping and measuring text; see text.hpp.
#include "report/text.hpp"

#include <algorithm>
#include <cstdint>

namespace parsimony::text {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

struct Decoded {
  std::uint32_t code = 0;
  std::size_t length = 1;
  bool valid = false;
};

// The character at s[at]; an invalid byte is a character of length 1.
Decoded decode(std::string_view s, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned first = byte(at);
  if (first < 0x80) return {first, 1, true};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > s.size()) return {};
  std::uint32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0u) != 0x80u) return {};
    code = code << 6 | (byte(at + i) & 0x3Fu);
  }
  // Overlong forms, surrogates and numbers beyond Unicode are not UTF-8.
  const std::uint32_t least = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
  if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return {};
  return {code, length, true};
}

struct Range {
  std::uint32_t first, last;
};
bool within(std::uint32_t code, const Range* ranges, std::size_t count) {
  return std::any_of(ranges, ranges + count,
                     [&](const Range& r) { return code >= r.first && code <= r.last; });
}
// The blocks that matter in practice (Unicode 15, UAX #11 and general category Mn).
constexpr Range zero_width[] = {{0x300, 0x36F},   {0x483, 0x489},   {0x591, 0x5BD},
                                {0x610, 0x61A},   {0x64B, 0x65F},   {0x200B, 0x200F},
                                {0x20D0, 0x20F0}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}};
constexpr Range double_width[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
                                  {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
                                  {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F},
                                  {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};

int char_width(std::uint32_t code) {
  if (within(code, zero_width, std::size(zero_width))) return 0;
  return within(code, double_width, std::size(double_width)) ? 2 : 1;
}

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

}  // namespace

std::string clean(std::string_view s, bool keep_newlines) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size();) {
    const Decoded d = decode(s, i);
    if (!d.valid) {
      out += replacement;
    } else if (d.code == '\n' && keep_newlines) {
      out += '\n';
    } else if (d.code < 0x20 || (d.code >= 0x7F && d.code < 0xA0)) {
      out += ' ';
    } else {
      out += s.substr(i, d.length);
    }
    i += d.length;
  }
  return out;
}

int display_width(std::string_view s) {
  int width = 0;
  for (std::size_t i = 0; i < s.size();) {
    const Decoded d = decode(s, i);
    width += d.valid ? char_width(d.code) : 1;
    i += d.length;
  }
  return width;
}

std::vector<std::string> wrap(std::string_view text, int width) {
  const std::string s = clean(text);
  width = std::max(width, 1);
  std::vector<std::string> lines(1);
  int used = 0;
  const auto new_line = [&] {
    lines.emplace_back();
    used = 0;
  };
  for (std::size_t at = 0; at < s.size();) {
    if (s[at] == ' ') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(s.find(' ', at), s.size());
    const std::string_view word = std::string_view(s).substr(at, end - at);
    const int length = display_width(word);
    if (used > 0 && used + 1 + length > width) new_line();
    if (used > 0) {
      lines.back() += ' ';
      ++used;
    }
    for (std::size_t i = 0; i < word.size();) {
      const Decoded d = decode(word, i);
      const int w = char_width(d.code);
      if (used > 0 && used + w > width) new_line();
      lines.back() += word.substr(i, d.length);
      used += w;
      i += d.length;
    }
    at = end;
  }
  return lines;
}

std::string html(std::string_view s) {
  std::string out;
  for (const char c : clean(s, true)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string link(std::string_view path) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    if (is_unreserved(c) || c == '/') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

std::string gnuplot(std::string_view s) {
  std::string out = "'";
  for (const char c : clean(s)) {
    if (c == '\'') out += '\'';
    out += c;
  }
  return out + "'";
}

std::string json_message(std::string_view what) {
  const std::size_t end = what.find("] ");
  const bool numbered = what.substr(0, 1) == "[" && end != std::string_view::npos;
  return std::string(numbered ? what.substr(end + 2) : what);
}

std::string base64(std::string_view bytes) {
  constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= left ? letters[group >> (18 - 6 * k) & 63u] : '=';
    }
  }
  return out;
}

}  // namespace parsimony::text
