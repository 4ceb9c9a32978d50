// Learns a WordPiece vocabulary from text: starting from single characters, the pair of
// neighbouring pieces that occurs most often becomes a piece of its own, until the vocabulary is
// full (byte-pair encoding on words, "##" marking what continues a word). The result depends on the
// counts of the words only: neither on their order nor on the machine.
#pragma once

#include <parsimony/tokenizer.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace parsimony {

struct VocabularyOptions {
  index_t size = 8192;        ///< tokens in all, special ones included; fewer if pairs run out
  index_t min_frequency = 2;  ///< a pair must occur so often
  index_t alphabet_limit =
      1000;  ///< characters kept, the most frequent; words with others are left out
  /// First in the vocabulary, in this order. WordPieceTokenizer needs these five.
  std::vector<std::string> special_tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
};

using WordCount = std::pair<std::string, std::int64_t>;

/// Counts the words that a tokenizer with these options makes of text.
class WordCounter {
 public:
  explicit WordCounter(const WordPieceOptions& options = {});
  ~WordCounter();
  WordCounter(WordCounter&&) noexcept;
  WordCounter& operator=(WordCounter&&) noexcept;

  /// @throws ValueError naming the byte if the text is not UTF-8.
  void add(std::string_view text);
  /// Reads in blocks of lines: files may be larger than memory.
  /// @throws InputError naming line and byte if the file cannot be read or is not UTF-8.
  void add_file(const std::string& path);
  /// Every word with its count, in the order of its bytes.
  std::vector<WordCount> words() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The words of text files. @throws InputError as WordCounter::add_file, and naming the files if
/// they have no words.
std::vector<WordCount> count_words(const std::vector<std::string>& files,
                                   const WordPieceOptions& options);

/// The vocabulary: special tokens; characters that the words contain, by code point; "##"
/// characters that continue words, by code point; then merged pieces as they were found. Of two
/// pairs that occur equally often, the one whose left piece has the smaller id is merged first,
/// then the one whose right piece has.
/// @throws ValueError if special tokens and characters alone exceed `size`, on a word that is
/// empty, not UTF-8 or has a count below 1, and if there are no words.
std::vector<std::string> train_wordpiece(const std::vector<WordCount>& words,
                                         const VocabularyOptions& options = {});

/// The same from text files. @throws InputError as count_words.
std::vector<std::string> train_wordpiece(const std::vector<std::string>& files,
                                         const VocabularyOptions& options,
                                         const WordPieceOptions& words);

}  // namespace parsimony
