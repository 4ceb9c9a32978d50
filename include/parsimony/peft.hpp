// Adapter folders in the format of PEFT (Hugging Face): adapter_config.json and
// adapter_model.safetensors with a plain LoRA pair for each module, ΔW = s B A.
//
// An adapter that is a thin product keeps its factors; a wide product is factored by an SVD, to the
// rank beyond which nothing is left but rounding. DoRA, and MoRA of full rank, are no product: they
// are refused, unless a rank to cut them to is named.
//
// BERT, GPT-2, LLaMA and ViT have PEFT's names; A is (r, in) and B (out, r) also for GPT-2's
// layers, which are stored (in, out) themselves (fan_in_fan_out).
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/model.hpp>
#include <parsimony/safetensors.hpp>

#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// What PEFT's adapter_config.json says; keys that are missing have PEFT's defaults.
struct PeftConfig {
  /// Which modules: ends of names, or a regular expression on whole names, or "all-linear".
  struct Names {
    std::vector<std::string> ends;
    std::string pattern;
  };
  index_t r = 8;
  double alpha = 8;
  bool rslora = false;
  /// What PEFT takes of a BERT or ViT, GPT-2 and LLaMA.
  Names targets{{"query", "value", "c_attn", "q_proj", "v_proj"}, ""};
  Names excluded;
  std::vector<index_t> layers;  // numbers of the layers that are adapted; empty: all
  std::vector<std::pair<std::string, double>> ranks, alphas;  // by pattern, the first that matches
  std::vector<std::string> saved;                             // modules_to_save
  std::vector<std::string> heads;  // stored whole, if at all: those of the task's type
  std::string bias = "none";
  std::string base;  // base_model_name_or_path

  /// True if the module of this name gets an adapter.
  bool adapts(const std::string& module, bool is_linear) const;
  /// True if the parameter of this name is or may be stored whole.
  bool saves(const std::string& parameter) const;
  /// True if modules_to_save name it, so that it must be stored.
  bool lists(const std::string& parameter) const;
  index_t rank_of(const std::string& module) const;
  /// s of the module: alpha / r, or alpha / √r for rsLoRA.
  double scale_of(const std::string& module) const;
};

/// A PEFT folder as it was read.
struct PeftFolder {
  std::string folder;
  PeftConfig config;
  TensorMap tensors;
  /// Rows of the classifier or score that is stored; 0: none is.
  index_t outputs = 0;
};

/// True if the folder's adapter_config.json has a peft_type.
bool is_peft_folder(const std::string& folder);
/// @throws InputError naming file and key: another peft_type, options that change the update
/// (DoRA, PiSSA's decomposition, ...), a pickle instead of safetensors.
PeftFolder read_peft(const std::string& folder);

/// Freezes the model, gives it the folder's adapters and overwrites what the folder stores whole.
/// @throws InputError listing every tensor that is missing, unknown or of another shape, or if the
/// folder was written for other weights.
template <class T>
void attach_peft(Model<T>& model, const PeftFolder& folder);

/// Which parameters (by name) of a model of that type() the folder stores whole.
std::vector<std::string> stored_whole(const std::vector<std::string>& parameters,
                                      const std::string& type, const PeftFolder& folder);

/// ΔW of one module by its singular values, from the folder alone.
struct PeftUpdate {
  std::string module;
  Shape shape;  // of ΔW, for an embedding (V, d)
  index_t rank = 0;
  Tensor<float> spectrum;  // (rank or the smaller side), descending
};
/// @throws InputError if A and B of a module do not fit together.
std::vector<PeftUpdate> peft_updates(const PeftFolder& folder);

struct PeftOptions {
  /// Largest rank, 0: as it is; what is cut off is the smallest singular values.
  index_t rank = 0;
  /// Share of Σσ² that is kept, in (0, 1]; 0: all.
  double energy = 0;
  std::string base;  // base_model_name_or_path
};

/// One module of a folder that was written.
struct PeftLayer {
  std::string name;
  Shape shape;
  /// Width of the pair; of a merged module the rank of ΔW's factors.
  index_t rank = 0;
  /// Rank before rank and energy cut it: of the factors; of a dense ΔW as many singular values as
  /// are more than the rounding of W + ΔW.
  index_t full_rank = 0;
  /// ‖ΔW − BA‖ / ‖ΔW‖, Frobenius.
  double residual = 0;
  /// ΔW is in the module's stored weight, because PEFT stores whole modules or adapts them.
  bool merged = false;
};

/// Writes the model's adapters with lora_alpha = r, so that s = 1; the head (BERT's and ViT's
/// classifier, the decoders' score), and a pooler that is among `extras`, are stored whole.
/// @throws ValueError on options out of range, a model without adapters, an update that is no
/// product where neither rank nor energy is named, or extras outside the head; IoError.
template <class T>
std::vector<PeftLayer> save_peft(Model<T>& model, const std::string& folder,
                                 const std::vector<std::string>& extras,
                                 const PeftOptions& options);

}  // namespace parsimony
