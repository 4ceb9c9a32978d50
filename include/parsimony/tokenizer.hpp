// Tokenizers: what all of them do, and those that model folders have. BERT's: text is cleaned and
// split into words, words into the longest pieces that the vocabulary has (WordPiece). Ids are
// those of BERT's own Python tokenizer for the same vocabulary; docs/tokenizer.md says where
// Hugging Face's two implementations differ from each other and which one this follows.
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

/// Text to ids and back. Every function may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of a text, no special tokens added, appended to `out`. Special tokens that stand in
  /// the text are themselves. @throws ValueError naming the byte if the text is not UTF-8, as all
  /// functions that take text.
  virtual void append_ids(std::string_view text, std::vector<std::int32_t>& out) const = 0;
  std::vector<std::int32_t> ids(std::string_view text) const;
  /// The input of a model: one text or two, with the special tokens of the family. With
  /// `max_length` > 0 the result has at most so many ids: what is too much leaves the end of the
  /// longer text, one id at a time, and of the second where they are equally long. Here: the token
  /// of the beginning, if the family begins with it, the text and, after a token of the end (or of
  /// the beginning), the second. @throws ValueError if `max_length` has no room for those.
  virtual Encoding encode(std::string_view text, std::optional<std::string_view> second = {},
                          index_t max_length = 0) const;
  /// Text of ids; what is not UTF-8 (a character half written) becomes U+FFFD.
  /// @throws ValueError on an id outside the vocabulary.
  virtual std::string decode(const std::vector<std::int32_t>& ids,
                             bool skip_special = true) const = 0;
  /// Writes the files that load_tokenizer() reads, each whole or not at all. @throws IoError.
  virtual void save(const std::string& folder) const = 0;

  virtual index_t size() const = 0;
  /// As the vocabulary writes it. @throws ValueError unless 0 <= id < size().
  virtual const std::string& token(index_t id) const = 0;
  /// The tokens of the beginning and the end of a text; -1 for none.
  virtual std::int32_t bos_id() const = 0;
  virtual std::int32_t eos_id() const = 0;
  /// What fills a batch; masked, so any id does where the family has none.
  virtual std::int32_t pad_id() const;
  /// True for tokens that stand for no text.
  virtual bool is_special(index_t id) const = 0;
  /// Whether a text to be continued starts with bos_id().
  virtual bool begins_with_bos() const { return false; }
  /// Whether a generated text ends here.
  virtual bool is_end(std::int32_t id) const { return id == eos_id(); }
};

/// The tokenizer of a model folder: vocab.txt (WordPiece), vocab.json and merges.txt (byte-level
/// BPE), tokenizer.model (SentencePiece) or tokenizer.bin (llama2.c).
/// @throws InputError if there is none of them, or what reading it throws.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder);
/// SentencePiece's model file, through Google's library. @throws InputError naming the file; if
/// this build has no SentencePiece.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path);
/// A vocabulary of `size` pieces in llama2.c's format: int32 longest piece, then each piece's score
/// (float32), length (int32) and bytes. The pair of neighbours that joins into the piece of the
/// highest score is joined first. @throws InputError naming file and piece.
std::unique_ptr<Tokenizer> load_llama2c_tokenizer(const std::string& path, index_t size);

/// How words are made; the names in tokenizer_config.json are given.
struct WordPieceOptions {
  bool lower_case = true;             ///< do_lower_case
  std::optional<bool> strip_accents;  ///< strip_accents; unset: as lower_case
  bool tokenize_cjk = true;           ///< tokenize_chinese_chars: every ideograph is a word
  index_t max_word_characters = 100;  ///< longer words become [UNK]
  index_t model_max_length = 512;     ///< model_max_length: only kept and saved; 0 = none
  /// additional_special_tokens: of the vocabulary, taken out of a text as [MASK] is
  std::vector<std::string> added_tokens = {};
};

/// BERT's tokenizer. Copies share the vocabulary.
class WordPieceTokenizer : public Tokenizer {
 public:
  /// Token i of `vocabulary` gets id i. @throws ValueError if it is empty, repeats a token, has an
  /// empty one or one that is not UTF-8, or lacks [PAD], [UNK], [CLS], [SEP], [MASK] or an added
  /// token.
  explicit WordPieceTokenizer(std::vector<std::string> vocabulary,
                              const WordPieceOptions& options = {});

  /// Reads a model folder (vocab.txt and, if there, tokenizer_config.json, whose settings replace
  /// `defaults`, special_tokens_map.json and added_tokens.json) or a vocabulary file with one token
  /// a line.
  /// @throws InputError naming file and line.
  static WordPieceTokenizer load(const std::string& path, const WordPieceOptions& defaults = {});

  /// Writes DIR/vocab.txt and DIR/tokenizer_config.json, each whole or not at all, as
  /// `transformers` reads them. @throws IoError.
  void save(const std::string& folder) const override;

  /// The pieces of a text; no [CLS], no [SEP]. Special and added tokens written in the text, such
  /// as [MASK], are themselves, wherever they stand and in this spelling only.
  /// @throws ValueError naming the byte if the text is not UTF-8, as all functions that take text.
  std::vector<std::string> tokenize(std::string_view text) const;
  /// The same as ids, appended to `out`: no allocation where `out` has room.
  void append_ids(std::string_view text, std::vector<std::int32_t>& out) const override;

  /// [CLS] text [SEP], or [CLS] text [SEP] second [SEP] with type 1 for the second part.
  /// @throws ValueError if `max_length` has no room for [CLS] and [SEP].
  Encoding encode(std::string_view text, std::optional<std::string_view> second = {},
                  index_t max_length = 0) const override;

  /// The tokens joined: "##" pieces without a blank, all others with one. Nothing else is undone.
  /// @throws ValueError on an id outside the vocabulary.
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special = true) const override;

  index_t size() const override;
  const std::string& token(index_t id) const override;
  /// The id of a token, unk_id() if the vocabulary has none such.
  std::int32_t id(std::string_view token) const;
  bool contains(std::string_view token) const;
  const std::vector<std::string>& vocabulary() const;
  const WordPieceOptions& options() const;

  std::int32_t bos_id() const override { return cls_id(); }
  std::int32_t eos_id() const override { return sep_id(); }
  std::int32_t pad_id() const override;
  std::int32_t unk_id() const;
  std::int32_t cls_id() const;
  std::int32_t sep_id() const;
  std::int32_t mask_id() const;
  /// True for the five above.
  bool is_special(index_t id) const override;

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
