// A GPT-2 or LLaMA and text, as the compressors want them: windows of text, and the loss of each
// next token.
#include <parsimony/error.hpp>
#include <parsimony/generate.hpp>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "lm/compress_text.hpp"

namespace parsimony {

namespace {

using T = float;

class CausalText : public CompressionData {
 public:
  explicit CausalText(const CompressionSource& source)
      : model_(source.model), tokenizer_file_(source.tokenizer) {
    LanguageModel read = load_language_model(model_, "", tokenizer_file_);
    tokenizer_ = std::move(read.tokenizer);
    folder_ = read.folder;
    text_ = TextParts(source, read.decoder->config().positions, remarks, [&](index_t length) {
      return pack_windows(*tokenizer_, source.calibration, length);
    });
  }

  std::unique_ptr<Module<T>> load() const override {
    return std::move(load_language_model(model_, "", tokenizer_file_).decoder);
  }
  index_t size(Part part) const override { return text_.size(part); }
  /// Every token but a window's first is foretold.
  CompressionBatch batch(Part part, const std::vector<index_t>& sequences,
                         const Rng&) const override {
    const PackedCorpus& corpus = text_.corpus();
    const index_t length = corpus.length;
    const auto count = static_cast<index_t>(sequences.size());
    Tensor<std::int64_t> ids({count, length});
    std::int64_t* to = ids.mutable_data();
    for (const index_t row : text_.rows(part, sequences)) {
      to = std::copy_n(corpus.ids.begin() + row * length, length, to);
    }
    Tensor<std::int64_t> places({count * (length - 1)});
    CompressionBatch out;
    out.classes = Tensor<std::int64_t>({places.size()});
    for (index_t i = 0; i < places.size(); ++i) {
      const index_t place = i / (length - 1) * length + i % (length - 1);
      places.mutable_data()[i] = place;
      out.classes.mutable_data()[i] = ids.data()[place + 1];
    }
    out.outputs = [ids, places](const Module<T>& module, Pass& pass) {
      const auto& model = dynamic_cast<const Decoder<T>&>(module);
      const Var<T> x = model.hidden(ids, {}, pass);
      return model.token_logits(gather_rows(reshape(x, {ids.size(), x.dim(2)}), places), pass);
    };
    return out;
  }
  void save(Module<T>& model, const std::string& folder) const override {
    save_decoder(dynamic_cast<Decoder<T>&>(model), *tokenizer_, folder_, folder);
  }
  bool trains(const std::string&) const override { return false; }
  std::string measure() const override { return "perplexity"; }

 private:
  std::string model_, tokenizer_file_, folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TextParts text_;
};

/// The parameters of heads of another kind than the model's that are in the folder.
void carry_heads(const Decoder<T>& model, const std::string& from, const std::string& folder) {
  const DecoderHead other =
      model.head() == DecoderHead::classifier ? DecoderHead::language : DecoderHead::classifier;
  LoadReport report;
  const auto source = load_decoder<T>(from, other, Rng(0), 0, &report);
  const std::string weights = (std::filesystem::path(folder) / "model.safetensors").string();
  TensorMap tensors = load_safetensors(weights);
  const std::size_t before = tensors.names().size();
  for (const auto& [name, var] : source->named_parameters()) {
    const bool head = name.compare(0, 6, "score.") == 0 || name.compare(0, 8, "lm_head.") == 0;
    const bool fresh =
        std::find(report.fresh.begin(), report.fresh.end(), name) != report.fresh.end();
    if (head && !fresh && !tensors.contains(name)) tensors.set(name, var.value());
  }
  if (tensors.names().size() > before) save_safetensors(weights, tensors);
}

}  // namespace

std::unique_ptr<CompressionData> causal_text(const CompressionSource& source) {
  return std::make_unique<CausalText>(source);
}

void save_decoder(Decoder<T>& model, const Tokenizer& tokenizer, const std::string& from,
                  const std::string& folder) {
  model.save(folder);
  if (!from.empty()) carry_heads(model, from, folder);
  copy_files({"task.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json",
              "tokenizer_config.json", "added_tokens.json"},
             from, folder);
  tokenizer.save(folder);  // its own files are right wherever it was read from
}

}  // namespace parsimony
