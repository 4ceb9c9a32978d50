// WordPiece vocabularies: characters, then what byte-pair merges join them into (pair_merges.hpp).
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <cstddef>
#include <unordered_map>

#include <fmt/format.h>

#include "text/pair_merges.hpp"
#include "text/unicode.hpp"

namespace parsimony {

namespace {

using Id = std::int32_t;

class Trainer {
 public:
  explicit Trainer(const VocabularyOptions& options) : options_(options) {
    for (const std::string& token : options.special_tokens) {
      if (ids_.count(token) > 0 || token.empty()) {
        throw ValueError(fmt::format(
            "train_wordpiece: special tokens must differ and have characters; got '{}'", token));
      }
      add_token(token);
    }
  }

  void take(const std::vector<WordCount>& words);
  void merge_pairs();
  std::vector<std::string> vocabulary() && { return std::move(tokens_); }

 private:
  Id add_token(const std::string& token) {
    const auto [at, is_new] = ids_.emplace(token, static_cast<Id>(tokens_.size()));
    if (is_new) tokens_.push_back(token);
    return at->second;
  }
  std::vector<std::int32_t> alphabet(
      const std::unordered_map<std::int32_t, std::int64_t>& counts) const;

  const VocabularyOptions& options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Id> ids_;
  text::PairMerges merges_;
};

/// The most frequent characters, by code point.
std::vector<std::int32_t> Trainer::alphabet(
    const std::unordered_map<std::int32_t, std::int64_t>& counts) const {
  std::vector<std::pair<std::int64_t, std::int32_t>> order;
  for (const auto& [c, count] : counts) order.emplace_back(-count, c);
  std::sort(order.begin(), order.end());
  const auto limit = static_cast<std::size_t>(options_.alphabet_limit);
  if (order.size() > limit) order.resize(limit);
  std::vector<std::int32_t> kept;
  for (const auto& entry : order) kept.push_back(entry.second);
  std::sort(kept.begin(), kept.end());
  return kept;
}

void Trainer::take(const std::vector<WordCount>& words) {
  std::unordered_map<std::int32_t, std::int64_t> counts;
  for (const auto& [word, count] : words) {
    if (word.empty() || count < 1 || find_invalid_utf8(word) != std::string_view::npos) {
      throw ValueError(fmt::format(
          "train_wordpiece: expected words in UTF-8 with counts of 1 or more; got a word of {} "
          "bytes{} with count {}",
          word.size(), find_invalid_utf8(word) != std::string_view::npos ? ", not UTF-8," : "",
          count));
    }
    for (std::size_t at = 0; at < word.size();) counts[text::decode(word, at)] += count;
  }
  if (counts.empty()) throw ValueError("train_wordpiece: there are no words; is the text empty?");

  struct Ids {
    Id first = -1, continuing = -1;
  };
  std::unordered_map<std::int32_t, Ids> characters;
  const std::vector<std::int32_t> kept = alphabet(counts);
  const auto text_of = [](std::int32_t c) {
    std::string bytes;
    text::append_utf8(c, bytes);
    return bytes;
  };
  for (const std::int32_t c : kept) characters[c].first = add_token(text_of(c));

  // Words as characters; first only where they continue words, to number those by code point.
  const auto usable = [&](const std::string& word) {
    for (std::size_t at = 0; at < word.size();) {
      if (characters.find(text::decode(word, at)) == characters.end()) return false;
    }
    return true;
  };
  std::vector<const WordCount*> usable_words;
  std::unordered_map<std::int32_t, bool> continues;
  for (const WordCount& word : words) {
    if (!usable(word.first)) continue;
    usable_words.push_back(&word);
    std::size_t at = 0;
    text::decode(word.first, at);
    while (at < word.first.size()) continues[text::decode(word.first, at)] = true;
  }
  for (const std::int32_t c : kept) {
    if (continues.count(c) > 0) characters[c].continuing = add_token("##" + text_of(c));
  }
  if (static_cast<index_t>(tokens_.size()) > options_.size) {
    throw ValueError(fmt::format(
        "train_wordpiece: size: special tokens and single characters alone are {} tokens; got size "
        "{}; hint: a larger size, or an alphabet_limit below {}",
        tokens_.size(), options_.size, kept.size()));
  }
  for (const WordCount* word : usable_words) {
    std::vector<Id> pieces;
    for (std::size_t at = 0; at < word->first.size();) {
      const bool first = at == 0;
      const Ids& ids = characters[text::decode(word->first, at)];
      pieces.push_back(first ? ids.first : ids.continuing);
    }
    merges_.add_word(pieces, word->second);
  }
}

void Trainer::merge_pairs() {
  merges_.run(
      std::max<std::int64_t>(options_.min_frequency, 1),
      [this](Id left, Id right) {
        const std::string& tail = tokens_[static_cast<std::size_t>(right)];
        return add_token(tokens_[static_cast<std::size_t>(left)] + tail.substr(2));
      },
      [this] { return static_cast<index_t>(tokens_.size()) < options_.size; });
}

}  // namespace

std::vector<std::string> train_wordpiece(const std::vector<WordCount>& words,
                                         const VocabularyOptions& options) {
  if (options.size < 1 || options.alphabet_limit < 1 || options.min_frequency < 1) {
    throw ValueError(fmt::format(
        "train_wordpiece: expected size, min_frequency and alphabet_limit of 1 or more; "
        "got {}, {} and {}",
        options.size, options.min_frequency, options.alphabet_limit));
  }
  Trainer trainer(options);
  trainer.take(words);
  trainer.merge_pairs();
  return std::move(trainer).vocabulary();
}

std::vector<std::string> train_wordpiece(const std::vector<std::string>& files,
                                         const VocabularyOptions& options,
                                         const WordPieceOptions& words) {
  return train_wordpiece(count_words(files, words), options);
}

}  // namespace parsimony
