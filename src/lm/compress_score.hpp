// Scores of many candidates on the same batches.
#pragma once

#include <parsimony/compress.hpp>

#include <vector>

namespace parsimony {

class Scorer {
 public:
  /// Keeps the batches of a part and, for divergences, the original's log-probabilities on them.
  Scorer(const CompressionData& data, CompressionData::Part part, const Module<float>* original);
  CompressionScore operator()(const Module<float>& model) const;

 private:
  index_t sequences_;
  std::vector<CompressionBatch> batches_;
  std::vector<Tensor<float>> original_;
};

}  // namespace parsimony
