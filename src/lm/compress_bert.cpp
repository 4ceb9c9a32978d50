// A BERT and its data, as the compressors want them: masked text, or a task.
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

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using T = float;
using Part = CompressionData::Part;

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

const Bert<T>& as_bert(const Module<T>& model) { return dynamic_cast<const Bert<T>&>(model); }

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
  for (const char* file : {"task.json", "special_tokens_map.json", "tokenizer.json"}) {
    const fs::path from = fs::path(base.folder()) / file;
    if (fs::exists(from)) {
      write_file_atomically((fs::path(folder) / file).string(), read_file(from.string()));
    }
  }
}

void require_folder(const BaseModel& base) {
  if (base.config().type != "bert") {
    throw InputError(fmt::format("compress: expected a BERT; '{}' is of model type {}", base.name(),
                                 base.config().type));
  }
  if (base.folder().empty()) {
    throw InputError("compress: expected a trained model; scratch:SIZE has fresh weights");
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
    pack(source);
    split(source);
  }

  std::unique_ptr<Module<T>> load() const override {
    return load_bert<T>(base_.folder(), BertHead::masked_lm, Rng(0));
  }
  index_t size(Part part) const override { return static_cast<index_t>(rows(part).size()); }
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng& rng) const override {
    std::vector<index_t> at;
    for (const index_t s : sequences) at.push_back(rows(part).at(static_cast<std::size_t>(s)));
    constexpr double masked = 0.15;
    const MaskedBatch m = mask_sequences(corpus_, at, words_of(base_), masked, rng);
    CompressionBatch out;
    out.classes = m.labels;
    out.outputs = [m](const Module<T>& model, Pass& pass) {
      return as_bert(model).masked_logits(m.tokens, m.places, pass);
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
  /// Sequences are made shorter where the text is.
  void pack(const CompressionSource& source) {
    constexpr index_t least = 16;
    constexpr index_t wanted = 3;
    const index_t longest = base_.config().max_position_embeddings;
    if (source.length < least || source.length > longest) {
      throw ValueError(fmt::format("--length: expected {}..{}, the model's position table; got {}",
                                   least, longest, source.length));
    }
    for (index_t length = source.length;; length /= 2) {
      try {
        corpus_ = pack_corpus(words_of(base_), source.calibration, length);
      } catch (const InputError&) {
        if (length / 2 < least) throw;
        continue;
      }
      if (corpus_.size() >= wanted) {
        if (length < source.length) {
          remarks.push_back(
              fmt::format("calibration: little text; sequences of {} tokens instead of {}", length,
                          source.length));
        }
        return;
      }
      if (length / 2 < least) {
        throw InputError(
            fmt::format("calibration: expected text for at least {} sequences of {} tokens; got {}",
                        wanted, length, corpus_.size()));
      }
    }
  }
  /// Every part gets sequences from all over the text.
  void split(const CompressionSource& source) {
    const index_t n = corpus_.size();
    const index_t held = std::max<index_t>(1, std::min(source.windows, n / 4));
    const std::vector<index_t> order = Rng(0).split("parts").permutation(n);
    for (index_t i = 0; i < n; ++i) {
      const index_t row = order[static_cast<std::size_t>(i)];
      if (i < held) {
        test_.push_back(row);
      } else if (i < 2 * held) {
        allocation_.push_back(row);
      } else if (static_cast<index_t>(calibration_.size()) < source.sequences) {
        calibration_.push_back(row);
      }
    }
    for (auto* part : {&test_, &allocation_, &calibration_}) std::sort(part->begin(), part->end());
  }
  const std::vector<index_t>& rows(Part part) const {
    return part == Part::calibration  ? calibration_
           : part == Part::allocation ? allocation_
                                      : test_;
  }

  BaseModel base_;
  PackedCorpus corpus_;
  std::vector<index_t> calibration_, allocation_, test_;
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
    bool fresh = std::find(report.fresh.begin(), report.fresh.end(), "classifier.weight") !=
                 report.fresh.end();
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
      return as_bert(model).logits(tokens, pass);
    };
    return out;
  }
  void save(Module<T>& model, const std::string& folder) const override {
    save_with_rest(base_, dynamic_cast<Bert<T>&>(model), folder);
    const fs::path task = fs::path(adapter_) / "task.json";
    if (!adapter_.empty() && fs::exists(task)) {
      write_file_atomically((fs::path(folder) / "task.json").string(), read_file(task.string()));
    }
  }
  bool trains(const std::string& parameter) const override {
    return starts_with(parameter, "classifier.");
  }
  std::string measure() const override { return ""; }
  std::vector<std::pair<std::string, double>> scores(const Module<T>& model) const override {
    return task_metrics(task_, model_outputs(as_bert(model), test_, pad_id_), test_.labels);
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

std::unique_ptr<CompressionData> text_compression(const CompressionSource& source) {
  if (source.calibration.empty()) throw ValueError("compress: expected text files to calibrate on");
  return std::make_unique<MaskedText>(source);
}

std::unique_ptr<CompressionData> task_compression(const CompressionSource& source,
                                                  const TextSplits& splits, index_t max_length) {
  return std::make_unique<Classification>(source, splits, max_length);
}

}  // namespace parsimony
