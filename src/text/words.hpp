// Text into words, as BERT's BasicTokenizer does it: control characters go, ideographs stand alone,
// white space separates, then lower case and accents, then every punctuation sign is a word of its
// own. Stretches of ASCII take a loop over a table; only the others are decoded.
#pragma once

#include <parsimony/tokenizer.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode.hpp"

namespace parsimony::text {

/// Buffers that are reused from word to word.
struct WordScratch {
  std::string word;  // of the ASCII loop
  // Of the others: the words' bytes one after the other, their ends and their characters.
  struct End {
    std::size_t byte, characters;
  };
  std::string bytes;
  std::vector<End> ends;
  CodePoints token, buffer;
};

class WordSplitter {
 public:
  explicit WordSplitter(const WordPieceOptions& options);

  /// Calls on_word(std::string_view word, std::size_t characters) for each word, none empty.
  /// @throws ValueError "tokenize: byte N: expected UTF-8", N counted from 1, `origin` bytes
  /// before.
  template <class OnWord>
  void split(std::string_view text, std::size_t origin, WordScratch& scratch,
             OnWord&& on_word) const {
    std::size_t at = 0;
    while (at < text.size()) {
      if (is_space(text[at])) {
        ++at;
        continue;
      }
      const std::size_t begin = at;
      unsigned char any = 0;
      while (at < text.size() && !is_space(text[at])) any |= static_cast<unsigned char>(text[at++]);
      const std::string_view stretch = text.substr(begin, at - begin);
      if (any < 0x80) {
        split_ascii(stretch, scratch, on_word);
        continue;
      }
      split_unicode(stretch, origin + begin, scratch);
      std::size_t from = 0;
      for (const auto& end : scratch.ends) {
        on_word(std::string_view(scratch.bytes).substr(from, end.byte - from), end.characters);
        from = end.byte;
      }
    }
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

  template <class OnWord>
  void split_ascii(std::string_view stretch, WordScratch& scratch, OnWord&& on_word) const {
    if (scratch.word.size() < stretch.size()) scratch.word.resize(stretch.size());
    char* const word = scratch.word.data();
    std::size_t n = 0;
    for (const char c : stretch) {
      const unsigned char mapped = ascii_[static_cast<unsigned char>(c)];
      if (mapped < punctuation) {
        word[n++] = static_cast<char>(mapped);
      } else if (mapped == punctuation) {
        if (n > 0) on_word(std::string_view(word, n), n);
        on_word(std::string_view(&c, 1), 1);
        n = 0;
      }
    }
    if (n > 0) on_word(std::string_view(word, n), n);
  }

  void split_unicode(std::string_view stretch, std::size_t origin, WordScratch& scratch) const;
  void end_token(WordScratch& scratch) const;

  // What becomes of an ASCII character: itself or its lower case, or one of these.
  static constexpr unsigned char punctuation = 0x80, dropped = 0x81;
  std::array<unsigned char, 128> ascii_{};
  bool lower_case_, strip_accents_, tokenize_cjk_;
};

}  // namespace parsimony::text
