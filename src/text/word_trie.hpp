// The vocabulary as a tree over bytes with two roots, one for tokens that begin a word and one for
// those that continue it: one walk finds the longest token at a place. All edges are in one hash
// table, so that a step is one look at memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony::text {

class WordTrie {
 public:
  /// Token i has value i. A token that starts with "##" and has more continues words.
  explicit WordTrie(const std::vector<std::string>& tokens);

  struct Match {
    std::int32_t id = -1;  // -1: no token
    std::size_t length = 0;
  };
  /// The longest token that `text` starts with.
  Match longest(std::string_view text, bool continues) const {
    Match match;
    std::uint32_t node = continues ? 1 : 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const Edge* edge = find(node << 8 | static_cast<unsigned char>(text[i]));
      if (edge == nullptr) break;
      node = edge->node;
      if (edge->token >= 0) match = {edge->token, i + 1};
    }
    return match;
  }
  /// The token that is `token`, "##" included; -1 if there is none.
  std::int32_t exact(std::string_view token) const;

 private:
  struct Edge {
    std::uint32_t key;   // parent << 8 | byte
    std::uint32_t node;  // child; 0 where the slot is free, since no edge leads to a root
    std::int32_t token;  // that ends at the child, or -1
  };
  std::size_t slot(std::uint32_t key) const { return key * 0x9E3779B1U >> shift_; }
  const Edge* find(std::uint32_t key) const {
    for (std::size_t i = slot(key);; i = (i + 1) & mask_) {
      if (edges_[i].node == 0) return nullptr;
      if (edges_[i].key == key) return &edges_[i];
    }
  }

  std::vector<Edge> edges_;
  std::size_t mask_ = 0;
  unsigned shift_ = 0;
};

/// True for what continues a word: "##" and something after it.
inline bool is_continuation(std::string_view token) {
  return token.size() > 2 && token[0] == '#' && token[1] == '#';
}

}  // namespace parsimony::text
