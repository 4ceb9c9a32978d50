// A model with a trained classification head and the examples of its task, as the compressors want
// them: the same for texts and images. What a family adds is how its folder is written.
#pragma once

#include <parsimony/compress.hpp>
#include <parsimony/finetune.hpp>

#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// @throws InputError on scratch:SIZE.
void require_trained(const BaseModel& base);

class TaskCompression : public CompressionData {
 public:
  std::unique_ptr<Module<float>> load() const override;
  index_t size(Part part) const override { return examples(part).size(); }
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng& rng) const override;
  void save(Module<float>& model, const std::string& folder) const override;
  bool trains(const std::string& parameter) const override;
  std::string measure() const override { return ""; }
  bool has_scores() const override { return true; }
  std::vector<std::pair<std::string, double>> scores(const Tensor<float>& outputs) const override;

 protected:
  explicit TaskCompression(const CompressionSource& source);
  /// Shares out the examples: all of dev for the test, of train some for the allocation and the
  /// rest for calibration. The classes are in the order of the adapter's, if there is one. @throws
  /// InputError if there are too few, or the model has no trained head.
  void use(EncodedTask encoded, const CompressionSource& source);
  const BaseModel& base() const { return base_; }

 private:
  /// Writes the folder, its own task.json with it.
  virtual void write(Module<float>& model, const std::string& folder) const = 0;
  const EncodedExamples& examples(Part part) const;

  BaseModel base_;
  std::string adapter_;
  TextTask task_;
  EncodedExamples calibration_, allocation_, test_;
  std::int32_t pad_id_ = 0;
};

}  // namespace parsimony
