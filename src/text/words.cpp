// The part of the word splitter that decodes; see words.hpp.
#include "text/words.hpp"

#include <parsimony/error.hpp>

#include <fmt/format.h>

namespace parsimony::text {

WordSplitter::WordSplitter(const WordPieceOptions& options)
    : lower_case_(options.lower_case),
      strip_accents_(options.strip_accents.value_or(options.lower_case)),
      tokenize_cjk_(options.tokenize_cjk) {
  for (unsigned char c = 0; c < 128; ++c) {
    const bool upper = c >= 'A' && c <= 'Z';
    ascii_[c] = is_punctuation(c)                     ? punctuation
                : char_class(c) == CharClass::dropped ? dropped
                : lower_case_ && upper                ? static_cast<unsigned char>(c - 'A' + 'a')
                                                      : c;
  }
}

void WordSplitter::split_unicode(std::string_view stretch, std::size_t origin,
                                 WordScratch& scratch) const {
  scratch.bytes.clear();
  scratch.ends.clear();
  scratch.token.clear();
  for (std::size_t at = 0; at < stretch.size();) {
    const std::int32_t c = decode(stretch, at);
    if (c < 0) {
      throw ValueError(fmt::format("tokenize: byte {}: expected UTF-8; got 0x{:02X}",
                                   origin + at + 1, static_cast<unsigned char>(stretch[at])));
    }
    switch (char_class(c)) {
      case CharClass::dropped:
        break;
      case CharClass::space:
        end_token(scratch);
        break;
      case CharClass::ideograph:
        if (tokenize_cjk_) end_token(scratch);
        scratch.token.push_back(c);
        if (tokenize_cjk_) end_token(scratch);
        break;
      case CharClass::letter:
        scratch.token.push_back(c);
        break;
    }
  }
  end_token(scratch);
}

void WordSplitter::end_token(WordScratch& s) const {
  if (s.token.empty()) return;
  if (lower_case_) to_lower(s.token, s.buffer);
  if (strip_accents_) text::strip_accents(s.token, s.buffer);
  std::size_t characters = 0;
  const auto end_word = [&] {
    if (characters > 0) s.ends.push_back({s.bytes.size(), characters});
    characters = 0;
  };
  for (const std::int32_t c : s.token) {
    const bool alone = is_punctuation(c);
    if (alone) end_word();
    append_utf8(c, s.bytes);
    ++characters;
    if (alone) end_word();
  }
  end_word();
  s.token.clear();
}

}  // namespace parsimony::text
