// Pretraining from plain text: a vocabulary, packed sequences, and the masked language model of a
// BERT (Devlin et al. 2019) - 15 % of the tokens are predicted; of those 80 % are replaced by
// [MASK], 10 % by a random token and 10 % left as they are, anew at every step - or the causal one
// of a GPT-2 or LLaMA, which predicts every token from those before it.
#pragma once

#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace parsimony {

/// Token sequences of one length, each cut from consecutive lines of one text: [CLS] A [SEP] or,
/// where a line ends inside, [CLS] A [SEP] B [SEP] with type 1 for B.
struct PackedCorpus {
  index_t length = 0;
  std::vector<std::int32_t> ids;       // (sequences, length)
  std::vector<std::uint8_t> type_ids;  // (sequences, length)
  index_t size() const { return length == 0 ? 0 : static_cast<index_t>(ids.size()) / length; }
  index_t tokens() const { return static_cast<index_t>(ids.size()); }
};

/// Text files that do not fill one sequence.
class TooLittleText : public InputError {
 public:
  using InputError::InputError;
};

/// @throws InputError on a file that is missing or not UTF-8 (naming the line), TooLittleText if
/// there is not enough for one sequence; ValueError unless length >= 8.
PackedCorpus pack_corpus(const WordPieceTokenizer& tokenizer, const std::vector<std::string>& files,
                         index_t length);

/// The texts as one sequence of ids, cut: lines with their ends, documents (parted by blank lines)
/// with the tokenizer's token of the end after them, and that of the beginning before them if the
/// family begins with it. No type ids. @throws as pack_corpus.
PackedCorpus pack_text(const Tokenizer& tokenizer, const std::vector<std::string>& files,
                       index_t length);

/// The windows that perplexity() scores: each text as it stands, cut, with the token of the
/// beginning before every window if the family begins with it; a rest that fills no window is left
/// out. No type ids. @throws as pack_corpus.
PackedCorpus pack_windows(const Tokenizer& tokenizer, const std::vector<std::string>& files,
                          index_t length);

/// A batch with the places that are to be predicted and what stood there.
struct MaskedBatch {
  TokenBatch tokens;
  Tensor<std::int64_t> places;  // in the flattened batch
  Tensor<std::int64_t> labels;  // (places)
};

/// Masks the given sequences: `share` of their ordinary tokens, at least one a batch. A pure
/// function of its arguments.
MaskedBatch mask_sequences(const PackedCorpus& corpus, const std::vector<index_t>& rows,
                           const WordPieceTokenizer& tokenizer, double share, const Rng& rng);

struct PretrainOptions {
  std::vector<std::string> corpus;  // text files, a paragraph a line
  /// A model to go on from (a folder, or "tiny-en"): its weights, config and vocabulary, so that
  /// `arch`, `size`, `vocab`, `vocab_size` and `cased` must be left alone. "": fresh weights.
  std::string model;
  std::string arch;   // "bert" (as is ""), "gpt2" or "llama"
  std::string size;   // BertConfig::sized, Gpt2Config::sized, LlamaConfig::sized; "": tiny
  std::string out;    // a run folder; the model goes to OUT/model
  std::string vocab;  // model folder or WordPiece file; "": learned from the corpus: WordPiece for
                      // a BERT, byte-level BPE for the others
  std::optional<index_t> vocab_size;  // 8192
  bool cased = false;                 // WordPiece's
  index_t steps = 20000;
  index_t batch = 64;
  index_t length = 128;
  /// For `short_share` of the steps every sequence is cut into pieces of so many tokens that do not
  /// attend to each other; then they are whole. A BERT learns to use a word's neighbours several
  /// times sooner among few places than among many. 0: never. Left out: 32 for a fresh BERT with a
  /// length that is a larger multiple of it, else never.
  std::optional<index_t> short_length;
  double short_share = 0.5;
  double learning_rate = 1e-3;
  double warmup = 0.05;  // share of the steps
  double weight_decay = 0.01;
  double clip = 1.0;  // largest norm of the gradient; 0: none
  /// While pretraining; the saved config keeps its own. Left out: 0.1, and 0 for a LLaMA, which has
  /// none.
  std::optional<double> dropout;
  std::optional<double> masked;  // a BERT's: 0.15
  double held_out = 0.02;        // share of the sequences; the same ones for every seed
  index_t eval_every = 500;
  std::string format = "f32";  // of the saved weights: f32, f16, bf16
  std::uint64_t seed = 0;
  bool resume = false;
  bool keep_checkpoint = false;
  bool quiet = false;
  double checkpoint_seconds = 60;
};

struct PretrainResult {
  double loss = 0, accuracy = 0;  // held out, at the end
  double tokens_per_second = 0;
  std::string model;  // the model folder
};

/// Runs or resumes; bit-exact after a kill at any moment. metrics.csv has the curve of held-out
/// loss and accuracy, the training loss and the tokens per second.
/// @throws InputError, ValueError on bad input before anything is written; NumericalError on
/// divergence; Interrupted after saving; IoError.
PretrainResult pretrain(const PretrainOptions& options);

}  // namespace parsimony
