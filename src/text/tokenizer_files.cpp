// Tokenizers on disk: vocab.txt and tokenizer_config.json of a Hugging Face model folder.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/tokenizer.hpp>

#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "text/refuse.hpp"
#include "text/tokenizer_impl.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using text::refuse;

constexpr const char* vocabulary_name = "vocab.txt";
constexpr const char* config_name = "tokenizer_config.json";
// How transformers says "no limit": any length above this.
constexpr double no_limit = 1e15;

/// What else it may be: said where a vocabulary was expected.
void refuse_binary(const std::string& path, const std::string& bytes) {
  const auto starts = [&](std::string_view with) {
    return bytes.compare(0, with.size(), with) == 0;
  };
  const char* found = starts("PK\x03\x04")                       ? "a zip archive (of PyTorch?)"
                      : starts("\x80\x02") || starts("\x80\x04") ? "a Python pickle"
                      : starts("{")                              ? "JSON"
                      : bytes.find('\0') != std::string::npos    ? "binary data"
                                                                 : nullptr;
  if (found == nullptr) return;
  refuse(path,
         fmt::format("expected a vocabulary, one token a line; got {}; hint: name the model's "
                     "folder or its vocab.txt",
                     found));
}

std::vector<std::string> read_vocabulary(const std::string& path) {
  const std::string bytes = read_file(path);
  refuse_binary(path, bytes);
  std::vector<std::string> tokens;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t end = bytes.find('\n', at);
    if (end == std::string::npos) end = bytes.size();
    const bool windows = end > at && bytes[end - 1] == '\r';
    tokens.emplace_back(bytes, at, end - at - (windows ? 1 : 0));
    at = end + 1;
  }
  text::check_vocabulary(tokens, "line", [&](index_t entry, const std::string& message) {
    if (entry < 0) refuse(path, message);
    refuse(path, fmt::format("line {}: {}", entry + 1, message));
  });
  return tokens;
}

bool flag_of(const std::string& path, const std::string& key, const json& value) {
  if (!value.is_boolean()) {
    refuse(path, fmt::format("{}: expected true or false; got {}", key, value.dump()));
  }
  return value.get<bool>();
}

/// A special token stands there as text, or as an object with its text as "content".
void check_special(const std::string& path, const std::string& key, std::string_view name,
                   const json& value) {
  const json& content = value.is_object() && value.contains("content") ? value["content"] : value;
  if (!content.is_null() && content != json(name)) {
    refuse(path,
           fmt::format("{}: expected \"{}\"; got {}; hint: only vocabularies with BERT's special "
                       "tokens are read",
                       key, name, content.dump()));
  }
}

WordPieceOptions read_config(const std::string& path, WordPieceOptions options) {
  json config;
  const std::string text = read_file(path);
  check_json_depth(path, text);
  try {
    config = json::parse(text);
  } catch (const json::exception& e) {
    refuse(path, fmt::format("expected JSON; {}", e.what()));
  }
  if (!config.is_object()) {
    refuse(path, fmt::format("expected a JSON object; got {}", config.type_name()));
  }
  static const std::pair<const char*, std::size_t> specials[] = {{"pad_token", text::pad},
                                                                 {"unk_token", text::unk},
                                                                 {"cls_token", text::cls},
                                                                 {"sep_token", text::sep},
                                                                 {"mask_token", text::mask}};
  for (const auto& [key, value] : config.items()) {
    if (key == "do_lower_case") {
      options.lower_case = flag_of(path, key, value);
    } else if (key == "strip_accents") {
      options.strip_accents.reset();
      if (!value.is_null()) options.strip_accents = flag_of(path, key, value);
    } else if (key == "tokenize_chinese_chars") {
      options.tokenize_cjk = flag_of(path, key, value);
    } else if (key == "model_max_length") {
      if (!value.is_number() || !(value.get<double>() >= 1)) {
        refuse(path, fmt::format("{}: expected a length; got {}", key, value.dump()));
      }
      const double length = value.get<double>();
      options.model_max_length = length < no_limit ? static_cast<index_t>(length) : 0;
    } else if (key == "do_basic_tokenize" && !flag_of(path, key, value)) {
      refuse(path, "do_basic_tokenize: expected true; text that is split already is not supported");
    }
    for (const auto& [name, which] : specials) {
      if (key == name) check_special(path, key, text::special_names[which], value);
    }
  }
  return options;
}

std::string vocabulary_in(const std::string& folder) {
  const fs::path path = fs::path(folder) / vocabulary_name;
  std::error_code error;
  if (fs::exists(path, error)) return path.string();
  std::string hint;
  for (const char* other : {"merges.txt", "vocab.json", "tokenizer.model", "spiece.model"}) {
    if (fs::exists(fs::path(folder) / other, error)) {
      hint = fmt::format("; {} belongs to a tokenizer that is not BERT's, which is not supported",
                         other);
    }
  }
  if (hint.empty() && fs::exists(fs::path(folder) / "tokenizer.json", error)) {
    hint =
        "; it has tokenizer.json only: save it with transformers' BertTokenizer to get vocab.txt";
  }
  refuse(folder, fmt::format("expected {} in the model's folder; it is not there{}",
                             vocabulary_name, hint));
}

}  // namespace

WordPieceTokenizer WordPieceTokenizer::load(const std::string& path,
                                            const WordPieceOptions& defaults) {
  WordPieceOptions options = defaults;
  std::string vocabulary = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    vocabulary = vocabulary_in(path);
    const std::string config = (fs::path(path) / config_name).string();
    if (fs::exists(config, error)) options = read_config(config, options);
  }
  text::check_options(options);
  return WordPieceTokenizer(std::make_shared<const Impl>(read_vocabulary(vocabulary), options));
}

void WordPieceTokenizer::save(const std::string& folder) const {
  for (const std::string& token : vocabulary()) {
    if (token.find_first_of("\r\n") != std::string::npos) {
      throw ValueError("save: a token with a line end cannot be written to vocab.txt");
    }
  }
  const WordPieceOptions& o = options();
  nlohmann::ordered_json config;
  config["tokenizer_class"] = "BertTokenizer";
  config["do_lower_case"] = o.lower_case;
  config["do_basic_tokenize"] = true;
  config["strip_accents"] = nullptr;
  if (o.strip_accents) config["strip_accents"] = *o.strip_accents;
  config["tokenize_chinese_chars"] = o.tokenize_cjk;
  if (o.model_max_length > 0) config["model_max_length"] = o.model_max_length;
  for (const std::string_view name : text::special_names) {
    std::string key;
    for (const char c : name.substr(1, name.size() - 2)) key += static_cast<char>(c - 'A' + 'a');
    config[key + "_token"] = name;
  }
  make_folders(folder);
  const auto in_folder = [&](const char* name) { return (fs::path(folder) / name).string(); };
  // The settings first: a vocabulary is never there with another's settings missing.
  write_file_atomically(in_folder(config_name), config.dump(2) + "\n");
  write_file_atomically(in_folder(vocabulary_name), [&](AtomicFile& file) {
    for (const std::string& token : vocabulary()) {
      file.write(token);
      file.write("\n");
    }
  });
}

}  // namespace parsimony
