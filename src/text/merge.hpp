// Byte-pair encoding's step: neighbours that join into a known piece are joined, the pair of the
// highest priority first and of equal ones the leftmost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <vector>

namespace parsimony::text {

/// What two neighbours become: nothing if merged < 0.
struct Joined {
  double priority = 0;
  std::int32_t merged = -1;
};

/// Joins in place; `find(left, right)` gives a Joined. O(n log n), and without allocation for the
/// few pieces of an ordinary word.
template <class Find>
void join_neighbours(std::vector<std::int32_t>& pieces, Find&& find) {
  constexpr std::size_t few = 24;
  while (pieces.size() <= few) {
    Joined best;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
      const Joined j = find(pieces[i], pieces[i + 1]);
      if (j.merged >= 0 && (best.merged < 0 || j.priority > best.priority)) {
        best = j;
        at = i;
      }
    }
    if (best.merged < 0) return;
    pieces[at] = best.merged;
    pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  // The same with a heap of pairs; one that is out of date is told by its pieces.
  struct Candidate {
    double priority;
    std::size_t at;
    std::int32_t left, right, merged;
    bool operator<(const Candidate& o) const {
      return priority != o.priority ? priority < o.priority : at > o.at;
    }
  };
  const std::size_t n = pieces.size();
  std::vector<std::size_t> next(n), before(n);
  std::priority_queue<Candidate> heap;
  const auto offer = [&](std::size_t i) {
    if (i >= n || next[i] >= n) return;
    const Joined j = find(pieces[i], pieces[next[i]]);
    if (j.merged >= 0) heap.push({j.priority, i, pieces[i], pieces[next[i]], j.merged});
  };
  for (std::size_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    before[i] = i == 0 ? n : i - 1;
  }
  for (std::size_t i = 0; i < n; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    const std::size_t right = pieces[c.at] == c.left ? next[c.at] : n;
    if (right >= n || pieces[right] != c.right) continue;
    pieces[c.at] = c.merged;
    pieces[right] = -1;
    next[c.at] = next[right];
    if (next[right] < n) before[next[right]] = c.at;
    if (before[c.at] < n) offer(before[c.at]);
    offer(c.at);
  }
  std::size_t to = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (pieces[i] >= 0) pieces[to++] = pieces[i];
  }
  pieces.resize(to);
}

}  // namespace parsimony::text
