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

#include "lm/compress_text.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using T = float;
using Part = CompressionData::Part;

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

const Model<T>& as_classifier(const Module<T>& model) {
  return dynamic_cast<const Model<T>&>(model);
}

/// BERT's classifier, or a decoder's.
bool is_classifier(const std::string& parameter) {
  return starts_with(parameter, "classifier.") || starts_with(parameter, "score.");
}

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

void require_folder(const BaseModel& base) {
  if (base.folder().empty()) {
    throw InputError("compress: expected a trained model; scratch:SIZE has fresh weights");
  }
  if (base.config().type == "vit") {
    throw InputError(fmt::format("compress: expected a model of texts; '{}' is of model type {}",
                                 base.name(), base.config().type));
  }
}

const WordPieceTokenizer& words_of(const BaseModel& base) {
  return dynamic_cast<const WordPieceTokenizer&>(base.tokenizer());
}

// --- Masked text --------------------------------------------------------------------------------

class MaskedText : public CompressionData {
 public:
  explicit MaskedText(const CompressionSource& source) : base_(source.model) {
    require_folder(base_);
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
  std::vector<std::pair<std::string, double>> scores(const Module<T>&) const override { return {}; }

 private:
  BaseModel base_;
  TextParts text_;
};

// --- A task -------------------------------------------------------------------------------------

class Classification : public CompressionData {
 public:
  Classification(const CompressionSource& source, const TextSplits& splits, index_t max_length)
      : base_(source.model), adapter_(source.adapter) {
    require_folder(base_);
    const EncodedTask encoded = encode_task(base_, splits, max_length);
    task_ = encoded.task;
    pad_id_ = encoded.pad_id;
    if (encoded.train.size() < 3 || encoded.dev.size() < 1) {
      throw InputError(
          fmt::format("compress: expected at least 3 training and 1 dev example; got {} and {}",
                      encoded.train.size(), encoded.dev.size()));
    }
    test_ = encoded.dev;
    const index_t n = encoded.train.size();
    const index_t held = std::max<index_t>(1, std::min(source.windows, n / 4));
    const std::vector<index_t> order = Rng(0).split("parts").permutation(n);
    const auto at = order.begin() + held;
    allocation_ = select_rows(encoded.train, {order.begin(), at});
    const auto most = static_cast<std::ptrdiff_t>(std::min(source.sequences, n - held));
    calibration_ = select_rows(encoded.train, {at, at + most});
    load();  // a model without a head is refused now
  }

  std::unique_ptr<Module<T>> load() const override {
    LoadReport report;
    auto model = base_.classifier(task_, 0, &report);
    bool fresh = std::any_of(report.fresh.begin(), report.fresh.end(), is_classifier);
    if (!adapter_.empty()) {
      load_adapters<T>(*model, adapter_);
      merge_adapters<T>(*model);
      fresh = false;
    }
    if (fresh) {
      throw InputError(
          fmt::format("'{}': expected a model with a classifier of {} outputs, trained for the "
                      "task; 'parsimony "
                      "finetune --method full' makes one, --adapter DIR takes what finetune made",
                      base_.name(), task_.outputs()));
    }
    return model;
  }
  index_t size(Part part) const override { return examples(part).size(); }
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng&) const override {
    const TextBatch b = make_batch(examples(part), sequences, pad_id_);
    CompressionBatch out;
    if (task_.regression()) {
      out.values = b.targets<T>();
    } else {
      out.classes = b.classes();
    }
    out.places = b.ids.size();
    if (b.mask.defined()) {
      std::vector<std::int64_t> tokens;
      for (index_t i = 0; i < b.mask.size(); ++i) {
        if (b.mask.data()[i] != 0) tokens.push_back(i);
      }
      out.tokens = Tensor<std::int64_t>({static_cast<index_t>(tokens.size())}, tokens);
    }
    const TokenBatch tokens{b.ids, b.type_ids, b.mask};
    out.outputs = [tokens](const Module<T>& model, Pass& pass) {
      return as_classifier(model).logits(tokens, pass);
    };
    return out;
  }
  void save(Module<T>& model, const std::string& folder) const override {
    if (auto* decoder = dynamic_cast<Decoder<T>*>(&model)) {
      save_decoder(*decoder, base_.tokenizer(), base_.folder(), folder);
    } else {
      save_with_rest(base_, dynamic_cast<Bert<T>&>(model), folder);
    }
    const fs::path task = fs::path(adapter_) / "task.json";
    if (!adapter_.empty() && fs::exists(task)) {
      write_file_atomically((fs::path(folder) / "task.json").string(), read_file(task.string()));
    }
  }
  bool trains(const std::string& parameter) const override { return is_classifier(parameter); }
  std::string measure() const override { return ""; }
  std::vector<std::pair<std::string, double>> scores(const Module<T>& model) const override {
    return task_metrics(task_, model_outputs(as_classifier(model), test_, pad_id_), test_.labels);
  }

 private:
  const EncodedExamples& examples(Part part) const {
    return part == Part::calibration  ? calibration_
           : part == Part::allocation ? allocation_
                                      : test_;
  }
  BaseModel base_;
  std::string adapter_;
  TextTask task_;
  EncodedExamples calibration_, allocation_, test_;
  std::int32_t pad_id_ = 0;
};

}  // namespace

std::unique_ptr<CompressionData> masked_text(const CompressionSource& source) {
  return std::make_unique<MaskedText>(source);
}

std::unique_ptr<CompressionData> task_compression(const CompressionSource& source,
                                                  const TextSplits& splits, index_t max_length) {
  return std::make_unique<Classification>(source, splits, max_length);
}

}  // namespace parsimony
