// GPT-2's tokenizer: text is cut into words by a regular expression over Unicode, and the bytes of
// each word are joined into pieces by byte-pair encoding (Radford et al. 2019). Every text has ids.
#pragma once

#include <parsimony/tokenizer.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// Copies share the vocabulary.
class BpeTokenizer : public Tokenizer {
 public:
  /// A token and its id are written as vocab.json does: bytes that are no printable character as
  /// one from U+0100 on. Merges in the order of their rank. `specials` are tokens of the vocabulary
  /// that are found in text before anything else; the one of the end, also of the beginning, is
  /// `end` ("": none).
  /// @throws ValueError unless every byte has a token, every merge is of tokens and makes one, and
  /// specials and `end` are tokens.
  BpeTokenizer(const std::vector<std::string>& vocabulary,
               const std::vector<std::pair<std::string, std::string>>& merges,
               const std::vector<std::string>& specials, const std::string& end);

  /// Reads vocab.json, merges.txt and, if they are there, added_tokens.json and the special tokens
  /// of tokenizer_config.json. @throws InputError naming the file, and the line of a merge that the
  /// vocabulary does not have: files that disagree.
  static BpeTokenizer load(const std::string& folder);
  void save(const std::string& folder) const override;

  void append_ids(std::string_view text, std::vector<std::int32_t>& out) const override;
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special = true) const override;
  index_t size() const override;
  const std::string& token(index_t id) const override;
  std::int32_t bos_id() const override { return eos_id(); }
  std::int32_t eos_id() const override;
  bool is_special(index_t id) const override;

 private:
  struct Impl;
  explicit BpeTokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// The words of a text, as GPT-2's regular expression finds them: contractions, letters, digits and
/// other signs, each with a blank before it, and white space. They are all of the text.
std::vector<std::string_view> bpe_words(std::string_view text);

/// Learns a vocabulary: the 256 bytes, then the pairs that occur most often, then "<|endoftext|>".
/// Of pairs that occur equally often the one with the smaller ids comes first.
/// @throws InputError on a file that is missing or not UTF-8, naming the line; ValueError on a size
/// below 257.
BpeTokenizer train_bpe(const std::vector<std::string>& files, index_t size,
                       index_t min_frequency = 2);

}  // namespace parsimony
