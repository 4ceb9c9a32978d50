// A BERT and masked text, and a classifier of any family and its task, as the compressors want
// them.
#include <parsimony/adapter.hpp>
#include <parsimony/batching.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/pretrain.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "lm/compress_task.hpp"
#include "lm/compress_text.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using T = float;
using Part = CompressionData::Part;

/// What the folder has beside the compressed model: the heads of other kinds, the vocabulary, the
/// task.
void save_with_rest(const BaseModel& base, Bert<T>& model, const std::string& folder) {
  model.save(folder);
  const std::string weights = (fs::path(folder) / "model.safetensors").string();
  TensorMap tensors = load_safetensors(weights);
  std::set<std::string> dense;  // what the pairs replace
  for (const auto& [name, rank] : factored_ranks(model)) {
    dense.insert(name + ".weight");
    dense.insert(name + ".bias");
  }
  for (const BertHead head : {BertHead::classifier, BertHead::masked_lm}) {
    if (head == model.head()) continue;
    LoadReport report;
    const auto other = load_bert<T>(base.folder(), head, Rng(0), 0, &report);
    for (const auto& [name, var] : other->named_parameters()) {
      const bool fresh =
          std::find(report.fresh.begin(), report.fresh.end(), name) != report.fresh.end();
      if (!fresh && !tensors.contains(name) && dense.count(name) == 0) {
        tensors.set(name, var.value());
      }
    }
  }
  save_safetensors(weights, tensors);
  base.tokenizer().save(folder);
  copy_files({"task.json", "special_tokens_map.json", "tokenizer.json"}, base.folder(), folder);
}

void require_texts(const BaseModel& base) {
  if (base.config().type == "vit") {
    throw InputError(
        fmt::format("compress: expected a model of texts; '{}' is of model type vit; name the task "
                    "of its images: --task {}",
                    base.name(), fmt::join(image_task_names(), " or --task ")));
  }
}

const WordPieceTokenizer& words_of(const BaseModel& base) {
  return dynamic_cast<const WordPieceTokenizer&>(base.tokenizer());
}

// --- Masked text --------------------------------------------------------------------------------

class MaskedText : public CompressionData {
 public:
  explicit MaskedText(const CompressionSource& source) : base_(source.model) {
    require_trained(base_);
    require_texts(base_);
    LoadReport report;
    load_bert<T>(base_.folder(), BertHead::masked_lm, Rng(0), 0, &report);
    if (!report.fresh.empty()) {
      throw InputError(fmt::format(
          "'{}': the model has no masked-language-model head (cls.predictions), so text "
          "cannot say how good it is; name the task of its classifier with --task",
          base_.name()));
    }
    text_ = TextParts(source, base_.config().max_position_embeddings, remarks, [&](index_t length) {
      return pack_corpus(words_of(base_), source.calibration, length);
    });
  }

  std::unique_ptr<Module<T>> load() const override {
    return load_bert<T>(base_.folder(), BertHead::masked_lm, Rng(0));
  }
  index_t size(Part part) const override { return text_.size(part); }
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng& rng) const override {
    constexpr double masked = 0.15;
    const MaskedBatch m =
        mask_sequences(text_.corpus(), text_.rows(part, sequences), words_of(base_), masked, rng);
    CompressionBatch out;
    out.classes = m.labels;
    out.outputs = [m](const Module<T>& model, Pass& pass) {
      return dynamic_cast<const Bert<T>&>(model).masked_logits(m.tokens, m.places, pass);
    };
    return out;
  }
  void save(Module<T>& model, const std::string& folder) const override {
    save_with_rest(base_, dynamic_cast<Bert<T>&>(model), folder);
  }
  bool trains(const std::string&) const override { return false; }
  std::string measure() const override { return "masked perplexity"; }

 private:
  BaseModel base_;
  TextParts text_;
};

// --- A task -------------------------------------------------------------------------------------

class TextClassification : public TaskCompression {
 public:
  TextClassification(const CompressionSource& source, const TextSplits& splits,
                     std::optional<index_t> max_length)
      : TaskCompression(source) {
    require_texts(base());
    use(encode_task(base(), splits, max_length), source);
  }

 private:
  void write(Module<T>& model, const std::string& folder) const override {
    if (auto* decoder = dynamic_cast<Decoder<T>*>(&model)) {
      save_decoder(*decoder, base().tokenizer(), base().folder(), folder);
    } else {
      save_with_rest(base(), dynamic_cast<Bert<T>&>(model), folder);
    }
  }
};

}  // namespace

std::unique_ptr<CompressionData> masked_text(const CompressionSource& source) {
  return std::make_unique<MaskedText>(source);
}

std::unique_ptr<CompressionData> task_compression(const CompressionSource& source,
                                                  const TextSplits& splits,
                                                  std::optional<index_t> max_length) {
  return std::make_unique<TextClassification>(source, splits, max_length);
}

}  // namespace parsimony
