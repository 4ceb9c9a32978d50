// Text for a compressor, shared out among its parts, and the families that it can be for.
#pragma once

#include <parsimony/compress.hpp>
#include <parsimony/decoder.hpp>
#include <parsimony/pretrain.hpp>
#include <parsimony/tokenizer.hpp>

#include <functional>
#include <string>
#include <vector>

namespace parsimony {

/// A text's sequences; every part has some from all over it, and none twice.
class TextParts {
 public:
  using Part = CompressionData::Part;
  TextParts() = default;
  /// `pack` cuts the text into sequences of a length; where it makes too few, they are halved, with
  /// a remark. @throws InputError if there is too little text for three of 16 tokens; ValueError
  /// unless the source's length is in 16..longest.
  TextParts(const CompressionSource& source, index_t longest, std::vector<std::string>& remarks,
            const std::function<PackedCorpus(index_t length)>& pack);

  const PackedCorpus& corpus() const { return corpus_; }
  index_t size(Part part) const { return static_cast<index_t>(of(part).size()); }
  /// Places in the corpus of a part's sequences.
  std::vector<index_t> rows(Part part, const std::vector<index_t>& sequences) const;

 private:
  const std::vector<index_t>& of(Part part) const;
  PackedCorpus corpus_;
  std::vector<index_t> calibration_, allocation_, test_;
};

/// A BERT on masked text (compress_bert.cpp), a decoder on each next token (compress_causal.cpp).
std::unique_ptr<CompressionData> masked_text(const CompressionSource& source);
std::unique_ptr<CompressionData> causal_text(const CompressionSource& source);

/// Writes a decoder with what `from`, the folder it was read from ("": none), has beside it: heads
/// of other kinds, settings of generation, a task; and the tokenizer. @throws IoError.
void save_decoder(Decoder<float>& model, const Tokenizer& tokenizer, const std::string& from,
                  const std::string& folder);

/// Copies those of the files that are there. @throws IoError.
void copy_files(const std::vector<std::string>& names, const std::string& from,
                const std::string& to);

}  // namespace parsimony
