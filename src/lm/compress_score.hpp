// Scores of many candidates on the same batches.
#pragma once

#include <parsimony/compress.hpp>

#include <vector>

namespace parsimony {

class Scorer {
 public:
  /// Keeps the batches of a part and, for divergences, the original's log-probabilities on them:
  /// up to half a gigabyte; what is more is computed anew for every candidate, so `original` must
  /// outlive this.
  Scorer(const CompressionData& data, CompressionData::Part part, const Module<float>* original);
  CompressionScore operator()(const Module<float>& model) const;

 private:
  index_t sequences_;
  std::vector<CompressionBatch> batches_;
  const Module<float>* model_;
  std::vector<Tensor<float>> original_;  // of the first batches
};

/// @throws InputError naming the first layer that is a pair already.
void require_dense(const std::vector<CompressibleLayer<float>>& layers);

}  // namespace parsimony
