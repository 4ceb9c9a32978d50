// What pretraining trains: a family's model on its loss, with its vocabulary and its sequences.
#pragma once

#include <parsimony/model.hpp>
#include <parsimony/module.hpp>
#include <parsimony/pretrain.hpp>

#include <memory>
#include <optional>

namespace parsimony {

/// Sums over predicted tokens.
struct Score {
  double loss = 0, right = 0, count = 0;
  double mean_loss() const { return loss / count; }
  double accuracy() const { return right / count; }
};

class PretrainModel {
 public:
  virtual ~PretrainModel() = default;
  virtual NamedParameters<float> parameters() const = 0;
  /// The loss of a step on some sequences; a pure function of its arguments.
  virtual Var<float> loss(const PackedCorpus& corpus, const std::vector<index_t>& rows,
                          const Rng& masks, Pass& pass) const = 0;
  virtual Score score(const PackedCorpus& corpus, const std::vector<index_t>& rows,
                      const Rng& masks) const = 0;
  virtual void save(const std::string& folder, FloatFormat format) = 0;
};

/// The tokenizer, given or learned from the corpus. Options here and below are what resolved()
/// makes of a user's.
class Vocabulary {
 public:
  explicit Vocabulary(const PretrainOptions& options);
  const Tokenizer& tokenizer() const;
  /// Set for a BERT.
  const WordPieceTokenizer& words() const { return *words_; }
  PackedCorpus pack(const std::vector<std::string>& files, index_t length) const;

 private:
  std::optional<WordPieceTokenizer> words_;
  std::unique_ptr<Tokenizer> other_;
};

/// The options with nothing left open: family, size and vocabulary, the default ones or those of
/// the model to go on from, whose folder `model` then is.
/// @throws ValueError on an unknown family or size, options that are another family's, or those of
/// fresh weights beside a model; InputError on a model that is not there, is one of images, or has
/// too few positions.
PretrainOptions resolved(PretrainOptions options);
std::unique_ptr<PretrainModel> make_pretrain_model(const PretrainOptions& options,
                                                   const Vocabulary& vocabulary, const Rng& rng,
                                                   LoadReport& report);

}  // namespace parsimony
