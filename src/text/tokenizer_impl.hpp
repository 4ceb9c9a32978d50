// What a WordPieceTokenizer holds, and the check of a vocabulary that its two doors share.
#pragma once

#include <parsimony/tokenizer.hpp>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "text/specials.hpp"
#include "text/word_trie.hpp"
#include "text/words.hpp"

namespace parsimony {

namespace text {

/// Calls fail(entry or -1, message) on the first fault; `unit` is what an entry is called.
void check_vocabulary(const std::vector<std::string>& tokens, std::string_view unit,
                      const std::function<void(index_t entry, const std::string& message)>& fail);

/// @throws ValueError unless the sizes are positive (or 0 for none).
void check_options(const WordPieceOptions& options);

}  // namespace text

struct WordPieceTokenizer::Impl {
  Impl(std::vector<std::string> vocabulary, const WordPieceOptions& settings);

  std::vector<std::string> tokens;
  WordPieceOptions options;
  text::WordTrie trie;
  text::WordSplitter splitter;
  text::Specials specials;
  std::array<std::int32_t, 5> special{};
  std::vector<std::int32_t> taken_out;  // ids of what `specials` finds
};

}  // namespace parsimony
