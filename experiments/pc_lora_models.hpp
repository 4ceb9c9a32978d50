// The models of experiment pc-lora and what they are compressed on.
#pragma once

#include <parsimony/compress.hpp>
#include <parsimony/experiment.hpp>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace parsimony::lab {

/// A model, what it is compressed on, and what came of it.
struct Family {
  std::string key, title, metric, missing;  // missing: why the data are generated ones
  index_t steps = 0;
  std::unique_ptr<CompressionData> data;
  double before = 0;                                       // metric of the model as it was
  std::map<std::string, std::vector<const Record*>> runs;  // by variant, in the order of seeds

  std::vector<double> last(const std::string& variant, const std::string& column = "") const {
    std::vector<double> values;
    for (const Record* r : runs.at(variant)) {
      values.push_back(r->last(column.empty() ? metric : column));
    }
    return values;
  }
  double scalar(const std::string& variant, const std::string& name) const {
    return runs.at(variant).front()->scalar(name);
  }
  double kept(const std::string& variant) const { return scalar(variant, "kept"); }
};

/// Loads the data and trains both models, the BERT and the ViT, in stages of their own.
/// @throws ValueError on bad settings.
std::vector<Family> compressed_families(Run& run);

/// The same data and structure with fresh weights, all of which train beside the pairs.
class FreshStart : public CompressionData {
 public:
  FreshStart(const CompressionData& data, std::uint64_t seed);
  std::unique_ptr<Module<float>> load() const override;
  bool trains(const std::string& parameter) const override;
  index_t size(Part part) const override { return data_.size(part); }
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng& rng) const override {
    return data_.batch(part, sequences, rng);
  }
  void save(Module<float>& model, const std::string& folder) const override {
    data_.save(model, folder);
  }
  std::string measure() const override { return data_.measure(); }
  bool has_scores() const override { return data_.has_scores(); }
  std::vector<std::pair<std::string, double>> scores(const Tensor<float>& outputs) const override {
    return data_.scores(outputs);
  }

 private:
  const CompressionData& data_;
  std::uint64_t seed_;
  std::vector<std::string> replaced_;  // layers whose weights the pairs replace
};

}  // namespace parsimony::lab
