// Which tokenizer a model folder has.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <filesystem>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

/// llama2.c's file does not say how many pieces it has: as many as the model beside it.
index_t vocabulary_size(const fs::path& folder) {
  const std::string path = (folder / "config.json").string();
  const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("vocab_size") ||
      !json["vocab_size"].is_number_integer()) {
    throw InputError(
        fmt::format("'{}': vocab_size: expected a whole number, the size of "
                    "tokenizer.bin",
                    path));
  }
  return json["vocab_size"].get<index_t>();
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  const fs::path in(folder);
  if (fs::exists(in / "vocab.json") && fs::exists(in / "merges.txt")) {
    return std::make_unique<BpeTokenizer>(BpeTokenizer::load(folder));
  }
  if (fs::exists(in / "tokenizer.model")) {
    return load_sentencepiece((in / "tokenizer.model").string());
  }
  if (fs::exists(in / "tokenizer.bin")) {
    return load_llama2c_tokenizer((in / "tokenizer.bin").string(), vocabulary_size(in));
  }
  if (fs::is_directory(in) && !fs::exists(in / "vocab.txt")) {
    const char* half = fs::exists(in / "vocab.json")   ? "; vocab.json is there, merges.txt is not"
                       : fs::exists(in / "merges.txt") ? "; merges.txt is there, vocab.json is not"
                       : fs::exists(in / "tokenizer.json")
                           ? "; tokenizer.json alone is not read: save the tokenizer with "
                             "transformers' use_fast=False to get those"
                           : "";
    throw InputError(
        fmt::format("'{}': expected a tokenizer: vocab.txt, vocab.json and merges.txt, "
                    "tokenizer.model or tokenizer.bin{}",
                    folder, half));
  }
  return std::make_unique<WordPieceTokenizer>(WordPieceTokenizer::load(folder));
}

}  // namespace parsimony
