// What a BpeTokenizer holds.
#pragma once

#include <parsimony/bpe.hpp>

#include <array>
#include <functional>
#include <unordered_map>

namespace parsimony {

namespace text {

/// The character that stands for each byte in vocab.json and merges.txt.
const std::array<std::string, 256>& byte_characters();

}  // namespace text

struct BpeTokenizer::Impl {
  /// Called with the merge (or -1) and what is wrong; throws.
  using Fail = std::function<void(index_t merge, const std::string& what)>;
  Impl(std::vector<std::string> vocabulary,
       const std::vector<std::pair<std::string, std::string>>& merges,
       const std::vector<std::string>& special_tokens, const std::string& end_token,
       const Fail& fail);

  std::vector<std::string> tokens, bytes;
  std::vector<std::pair<std::string, std::string>> merge_texts;
  std::unordered_map<std::string, std::int32_t> ids;
  std::array<std::int32_t, 256> byte_ids{};
  std::unordered_map<std::uint64_t, std::pair<std::int32_t, std::int32_t>> joins;  // rank, merged
  std::vector<std::pair<std::string, std::int32_t>> specials;
  std::int32_t end = -1;
};

}  // namespace parsimony
