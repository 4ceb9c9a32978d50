// Byte-level BPE on disk: vocab.json, merges.txt and the special tokens of a Hugging Face folder.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "text/bpe_impl.hpp"
#include "text/refuse.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;  // not its ordered kind, which looks through all keys to add one
using text::refuse;

constexpr const char* end_of_text = "<|endoftext|>";

json read_object(const std::string& path) {
  try {
    constexpr int deepest = 8;
    auto object = json::parse(read_file(path), [&](int depth, json::parse_event_t, json&) {
      if (depth > deepest) refuse(path, fmt::format("nested deeper than {} levels", deepest));
      return true;
    });
    if (!object.is_object()) refuse(path, "expected a JSON object");
    return object;
  } catch (const json::exception& e) {
    refuse(path, fmt::format("expected JSON; {}", printable(e.what(), 200)));
  }
}

/// Adds the tokens and ids of an object to a vocabulary in the making.
void add_tokens(const std::string& path, std::map<std::int64_t, std::string>& by_id) {
  const json object = read_object(path);
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0) {
      refuse(path,
             fmt::format("'{}': expected an id of 0 or more; got {}", printable(token), id.dump()));
    }
    const auto [at, is_new] = by_id.emplace(id.get<std::int64_t>(), token);
    if (!is_new && at->second != token) {
      refuse(path, fmt::format("'{}' and '{}' have the same id {}", printable(at->second),
                               printable(token), at->first));
    }
  }
}

/// The tokens by id, which must be 0, 1, ...
std::vector<std::string> in_order(const std::string& path,
                                  const std::map<std::int64_t, std::string>& by_id) {
  std::vector<std::string> tokens;
  for (const auto& [id, token] : by_id) {
    if (id != static_cast<std::int64_t>(tokens.size())) {
      refuse(path, fmt::format("expected ids from 0 without a hole; {} is missing", tokens.size()));
    }
    tokens.push_back(token);
  }
  return tokens;
}

struct Merges {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::vector<index_t> lines;
};

Merges read_merges(const std::string& path) {
  const std::string text = read_file(path);
  Merges out;
  index_t line = 0;
  for (std::size_t at = 0; at < text.size();) {
    ++line;
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string row = text.substr(at, end - at);
    at = end + 1;
    if (!row.empty() && row.back() == '\r') row.pop_back();
    if (row.empty() || (line == 1 && row.compare(0, 8, "#version") == 0)) continue;
    const std::size_t blank = row.find(' ');
    if (blank == std::string::npos || blank == 0 || blank + 1 == row.size() ||
        row.find(' ', blank + 1) != std::string::npos) {
      refuse(path, fmt::format("line {}: expected two pieces with a blank between; got '{}'", line,
                               printable(row)));
    }
    out.pairs.emplace_back(row.substr(0, blank), row.substr(blank + 1));
    out.lines.push_back(line);
  }
  return out;
}

/// A token of tokenizer_config.json, a text or an object with its content; "" for none.
std::string token_of(const json& config, const char* key) {
  if (!config.contains(key)) return "";
  const json& value = config[key];
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return "";
}

}  // namespace

BpeTokenizer BpeTokenizer::load(const std::string& folder) {
  const auto in_folder = [&](const char* name) { return (fs::path(folder) / name).string(); };
  const std::string vocabulary_path = in_folder("vocab.json");
  const std::string merges_path = in_folder("merges.txt");
  std::map<std::int64_t, std::string> by_id;
  add_tokens(vocabulary_path, by_id);
  std::vector<std::string> specials;
  if (const std::string added = in_folder("added_tokens.json"); fs::exists(added)) {
    add_tokens(added, by_id);
    const json object = read_object(added);
    for (const auto& [token, id] : object.items()) specials.push_back(token);
  }
  const std::vector<std::string> tokens = in_order(vocabulary_path, by_id);
  const auto known = [&](const std::string& token) {
    return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
  };
  std::string end = known(end_of_text) ? end_of_text : "";
  if (const std::string path = in_folder("tokenizer_config.json"); fs::exists(path)) {
    const json config = read_object(path);
    if (const std::string named = token_of(config, "eos_token"); !named.empty()) end = named;
    for (const char* key : {"bos_token", "unk_token", "pad_token"}) {
      if (const std::string token = token_of(config, key); known(token)) specials.push_back(token);
    }
  }
  if (!end.empty()) specials.push_back(end);
  std::sort(specials.begin(), specials.end());
  specials.erase(std::unique(specials.begin(), specials.end()), specials.end());
  const Merges merges = read_merges(merges_path);
  return BpeTokenizer(std::make_shared<const Impl>(
      tokens, merges.pairs, specials, end, [&](index_t merge, const std::string& what) {
        if (merge < 0) refuse(vocabulary_path, what);
        refuse(merges_path, fmt::format("line {}: {} (of vocab.json beside it): the files disagree",
                                        merges.lines[static_cast<std::size_t>(merge)], what));
      }));
}

void BpeTokenizer::save(const std::string& folder) const {
  const Impl& t = *impl_;
  json config;
  config["tokenizer_class"] = "GPT2Tokenizer";
  config["add_prefix_space"] = false;
  if (t.end >= 0) {
    for (const char* key : {"bos_token", "eos_token", "unk_token"}) {
      config[key] = t.tokens[static_cast<std::size_t>(t.end)];
    }
  }
  json added = json::object();
  for (const auto& [token, id] : t.specials) {
    if (id != t.end) added[token] = id;
  }
  make_folders(folder);
  const auto in_folder = [&](const char* name) { return (fs::path(folder) / name).string(); };
  write_file_atomically(in_folder("tokenizer_config.json"), config.dump(2) + "\n");
  if (!added.empty()) write_file_atomically(in_folder("added_tokens.json"), added.dump(2) + "\n");
  write_file_atomically(in_folder("merges.txt"), [&](AtomicFile& file) {
    file.write("#version: 0.2\n");
    for (const auto& [left, right] : t.merge_texts) file.write(left + " " + right + "\n");
  });
  write_file_atomically(in_folder("vocab.json"), [&](AtomicFile& file) {
    for (std::size_t i = 0; i < t.tokens.size(); ++i) {
      file.write(fmt::format("{}{}: {}", i == 0 ? "{" : ", ", json(t.tokens[i]).dump(), i));
    }
    file.write("}\n");
  });
}

}  // namespace parsimony
