// Byte-level vocabularies learned from text.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "text/bpe_impl.hpp"
#include "text/pair_merges.hpp"

namespace parsimony {

BpeTokenizer train_bpe(const std::vector<std::string>& files, index_t size, index_t min_frequency) {
  constexpr index_t least = 257;
  if (size < least || min_frequency < 1) {
    throw ValueError(fmt::format(
        "train_bpe: expected a size of {} or more, for every byte and the end of a text, and a "
        "frequency of 1 or more; got {} and {}",
        least, size, min_frequency));
  }
  std::map<std::string, std::int64_t> words;  // ordered: the result must not depend on a hash
  for (const std::string& path : files) {
    const std::string text = read_text(path);
    for (const std::string_view word : bpe_words(text)) ++words[std::string(word)];
  }
  // As GPT-2's: bytes that stand for themselves first.
  std::vector<std::string> tokens(text::byte_characters().begin(), text::byte_characters().end());
  std::sort(tokens.begin(), tokens.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  std::map<std::string, std::int32_t> ids;
  for (std::size_t i = 0; i < tokens.size(); ++i) ids[tokens[i]] = static_cast<std::int32_t>(i);

  text::PairMerges learned;
  std::vector<std::int32_t> pieces;
  for (const auto& [word, count] : words) {
    pieces.clear();
    for (const char c : word) {
      pieces.push_back(ids.at(text::byte_characters()[static_cast<unsigned char>(c)]));
    }
    learned.add_word(pieces, count);
  }
  std::vector<std::pair<std::string, std::string>> merges;
  std::set<std::pair<std::int32_t, std::int32_t>> known;
  learned.run(
      min_frequency,
      [&](std::int32_t left, std::int32_t right) {
        const std::string& first = tokens[static_cast<std::size_t>(left)];
        const std::string& second = tokens[static_cast<std::size_t>(right)];
        // Pieces that were found in two ways may make a pair appear again.
        if (known.emplace(left, right).second) merges.emplace_back(first, second);
        const std::string whole = first + second;
        const auto [at, is_new] = ids.emplace(whole, static_cast<std::int32_t>(tokens.size()));
        if (is_new) tokens.push_back(whole);
        return at->second;
      },
      [&] { return static_cast<index_t>(tokens.size()) + 1 < size; });
  const std::string end = "<|endoftext|>";
  if (ids.count(end) == 0) tokens.push_back(end);
  return BpeTokenizer(tokens, merges, {end}, end);
}

}  // namespace parsimony
