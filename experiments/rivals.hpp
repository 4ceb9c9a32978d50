// The adapter methods side by side: their settings at one budget, at one rank and as published,
// their learning rates, and how many numbers each trains.
//
// Rates. On a model less than 512 wide each method has a rate of its own, chosen on a part of
// SST-2's training set (split=tuning), never on what is reported. On a wider one, or with `lr` set,
// which is then LoRA's, a method's rate is the multiple of LoRA's that its authors use.
#pragma once

#include "lm_support.hpp"

namespace parsimony::lab {

/// A method with all its settings but samples and seed.
struct Rival {
  std::string name;   // in stages, tables and arrays: "lora-xs"
  std::string label;  // in figures: "LoRA-XS"
  FinetuneOptions options;
};

/// Every method at rank r under its name in the tables, vanilla LoRA first; settings that `rank`
/// and the method do not say are its defaults. LoRA-XS, VeRA and NOLA then have fewer numbers.
struct RivalMethod {
  std::string name, label;
  AdapterOptions options;
};
std::vector<RivalMethod> rival_methods(index_t rank);

/// A weight that adapters go to: its sides, and whether it is an embedding's.
struct AdaptedShape {
  index_t in = 0, out = 0;
  bool embedding = false;
};
/// Of the layers that `targets` names in the lab's model.
std::vector<AdaptedShape> adapted_shapes(const BaseModel& base, const std::string& targets);

/// Numbers that a method trains on one weight by its formula; 0 where it has no form for it.
index_t trained_numbers(const AdapterOptions& options, const AdaptedShape& shape);
/// Over all of them.
index_t trained_numbers(const AdapterOptions& options, const std::vector<AdaptedShape>& shapes);

/// Declares rate_factor, and what declare_language does.
void declare_rivals(Config& c, const LanguageDefaults& defaults);

class Rivals {
 public:
  struct Kind;  // a method's fixed properties
  /// @throws as adapted_shapes.
  Rivals(const Config& config, const LanguageLab& lab);

  /// rival_methods(), and Deep LoRA of full width.
  std::vector<Rival> at_rank(index_t rank) const;
  /// Every method with as nearly as it can the numbers of vanilla LoRA of a rank.
  std::vector<Rival> at_budget(index_t rank) const;
  /// A method's setting next to a count of numbers. @throws ValueError on an unknown name.
  Rival next_to(const std::string& name, index_t numbers) const;
  /// Every method at its authors' rank (at most the smallest side), scaling and multiple of LoRA's
  /// rate.
  std::vector<Rival> as_published() const;
  /// The classifier and pooler alone, and all weights.
  std::vector<Rival> anchors() const;

  const std::vector<AdaptedShape>& shapes() const { return shapes_; }
  index_t numbers(const Rival& rival) const {
    return trained_numbers(rival.options.adapter, shapes_);
  }

 private:
  Rival make(const Kind& kind, index_t value, double rate) const;
  double rate(const Kind& kind) const;
  double tuned_rate(const Kind& kind) const;

  const Config& config_;
  const LanguageLab& lab_;
  std::vector<AdaptedShape> shapes_;
  index_t smallest_ = 0;  // side
  double lora_rate_ = 0;
  bool tuned_ = false;
};

/// The options of a rival for one run.
FinetuneOptions with_run(const Rival& rival, index_t samples, std::uint64_t seed);

/// A model's adapters in a folder of their own, which goes away with this object.
class SavedAdapters {
 public:
  SavedAdapters(Model<float>& model, const FinetuneOptions& options, const std::string& folder);
  ~SavedAdapters();
  SavedAdapters(const SavedAdapters&) = delete;
  SavedAdapters& operator=(const SavedAdapters&) = delete;

  /// Of all files.
  index_t bytes() const;
  /// True if `fresh`, the model without adapters, gets the same ΔW from the folder, to the bit.
  bool come_back(Model<float>& fresh) const;

 private:
  Model<float>& model_;
  std::string folder_;
};

/// Mean training loss over a share of the steps: the first, or the last.
double early_loss(const Record& record, double share);
double late_loss(const Record& record, double share);

}  // namespace parsimony::lab
