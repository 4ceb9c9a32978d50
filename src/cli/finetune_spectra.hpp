// The spectra of a run's updates: of adapters, and of weights that train themselves.
#pragma once

#include <parsimony/finetune.hpp>

#include <map>
#include <string>

namespace parsimony::cli {

/// Logs the singular values of every ΔW of a training run.
class Spectra {
 public:
  Spectra(const BaseModel& base, const TextTask& task, const FinetuneOptions& options)
      : base_(base), task_(task), options_(options) {}

  /// Keeps "<module>.t<step>" with the stage, and logs "rank_mean" and "rank_max", numerical ranks
  /// by NumPy's rule in single precision.
  void log(Stage& stage, index_t step, Model<float>& model);

 private:
  const Tensor<float>& initial(const std::string& weight);
  const BaseModel& base_;
  const TextTask& task_;
  const FinetuneOptions& options_;
  std::map<std::string, Tensor<float>> initial_;  // where weights train themselves
};

/// step,module,rank,paper_rank,largest: from what Spectra kept.
std::string ranks_csv(const Record& record, const BaseModel& base, bool deep);

}  // namespace parsimony::cli
