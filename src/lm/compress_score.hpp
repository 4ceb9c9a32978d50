// Scores of many candidates on the same batches.
#pragma once

#include <parsimony/compress.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

using Scores = std::vector<std::pair<std::string, double>>;

class Scorer {
 public:
  /// Keeps the batches of a part and, for divergences, the original's log-probabilities on them:
  /// up to half a gigabyte; what is more is computed anew for every candidate, so `original` must
  /// outlive this.
  Scorer(const CompressionData& data, CompressionData::Part part, const Module<float>* original);
  /// The other scores of the data go to `scores`; the part must be the test's for that.
  CompressionScore operator()(const Module<float>& model, Scores* scores = nullptr) const;
  /// Of the original itself, which there must be.
  CompressionScore of_original(Scores* scores) const;

 private:
  /// `found(b)`: log-probabilities, or values, on batch b.
  CompressionScore measure(const std::function<Tensor<float>(std::size_t)>& found,
                           Scores* scores) const;
  Tensor<float> original(std::size_t batch) const;

  const CompressionData& data_;
  index_t sequences_;
  std::vector<CompressionBatch> batches_;
  const Module<float>* model_;
  std::vector<Tensor<float>> original_;  // of the first batches
};

/// @throws InputError naming the first layer that is a pair already.
void require_dense(const std::vector<CompressibleLayer<float>>& layers);

}  // namespace parsimony
