// BERT's tokenizer: text is cleaned and split into words, words into the longest pieces that the
// vocabulary has (WordPiece). Ids are those of BERT's own Python tokenizer for the same vocabulary;
// docs/tokenizer.md says where Hugging Face's two implementations differ from each other and which
// one this follows.
#pragma once

#include <parsimony/tensor.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony {

/// The input of a model: ids with [CLS] and [SEP] in place, 0 or 1 for the first or second text.
struct Encoding {
  std::vector<std::int32_t> ids, type_ids;
};

/// How words are made; the names in tokenizer_config.json are given.
struct WordPieceOptions {
  bool lower_case = true;             ///< do_lower_case
  std::optional<bool> strip_accents;  ///< strip_accents; unset: as lower_case
  bool tokenize_cjk = true;           ///< tokenize_chinese_chars: every ideograph is a word
  index_t max_word_characters = 100;  ///< longer words become [UNK]
  index_t model_max_length = 512;     ///< model_max_length: only kept and saved; 0 = none
};

/// Copies share the vocabulary; every function may be called from several threads at once.
class WordPieceTokenizer {
 public:
  /// Token i of `vocabulary` gets id i. @throws ValueError if it is empty, repeats a token, has an
  /// empty one or one that is not UTF-8, or lacks [PAD], [UNK], [CLS], [SEP] or [MASK].
  explicit WordPieceTokenizer(std::vector<std::string> vocabulary,
                              const WordPieceOptions& options = {});

  /// Reads a model folder (vocab.txt and, if there, tokenizer_config.json, whose settings replace
  /// `defaults`) or a vocabulary file with one token a line.
  /// @throws InputError naming file and line.
  static WordPieceTokenizer load(const std::string& path, const WordPieceOptions& defaults = {});

  /// Writes DIR/vocab.txt and DIR/tokenizer_config.json, each whole or not at all, as
  /// `transformers` reads them. @throws IoError.
  void save(const std::string& folder) const;

  /// The pieces of a text; no [CLS], no [SEP]. Special tokens written in the text, such as [MASK],
  /// are themselves, wherever they stand and in this spelling only.
  /// @throws ValueError naming the byte if the text is not UTF-8, as all functions that take text.
  std::vector<std::string> tokenize(std::string_view text) const;
  /// The same as ids.
  std::vector<std::int32_t> ids(std::string_view text) const;
  /// The same, appended to `out`: no allocation where `out` has room.
  void append_ids(std::string_view text, std::vector<std::int32_t>& out) const;

  /// [CLS] text [SEP], or [CLS] text [SEP] second [SEP] with type 1 for the second part. With
  /// `max_length` > 0 the result has at most so many ids: what is too much leaves the end of the
  /// longer text, one id at a time, and of the second where they are equally long.
  /// @throws ValueError if `max_length` has no room for [CLS] and [SEP].
  Encoding encode(std::string_view text, std::optional<std::string_view> second = {},
                  index_t max_length = 0) const;

  /// The tokens joined: "##" pieces without a blank, all others with one. Nothing else is undone.
  /// @throws ValueError on an id outside the vocabulary.
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special = true) const;

  index_t size() const;
  /// @throws ValueError unless 0 <= id < size().
  const std::string& token(index_t id) const;
  /// The id of a token, unk_id() if the vocabulary has none such.
  std::int32_t id(std::string_view token) const;
  bool contains(std::string_view token) const;
  const std::vector<std::string>& vocabulary() const;
  const WordPieceOptions& options() const;

  std::int32_t pad_id() const;
  std::int32_t unk_id() const;
  std::int32_t cls_id() const;
  std::int32_t sep_id() const;
  std::int32_t mask_id() const;
  /// True for the five above.
  bool is_special(index_t id) const;

 private:
  struct Impl;
  explicit WordPieceTokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Cuts two lists of ids to `room` in all, by the rule of WordPieceTokenizer::encode.
void truncate_pair(std::vector<std::int32_t>& first, std::vector<std::int32_t>& second,
                   index_t room);

/// Version of the Unicode tables that classes, lower case and accents come from, as "15.0.0".
std::string unicode_version();

}  // namespace parsimony
