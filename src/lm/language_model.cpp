// Decoders and their tokenizers from folders and llama2.c's files.
#include <parsimony/error.hpp>
#include <parsimony/generate.hpp>
#include <parsimony/input_files.hpp>

#include <filesystem>

#include <fmt/format.h>

namespace parsimony {

namespace {

namespace fs = std::filesystem;

bool is_bin(const fs::path& path) { return path.extension() == ".bin"; }

/// Whether a file is a vocabulary by its name: tokenizer.bin, tok512.bin.
bool is_vocabulary(const fs::path& path) {
  return path.filename().string().compare(0, 3, "tok") == 0;
}

/// The one model of llama2.c in a folder, or "".
std::string llama2c_in(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool torch = name.compare(0, 8, "pytorch_") == 0 || name == "model.bin";
    if (is_bin(entry.path()) && !is_vocabulary(entry.path()) && !torch) {
      found.push_back(entry.path().string());
    }
  }
  if (found.size() > 1) {
    throw InputError(fmt::format("'{}': expected one model; got {} .bin files: name one of them",
                                 folder, found.size()));
  }
  return found.empty() ? "" : found[0];
}

LanguageModel load_bin(const std::string& path, const std::string& tokenizer) {
  LanguageModel out;
  out.decoder = load_llama2c<float>(path, DecoderHead::language, Rng(0));
  const index_t size = out.decoder->config().vocab_size;
  std::string vocabulary = tokenizer;
  if (vocabulary.empty()) {
    const fs::path folder = fs::path(path).parent_path();
    for (const std::string& name : {std::string("tokenizer.bin"), fmt::format("tok{}.bin", size)}) {
      if (vocabulary.empty() && fs::exists(folder / name)) vocabulary = (folder / name).string();
    }
    if (vocabulary.empty()) {
      throw InputError(
          fmt::format("'{}': expected its vocabulary beside it, tokenizer.bin or "
                      "tok{}.bin; name it with --tokenizer FILE",
                      path, size));
    }
  }
  out.tokenizer = is_bin(vocabulary) ? load_llama2c_tokenizer(vocabulary, size)
                                     : load_sentencepiece(vocabulary);
  return out;
}

/// Where a model is: a file of llama2.c's, or a folder of Hugging Face's form.
struct Source {
  std::string bin, folder;
};

Source source_of(const std::string& model) {
  const fs::path path(model_folder(model));
  std::string bin = fs::is_directory(path) ? "" : path.string();
  if (bin.empty() && !fs::exists(path / "config.json")) bin = llama2c_in(path.string());
  return {bin, bin.empty() ? path.string() : ""};
}

}  // namespace

bool names_decoder(const std::string& model) {
  if (!fs::exists(model)) return false;
  const Source source = source_of(model);
  if (!source.bin.empty()) return true;
  if (!fs::exists(fs::path(source.folder) / "config.json")) return false;
  const std::string type = model_type(source.folder);
  return type == "gpt2" || type == "llama";
}

LanguageModel load_language_model(const std::string& model, const std::string& adapter,
                                  const std::string& tokenizer) {
  LanguageModel out;
  check_exists(model, "a model folder, or a llama2.c .bin file");
  const Source source = source_of(model);
  if (!source.bin.empty()) {
    out = load_bin(source.bin, tokenizer);
  } else {
    const fs::path path(source.folder);
    out.folder = source.folder;
    out.decoder = load_decoder<float>(path.string(), DecoderHead::language, Rng(0));
    const std::string from = tokenizer.empty() ? path.string() : tokenizer;
    out.tokenizer =
        fs::path(from).extension() == ".model" ? load_sentencepiece(from) : load_tokenizer(from);
  }
  if (out.tokenizer->size() > out.decoder->config().vocab_size) {
    throw InputError(fmt::format("'{}': the tokenizer has {} tokens, the model's vocab_size is {}",
                                 model, out.tokenizer->size(), out.decoder->config().vocab_size));
  }
  if (!adapter.empty()) merge_adapter(*out.decoder, source.folder, adapter);
  return out;
}

}  // namespace parsimony
