#include "text/pair_merges.hpp"

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

namespace parsimony::text {

namespace {

using Id = PairMerges::Id;

std::uint64_t pair_key(Id left, Id right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

struct Candidate {
  std::int64_t count;
  Id left, right;
  bool operator<(const Candidate& other) const {  // the greatest is merged first
    return std::tie(count, other.left, other.right) < std::tie(other.count, left, right);
  }
};

}  // namespace

void PairMerges::add_word(const std::vector<Id>& pieces, std::int64_t count) {
  words_.push_back({pieces_.size(), static_cast<std::uint32_t>(pieces.size()), count});
  pieces_.insert(pieces_.end(), pieces.begin(), pieces.end());
}

/// Adds the word's pairs `times` over; negative takes them away.
void PairMerges::count_pairs(const Word& word, std::int64_t times) {
  const Id* p = pieces_.data() + word.begin;
  for (std::uint32_t i = 0; i + 1 < word.size; ++i) {
    pairs_[pair_key(p[i], p[i + 1])].count += times * word.count;
  }
}

/// Replaces left, right by merged, from the left; false if the word does not have them.
bool PairMerges::merge_in(Word& word, Id left, Id right, Id merged) {
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

void PairMerges::run(std::int64_t lowest, const std::function<Id(Id, Id)>& join,
                     const std::function<bool()>& more) {
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

  std::vector<std::uint64_t> grown;
  while (more() && !heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    PairState& state = pairs_[pair_key(best.left, best.right)];
    if (state.count != best.count) {
      if (state.count >= lowest) heap.push({state.count, best.left, best.right});
      continue;
    }
    if (best.count < lowest) break;
    const Id merged = join(best.left, best.right);
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

}  // namespace parsimony::text
