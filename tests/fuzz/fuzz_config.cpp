// Any bytes as the JSON files of a model or an adapter. The first byte chooses which.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/tokenizer.hpp>

#include "fuzz/targets.hpp"
#include "support/temp_folder.hpp"

namespace parsimony::fuzz {

namespace {

const testing::TempFolder& model_folder() {
  thread_local const testing::TempFolder folder;
  return folder;
}

void bert_config(const std::string& bytes) {
  const std::string path = model_folder() / "config.json";
  testing::write_raw(path, bytes);
  BertConfig c;
  try {
    c = load_bert_config(path);
  } catch (const InputError&) {
    return;  // most inputs
  }
  c.check();
  if (c.num_labels > 1000) return;  // as many labels would be written
  save_bert_config(c, path, BertHead::classifier);
  const BertConfig again = load_bert_config(path);
  require(again.hidden_size == c.hidden_size && again.num_labels == c.num_labels &&
              again.vocab_size == c.vocab_size && again.hidden_act == c.hidden_act &&
              again.layer_norm_eps == c.layer_norm_eps &&
              again.classifier_dropout == c.classifier_dropout &&
              again.pad_token_id == c.pad_token_id,
          "a config reads back");
  require(c.labels.empty() || again.labels == c.labels, "labels read back");
}

void tokenizer_config(const std::string& bytes) {
  const testing::TempFolder& folder = model_folder();
  testing::write_raw(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n");
  testing::write_raw(folder / "tokenizer_config.json", bytes);
  try {
    const WordPieceTokenizer t = WordPieceTokenizer::load(folder.path());
    require(t.ids("a b").size() == 2, "the vocabulary is used");
  } catch (const InputError&) {
    // Most inputs.
  }
}

void adapter_config(const std::string& bytes) {
  const testing::TempFolder& folder = model_folder();
  testing::write_raw(folder / "adapter_config.json", bytes);
  try {
    read_adapter_config(folder.path());
  } catch (const InputError&) {
    // Most inputs.
  }
}

}  // namespace

void config(Input input) {
  const std::uint8_t choice = take_byte(input);
  const std::string bytes(as_text(input));
  switch (choice % 3) {
    case 0:
      return bert_config(bytes);
    case 1:
      return tokenizer_config(bytes);
    default:
      return adapter_config(bytes);
  }
}

}  // namespace parsimony::fuzz
