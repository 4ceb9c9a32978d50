// Tokenizers on disk: vocab.txt, tokenizer_config.json and the files of added tokens of a Hugging
// Face model folder.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <set>
#include <unordered_map>
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
constexpr const char* specials_name = "special_tokens_map.json";
constexpr const char* added_name = "added_tokens.json";
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

json read_object(const std::string& path) {
  const std::string text = read_file(path);
  check_json_depth(path, text);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& e) {
    refuse(path, fmt::format("expected JSON; {}", printable(e.what(), 200)));
  }
  if (!object.is_object()) {
    refuse(path, fmt::format("expected a JSON object; got {}", object.type_name()));
  }
  return object;
}

/// A token that a folder adds, its id if the file says one, and where it says so.
struct AddedToken {
  std::string token;
  std::optional<index_t> id;
  std::string path, key;
};
using AddedTokens = std::vector<AddedToken>;

/// A token is a text, or an object with its text as "content".
void take_added(const std::string& path, const std::string& key, const json& value,
                std::optional<index_t> id, AddedTokens& added) {
  const json& content = value.is_object() && value.contains("content") ? value["content"] : value;
  const bool alone = value.contains("single_word") && value["single_word"] != json(false);
  if (!content.is_string() || alone) {
    refuse(path, fmt::format("{}: expected tokens that are found inside words too; got {}", key,
                             value.dump()));
  }
  added.push_back({content.get<std::string>(), id, path, key});
}

/// Ids and their tokens, as added_tokens_decoder has them.
void take_decoder(const std::string& path, const std::string& key, const json& value,
                  AddedTokens& added) {
  if (!value.is_object()) refuse(path, fmt::format("{}: expected an object of tokens by id", key));
  for (const auto& [id, token] : value.items()) {
    constexpr std::size_t longest = 9;  // digits of any id
    if (id.empty() || id.size() > longest || id.find_first_not_of("0123456789") != id.npos) {
      refuse(path, fmt::format("{}: expected ids; got '{}'", key, printable(id)));
    }
    take_added(path, key, token, std::stoll(id), added);
  }
}

/// The token and its id of added_tokens.json.
void take_file(const std::string& path, AddedTokens& added) {
  const json object = read_object(path);
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_integer()) {
      refuse(path, fmt::format("'{}': expected an id; got {}", printable(token), id.dump()));
    }
    added.push_back({token, id.get<index_t>(), path, printable(token)});
  }
}

/// What both tokenizer_config.json and special_tokens_map.json say of tokens.
void take_tokens(const std::string& path, const std::string& key, const json& value,
                 AddedTokens& added) {
  static const std::pair<const char*, std::size_t> specials[] = {{"pad_token", text::pad},
                                                                 {"unk_token", text::unk},
                                                                 {"cls_token", text::cls},
                                                                 {"sep_token", text::sep},
                                                                 {"mask_token", text::mask}};
  for (const auto& [name, which] : specials) {
    if (key == name) check_special(path, key, text::special_names[which], value);
  }
  if ((key != "additional_special_tokens" && key != "extra_special_tokens") || value.is_null()) {
    return;
  }
  if (!value.is_array() && !value.is_object()) {
    refuse(path, fmt::format("{}: expected a list of tokens; got {}", key, value.dump()));
  }
  for (const auto& [unused, token] : value.items()) take_added(path, key, token, {}, added);
}

/// Other classes split words by other rules.
void check_class(const std::string& path, const json& value) {
  static const char* const same[] = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer",
                                     "MobileBertTokenizer", "PreTrainedTokenizer"};
  std::string name = value.is_string() ? value.get<std::string>() : value.dump();
  if (ends_with(name, "Fast")) name.resize(name.size() - 4);
  if (!value.is_null() && std::find(std::begin(same), std::end(same), name) == std::end(same)) {
    refuse(path, fmt::format("tokenizer_class: expected BertTokenizer beside vocab.txt; got {}",
                             value.dump()));
  }
}

void check_never_split(const std::string& path, const json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return;
  refuse(path, fmt::format("never_split is not supported; got {}; hint: additional_special_tokens "
                           "are not split",
                           value.dump()));
}

WordPieceOptions read_config(const std::string& path, WordPieceOptions options,
                             AddedTokens& added) {
  const json config = read_object(path);
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
    } else if (key == "tokenizer_class") {
      check_class(path, value);
    } else if (key == "never_split") {
      check_never_split(path, value);
    } else if (key == "added_tokens_decoder" && !value.is_null()) {
      take_decoder(path, key, value, added);
    }
    take_tokens(path, key, value, added);
  }
  return options;
}

/// Adds them to the options. @throws InputError on one that the vocabulary does not have, or has
/// under another id.
void add_tokens(const AddedTokens& added, const std::vector<std::string>& vocabulary,
                WordPieceOptions& options) {
  if (added.empty()) return;
  std::unordered_map<std::string_view, index_t> ids;
  for (const std::string& token : vocabulary) {
    ids.emplace(token, static_cast<index_t>(ids.size()));
  }
  std::set<std::string_view> known(text::special_names.begin(), text::special_names.end());
  known.insert(options.added_tokens.begin(), options.added_tokens.end());
  std::vector<std::string> more;
  for (const AddedToken& a : added) {
    const auto found = ids.find(a.token);
    if (found == ids.end() || (a.id && *a.id != found->second)) {
      refuse(a.path,
             fmt::format("{}: '{}'{}: expected a token of vocab.txt; {}", a.key, printable(a.token),
                         a.id ? fmt::format(" with id {}", *a.id) : "",
                         found == ids.end() ? "it is not there"
                                            : fmt::format("there it is {}", found->second)));
    }
    if (known.insert(a.token).second) more.push_back(a.token);
  }
  options.added_tokens.insert(options.added_tokens.end(), more.begin(), more.end());
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
  AddedTokens added;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    vocabulary = vocabulary_in(path);
    const auto in_folder = [&](const char* name) { return (fs::path(path) / name).string(); };
    if (const std::string file = in_folder(config_name); fs::exists(file, error)) {
      options = read_config(file, options, added);
    }
    if (const std::string file = in_folder(specials_name); fs::exists(file, error)) {
      const json tokens = read_object(file);
      for (const auto& [key, value] : tokens.items()) take_tokens(file, key, value, added);
    }
    if (const std::string file = in_folder(added_name); fs::exists(file, error)) {
      take_file(file, added);
    }
  }
  text::check_options(options);
  std::vector<std::string> tokens = read_vocabulary(vocabulary);
  add_tokens(added, tokens, options);
  return WordPieceTokenizer(std::make_shared<const Impl>(std::move(tokens), options));
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
  if (!o.added_tokens.empty()) config["additional_special_tokens"] = o.added_tokens;
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
