// Builds the tree of a vocabulary; see word_trie.hpp.
#include "text/word_trie.hpp"

#include <parsimony/error.hpp>

#include <algorithm>

namespace parsimony::text {

WordTrie::WordTrie(const std::vector<std::string>& tokens) {
  std::size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  if (bytes >= std::size_t{1} << 24) {  // a node's number and a byte share 32 bits
    throw ValueError("vocabulary: more than 16 MiB of tokens");
  }
  // Table for every byte an edge of its own at most, half full at most. (Shared prefixes make it
  // emptier; once all edges are known it shrinks.)
  const auto allocate = [this](std::size_t edges) {
    unsigned bits = 4;
    while (std::size_t{1} << bits < 2 * edges) ++bits;
    edges_.assign(std::size_t{1} << bits, Edge{0, 0, -1});
    mask_ = edges_.size() - 1;
    shift_ = 32 - bits;
  };
  const auto insert = [this](std::uint32_t key) -> Edge& {
    std::size_t i = slot(key);
    while (edges_[i].node != 0 && edges_[i].key != key) i = (i + 1) & mask_;
    return edges_[i];
  };
  allocate(bytes);
  std::uint32_t nodes = 2;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const bool continues = is_continuation(tokens[t]);
    std::uint32_t node = continues ? 1 : 0;
    Edge* edge = nullptr;
    for (std::size_t i = continues ? 2 : 0; i < tokens[t].size(); ++i) {
      const std::uint32_t key = node << 8 | static_cast<unsigned char>(tokens[t][i]);
      edge = &insert(key);
      if (edge->node == 0) *edge = {key, nodes++, -1};
      node = edge->node;
    }
    if (edge != nullptr) edge->token = static_cast<std::int32_t>(t);
  }
  const std::vector<Edge> all = std::move(edges_);
  allocate(nodes);
  for (const Edge& edge : all) {
    if (edge.node != 0) insert(edge.key) = edge;
  }
}

std::int32_t WordTrie::exact(std::string_view token) const {
  const bool continues = is_continuation(token);
  const std::string_view rest = continues ? token.substr(2) : token;
  const Match match = longest(rest, continues);
  return !rest.empty() && match.length == rest.size() ? match.id : -1;
}

}  // namespace parsimony::text
