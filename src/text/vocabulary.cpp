// Byte-pair merges over counted words; the rule is in vocabulary.hpp. The counts of pairs are kept
// up to date word by word, and a heap offers the most frequent pair. An entry of the heap may be
// out of date, since counts fall unnoticed; it is then put back with the count of today. Every pair
// has an entry at least as high as its count, so what leaves the heap with the right count is the
// best.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <cstddef>
#include <queue>
#include <tuple>
#include <unordered_map>

#include <fmt/format.h>

#include "text/unicode.hpp"

namespace parsimony {

namespace {

using Id = std::int32_t;

std::uint64_t pair_key(Id left, Id right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

struct PairHash {
  std::size_t operator()(std::uint64_t key) const {
    return static_cast<std::size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15ULL);
  }
};

struct PairState {
  std::int64_t count = 0;
  std::vector<std::uint32_t> words;  // that had it once; some twice, some no longer
};

struct Candidate {
  std::int64_t count;
  Id left, right;
  bool operator<(const Candidate& other) const {  // the greatest is merged first
    return std::tie(count, other.left, other.right) < std::tie(other.count, left, right);
  }
};

/// A word as pieces, `size` of them from `begin` in one long list.
struct Word {
  std::size_t begin;
  std::uint32_t size;
  std::int64_t count;
};

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
  void count_pairs(const Word& word, std::int64_t times);
  bool merge_in(Word& word, Id left, Id right, Id merged);

  const VocabularyOptions& options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Id> ids_;
  std::vector<Id> pieces_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, PairState, PairHash> pairs_;
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
    const std::size_t begin = pieces_.size();
    for (std::size_t at = 0; at < word->first.size();) {
      const bool first = at == 0;
      const Ids& ids = characters[text::decode(word->first, at)];
      pieces_.push_back(first ? ids.first : ids.continuing);
    }
    words_.push_back({begin, static_cast<std::uint32_t>(pieces_.size() - begin), word->second});
  }
}

/// Adds the word's pairs `times` over; negative takes them away.
void Trainer::count_pairs(const Word& word, std::int64_t times) {
  const Id* p = pieces_.data() + word.begin;
  for (std::uint32_t i = 0; i + 1 < word.size; ++i) {
    pairs_[pair_key(p[i], p[i + 1])].count += times * word.count;
  }
}

/// Replaces left, right by merged, from the left; false if the word does not have them.
bool Trainer::merge_in(Word& word, Id left, Id right, Id merged) {
  Id* p = pieces_.data() + word.begin;
  std::uint32_t first = 0;
  while (first + 1 < word.size && !(p[first] == left && p[first + 1] == right)) ++first;
  if (first + 1 >= word.size) return false;
  count_pairs(word, -1);
  std::uint32_t to = first;
  for (std::uint32_t from = first; from < word.size; ++to) {
    const bool here = from + 1 < word.size && p[from] == left && p[from + 1] == right;
    p[to] = here ? merged : p[from];
    from += here ? 2 : 1;
  }
  word.size = to;
  count_pairs(word, 1);
  return true;
}

void Trainer::merge_pairs() {
  std::priority_queue<Candidate> heap;
  for (std::size_t w = 0; w < words_.size(); ++w) {
    count_pairs(words_[w], 1);
    const Id* p = pieces_.data() + words_[w].begin;
    for (std::uint32_t i = 0; i + 1 < words_[w].size; ++i) {
      auto& list = pairs_[pair_key(p[i], p[i + 1])].words;
      if (list.empty() || list.back() != w) list.push_back(static_cast<std::uint32_t>(w));
    }
  }
  for (const auto& [key, state] : pairs_) {
    heap.push({state.count, static_cast<Id>(key >> 32), static_cast<Id>(key)});
  }

  const std::int64_t lowest = std::max<std::int64_t>(options_.min_frequency, 1);
  std::vector<std::uint64_t> grown;
  while (static_cast<index_t>(tokens_.size()) < options_.size && !heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    PairState& state = pairs_[pair_key(best.left, best.right)];
    if (state.count != best.count) {
      if (state.count >= lowest) heap.push({state.count, best.left, best.right});
      continue;
    }
    if (best.count < lowest) break;
    const std::string& right = tokens_[static_cast<std::size_t>(best.right)];
    const Id merged = add_token(tokens_[static_cast<std::size_t>(best.left)] + right.substr(2));
    const std::vector<std::uint32_t> words = std::move(state.words);
    state.words.clear();
    grown.clear();
    for (const std::uint32_t w : words) {
      if (!merge_in(words_[w], best.left, best.right, merged)) continue;
      const Id* p = pieces_.data() + words_[w].begin;
      for (std::uint32_t i = 0; i + 1 < words_[w].size; ++i) {
        if (p[i] != merged && p[i + 1] != merged) continue;
        const std::uint64_t key = pair_key(p[i], p[i + 1]);
        auto& list = pairs_[key].words;
        if (list.empty() || list.back() != w) list.push_back(w);
        grown.push_back(key);
      }
    }
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const std::uint64_t key : grown) {
      heap.push({pairs_[key].count, static_cast<Id>(key >> 32), static_cast<Id>(key)});
    }
  }
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
  WordCounter counter(words);
  for (const std::string& file : files) counter.add_file(file);
  return train_wordpiece(counter.words(), options);
}

}  // namespace parsimony
