// Byte-pair merges over counted words: the pair of neighbouring pieces that occurs most often
// becomes a piece, again and again; of equally frequent pairs the one whose left piece has the
// smaller id, then the one whose right piece has.
//
// The counts of pairs are kept up to date word by word, and a heap offers the most frequent pair.
// An entry of the heap may be out of date, since counts fall unnoticed; it is then put back with
// the count of today. Every pair has an entry at least as high as its count, so what leaves the
// heap with the right count is the best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

namespace parsimony::text {

class PairMerges {
 public:
  using Id = std::int32_t;
  /// A word as pieces, and how often it occurs.
  void add_word(const std::vector<Id>& pieces, std::int64_t count);
  /// Merges while `more()` and a pair occurs `lowest` times; `join(left, right)` names the new
  /// piece.
  void run(std::int64_t lowest, const std::function<Id(Id left, Id right)>& join,
           const std::function<bool()>& more);

 private:
  /// `size` pieces from `begin` in one long list.
  struct Word {
    std::size_t begin;
    std::uint32_t size;
    std::int64_t count;
  };
  struct PairState {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // that had it once; some twice, some no longer
  };
  struct PairHash {
    std::size_t operator()(std::uint64_t key) const {
      return static_cast<std::size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15ULL);
    }
  };
  void count_pairs(const Word& word, std::int64_t times);
  bool merge_in(Word& word, Id left, Id right, Id merged);

  std::vector<Id> pieces_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, PairState, PairHash> pairs_;
};

}  // namespace parsimony::text
