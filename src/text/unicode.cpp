// Unicode for the tokenizer; see unicode.hpp.
#include "text/unicode.hpp"

#include <parsimony/tokenizer.hpp>

#include <algorithm>
#include <utility>

#include <utf8proc.h>

namespace parsimony {

std::string unicode_version() { return utf8proc_unicode_version(); }

namespace text {

namespace {

constexpr std::int32_t capital_sigma = 0x3A3, small_sigma = 0x3C3, final_sigma = 0x3C2;

struct Range {
  std::int32_t first, last;
};

template <std::size_t n>
bool in_ranges(std::int32_t c, const Range (&ranges)[n]) {
  return std::any_of(ranges, ranges + n,
                     [c](const Range& r) { return c >= r.first && c <= r.last; });
}

bool is_ideograph(std::int32_t c) {
  static constexpr Range blocks[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                     {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                     {0x2B820, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  return c >= 0x3400 && in_ranges(c, blocks);
}

// Unicode's Case_Ignorable: characters that do not part a sigma from the letters around it.
bool is_case_ignorable(std::int32_t c) {
  static constexpr Range marks[] = {
      {0x27, 0x27},     {0x2E, 0x2E},     {0x3A, 0x3A},     {0xB7, 0xB7},
      {0x387, 0x387},   {0x55F, 0x55F},   {0x5F4, 0x5F4},   {0x2018, 0x2019},
      {0x2024, 0x2024}, {0x2027, 0x2027}, {0xFE13, 0xFE13}, {0xFE52, 0xFE52},
      {0xFE55, 0xFE55}, {0xFF07, 0xFF07}, {0xFF0E, 0xFF0E}, {0xFF1A, 0xFF1A}};
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return in_ranges(c, marks);
  }
}

// Unicode's Cased, of characters that are not case-ignorable.
bool is_cased(std::int32_t c) {
  static constexpr Range others[] = {{0xAA, 0xAA},      {0xBA, 0xBA},       {0x2160, 0x217F},
                                     {0x24B6, 0x24E9},  {0x1F130, 0x1F149}, {0x1F150, 0x1F169},
                                     {0x1F170, 0x1F189}};
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
      return true;
    default:
      return in_ranges(c, others);
  }
}

// The nearest characters that count: a cased one before and none after make the sigma final.
bool sigma_is_final(const CodePoints& text, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

}  // namespace

std::int32_t decode(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t left = text.size() - at;
  const std::int32_t first = byte(at);
  if (first < 0x80) {
    ++at;
    return first;
  }
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || left < length) return -1;
  std::int32_t c = first & (0xFF >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const std::int32_t next = byte(at + i);
    if ((next & 0xC0) != 0x80) return -1;
    c = c << 6 | (next & 0x3F);
  }
  const bool overlong = (length == 3 && c < 0x800) || (length == 4 && c < 0x10000);
  if (overlong || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) return -1;
  at += length;
  return c;
}

void append_utf8(std::int32_t c, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n));
}

CharClass char_class(std::int32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return CharClass::space;
  if (c == 0xFFFD) return CharClass::dropped;
  if (is_ideograph(c) && utf8proc_category(c) != UTF8PROC_CATEGORY_CN) return CharClass::ideograph;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return CharClass::dropped;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharClass::space;
    default:
      return CharClass::letter;
  }
}

bool is_letter(std::int32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_number(std::int32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool is_white_space(std::int32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c == 0x85) return true;
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t begin = at;
    if (decode(bytes, at) < 0) {
      out += "\uFFFD";
      ++at;
    } else {
      out.append(bytes.substr(begin, at - begin));
    }
  }
  return out;
}

bool is_punctuation(std::int32_t c) {
  if (c < 0x80) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
  }
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

void to_lower(CodePoints& text, CodePoints& buffer) {
  buffer.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::int32_t c = text[i];
    if (c == capital_sigma) {
      buffer.push_back(sigma_is_final(text, i) ? final_sigma : small_sigma);
    } else if (c == 0x130) {  // İ: i and a dot above
      buffer.push_back('i');
      buffer.push_back(0x307);
    } else {
      buffer.push_back(utf8proc_tolower(c));
    }
  }
  std::swap(text, buffer);
}

void strip_accents(CodePoints& text, CodePoints& buffer) {
  buffer.clear();
  for (const std::int32_t c : text) {
    if (c < 0x80) {
      buffer.push_back(c);
      continue;
    }
    // Four is the longest canonical decomposition there is; room for more costs nothing.
    std::int32_t parts[16];
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 16, UTF8PROC_DECOMPOSE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n; ++i) buffer.push_back(parts[i]);
  }
  // Canonical order; only spacing marks are still there to show it, but some have a class.
  const auto order = [](std::int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (std::size_t i = 0; i < buffer.size();) {
    std::size_t end = i;
    while (end < buffer.size() && buffer[end] >= 0x80 && order(buffer[end]) != 0) ++end;
    if (end > i + 1) {
      std::stable_sort(buffer.begin() + static_cast<std::ptrdiff_t>(i),
                       buffer.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](std::int32_t a, std::int32_t b) { return order(a) < order(b); });
    }
    i = std::max(end, i + 1);
  }
  const auto is_mark = [](std::int32_t c) {
    return c >= 0x80 && utf8proc_category(c) == UTF8PROC_CATEGORY_MN;
  };
  buffer.erase(std::remove_if(buffer.begin(), buffer.end(), is_mark), buffer.end());
  std::swap(text, buffer);
}

}  // namespace text

}  // namespace parsimony
