// An adapter on a decoder that has the head over the vocabulary.
#include <parsimony/adapter.hpp>
#include <parsimony/generate.hpp>
#include <parsimony/peft.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>

namespace parsimony {

namespace {

namespace fs = std::filesystem;

/// Rows of the classification head that the adapter folder stores; 0: none is.
index_t stored_outputs(const std::string& adapter) {
  const std::string head = (fs::path(adapter) / "head.safetensors").string();
  if (!fs::exists(head)) return 0;
  const TensorMap stored = load_safetensors(head);
  return stored.contains("score.weight") ? stored.shape("score.weight")[0] : 0;
}

void attach(Decoder<float>& decoder, const std::string& adapter,
            const std::unique_ptr<PeftFolder>& peft) {
  if (peft) {
    attach_peft<float>(decoder, *peft);
  } else {
    load_adapters<float>(decoder, adapter);
  }
}

}  // namespace

void merge_adapter(Decoder<float>& decoder, const std::string& folder, const std::string& adapter) {
  std::unique_ptr<PeftFolder> peft;
  if (is_peft_folder(adapter)) peft = std::make_unique<PeftFolder>(read_peft(adapter));
  const index_t outputs = peft ? peft->outputs : stored_outputs(adapter);
  std::unique_ptr<Decoder<float>> classifier;
  if (!folder.empty()) {
    LoadReport report;
    classifier = load_decoder<float>(folder, DecoderHead::classifier, Rng(0), outputs, &report);
    const bool fresh =
        std::find(report.fresh.begin(), report.fresh.end(), "score.weight") != report.fresh.end();
    if (outputs == 0 && fresh) classifier.reset();  // made for the language model itself
  }
  Decoder<float>& adapted = classifier ? *classifier : decoder;
  attach(adapted, adapter, peft);
  merge_adapters<float>(adapted);
  if (!classifier) return;
  for (auto& [name, var] : decoder.named_parameters()) {
    for (const auto& [trained, value] : classifier->named_parameters()) {
      if (trained == name) var.assign(value.value());
    }
  }
}

}  // namespace parsimony
