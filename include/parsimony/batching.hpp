// From examples to batches. What is random is a pure function of a stream, the step and the sizes,
// never of what was drawn before: a run that is resumed at step t goes on with the batches that it
// would have had, and padding decides nothing about which examples meet.
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/tensor.hpp>
#include <parsimony/text_tasks.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstdint>
#include <functional>
#include <vector>

namespace parsimony {

/// Examples as token ids, or as images, which have none.
struct EncodedExamples {
  std::vector<Encoding> encodings;
  Tensor<float> pixels;  // (n, channels, height, width); undefined for texts
  std::vector<double> labels;
  /// Where each comes from in the examples that were encoded; ascending.
  std::vector<index_t> source;
  /// How many were left out for their length.
  index_t dropped = 0;

  index_t size() const { return static_cast<index_t>(encodings.size()); }
  index_t length(index_t row) const {
    return static_cast<index_t>(encodings.at(static_cast<std::size_t>(row)).ids.size());
  }
};

/// What becomes of an example with too many tokens: the paper drops it, from train and dev alike.
enum class TooLong { drop, truncate };

/// Encodes examples, both texts where `pair` says so; [CLS] and [SEP] count in `max_length`, 0
/// keeps every length. @throws ValueError on text that is not UTF-8; for truncation, on a length
/// without room for [CLS] and [SEP]; if every example is dropped.
EncodedExamples encode_examples(const Tokenizer& tokenizer, bool pair,
                                const std::vector<TextExample>& examples, index_t max_length,
                                TooLong too_long = TooLong::drop);

/// The examples at some rows, in this order, repeated ones as often as they are named.
EncodedExamples select_rows(const EncodedExamples& examples, const std::vector<index_t>& rows);

/// `n` of [0, count) at random: with replacement, as the paper's few-shot samples are, a row may
/// come several times. For one stream the sample of a smaller n is the beginning of a larger one's.
/// @throws ValueError if n < 1, count < 1, or n > count without replacement.
std::vector<index_t> sample_rows(index_t count, index_t n, bool with_replacement, const Rng& rng);

/// Which rows a training step sees. Each epoch is a new random order of all rows, cut into batches;
/// an incomplete last one is left out. With n <= batch_size every step sees all rows, in order.
class TrainingBatches {
 public:
  /// @throws ValueError unless n >= 1 and batch_size >= 1.
  TrainingBatches(index_t n, index_t batch_size, const Rng& rng);

  /// Rows of step `step` >= 0, at random access. Not to be called from two threads at once.
  /// @throws ValueError on a negative step.
  std::vector<index_t> rows(index_t step) const;
  index_t steps_per_epoch() const { return steps_per_epoch_; }
  /// Rows a step sees: min(n, batch_size).
  index_t batch_size() const { return batch_size_; }

 private:
  index_t n_, batch_size_, steps_per_epoch_;
  Rng rng_;
  // The order of the epoch that was asked for last, for speed alone.
  mutable index_t epoch_ = -1;
  mutable std::vector<index_t> order_;
};

/// Examples side by side, padded at the end to the longest of them.
struct TextBatch {
  Tensor<std::int64_t> ids, type_ids;  // (batch, length)
  Tensor<std::uint8_t> mask;           // (batch, length), 0 at padding; undefined: no padding
  Tensor<float> pixels;                // (batch, channels, height, width); undefined for texts
  std::vector<index_t> lengths;        // tokens of each
  std::vector<index_t> rows;           // which examples these are
  std::vector<double> labels;

  index_t size() const { return static_cast<index_t>(rows.size()); }
  /// The labels of a regression, (batch, 1).
  template <class T>
  Tensor<T> targets() const;
  /// The labels of a classification, (batch).
  Tensor<std::int64_t> classes() const;
};

/// @param pad_to pads to at least this length (0: the longest), e.g. to show that padding changes
/// nothing. @throws ValueError on no rows, or rows out of range.
TextBatch make_batch(const EncodedExamples& examples, const std::vector<index_t>& rows,
                     std::int32_t pad_id, index_t pad_to = 0);

/// Batches for evaluation: all rows, the longest first, so that a batch has texts of nearly one
/// length and hardly any padding. @throws ValueError if batch_size < 1.
std::vector<std::vector<index_t>> batches_by_length(const EncodedExamples& examples,
                                                    index_t batch_size);

/// Outputs (n, k) of `model`, which gives (batch, k) for a batch, in the order of the examples,
/// computed in batches by length. @throws ShapeError if an output has other sizes; what `model`
/// throws.
template <class T>
Tensor<T> evaluate_by_length(const EncodedExamples& examples, index_t batch_size,
                             std::int32_t pad_id,
                             const std::function<Tensor<T>(const TextBatch&)>& model);

}  // namespace parsimony
