// Words into pieces, pieces into the input of a model.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "text/specials.hpp"
#include "text/tokenizer_impl.hpp"

namespace parsimony {

namespace text {

void check_vocabulary(const std::vector<std::string>& tokens, std::string_view unit,
                      const std::function<void(index_t entry, const std::string& message)>& fail) {
  if (tokens.empty()) fail(-1, "the vocabulary is empty");
  std::unordered_map<std::string_view, std::size_t> seen;
  seen.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto entry = static_cast<index_t>(i);
    if (tokens[i].empty()) fail(entry, "expected a token; got an empty one");
    if (const auto bad = find_invalid_utf8(tokens[i]); bad != std::string_view::npos) {
      fail(entry, fmt::format("byte {}: expected UTF-8; got 0x{:02X}", bad + 1,
                              static_cast<unsigned char>(tokens[i][bad])));
    }
    const auto [at, is_new] = seen.emplace(tokens[i], i);
    if (!is_new)
      fail(entry, fmt::format("'{}' repeats {} {}", printable(tokens[i]), unit, at->second + 1));
  }
  std::vector<std::string_view> missing;
  for (const std::string_view name : special_names) {
    if (seen.find(name) == seen.end()) missing.push_back(name);
  }
  if (!missing.empty()) {
    fail(-1, fmt::format("the vocabulary lacks {}; a BERT vocabulary has {}",
                         fmt::join(missing, ", "), fmt::join(special_names, ", ")));
  }
}

void check_options(const WordPieceOptions& options) {
  if (options.max_word_characters < 1) {
    throw ValueError(fmt::format("tokenizer: max_word_characters: expected 1 or more; got {}",
                                 options.max_word_characters));
  }
  if (options.model_max_length < 0) {
    throw ValueError(fmt::format("tokenizer: model_max_length: expected 0 or more; got {}",
                                 options.model_max_length));
  }
}

}  // namespace text

std::vector<std::int32_t> Tokenizer::ids(std::string_view text) const {
  std::vector<std::int32_t> out;
  out.reserve(text.size() / 4 + 1);
  append_ids(text, out);
  return out;
}

Encoding Tokenizer::encode(std::string_view text, std::optional<std::string_view> second,
                           index_t max_length) const {
  const std::int32_t between = eos_id() >= 0 ? eos_id() : bos_id();
  const bool begins = begins_with_bos();
  const index_t marks = (begins ? 1 : 0) + (second && between >= 0 ? 1 : 0);
  if (max_length < 0 || (max_length > 0 && max_length < marks + 1)) {
    throw ValueError(
        fmt::format("encode: max_length: expected at least {}, or 0 for no limit; got {}",
                    marks + 1, max_length));
  }
  std::vector<std::int32_t> a = ids(text), b;
  if (second) append_ids(*second, b);
  if (max_length > 0) truncate_pair(a, b, max_length - marks);
  Encoding e;
  if (begins) e.ids.push_back(bos_id());
  e.ids.insert(e.ids.end(), a.begin(), a.end());
  if (second && between >= 0) e.ids.push_back(between);
  e.ids.insert(e.ids.end(), b.begin(), b.end());
  // A model needs something to read: an empty text is its end.
  if (e.ids.empty()) e.ids.push_back(std::max(between, 0));
  e.type_ids.assign(e.ids.size(), 0);
  return e;
}

std::int32_t Tokenizer::pad_id() const { return std::max(eos_id(), 0); }

WordPieceTokenizer::Impl::Impl(std::vector<std::string> vocabulary,
                               const WordPieceOptions& settings)
    : tokens(std::move(vocabulary)), options(settings), trie(tokens), splitter(settings) {
  for (std::size_t i = 0; i < special.size(); ++i) special[i] = trie.exact(text::special_names[i]);
  taken_out.assign(special.begin(), special.end());
  for (const std::string& token : options.added_tokens) {
    taken_out.push_back(trie.exact(token));
    if (taken_out.back() >= 0) continue;
    throw ValueError(
        fmt::format("tokenizer: added_tokens: the vocabulary has no '{}'", printable(token)));
  }
  specials = text::Specials(options.added_tokens);
}

WordPieceTokenizer::WordPieceTokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

WordPieceTokenizer::WordPieceTokenizer(std::vector<std::string> vocabulary,
                                       const WordPieceOptions& options) {
  text::check_vocabulary(vocabulary, "entry", [](index_t entry, const std::string& message) {
    throw ValueError(entry < 0 ? "tokenizer: " + message
                               : fmt::format("tokenizer: entry {}: {}", entry + 1, message));
  });
  text::check_options(options);
  impl_ = std::make_shared<const Impl>(std::move(vocabulary), options);
}

void WordPieceTokenizer::append_ids(std::string_view text, std::vector<std::int32_t>& out) const {
  const Impl& t = *impl_;
  const auto limit = static_cast<std::size_t>(t.options.max_word_characters);
  const std::int32_t unknown = t.special[text::unk];
  // Kept from call to call, so that short texts cost no allocation.
  thread_local text::WordScratch scratch;
  const auto on_word = [&](std::string_view word, std::size_t characters) {
    if (characters > limit) {
      out.push_back(unknown);
      return;
    }
    const std::size_t before = out.size();
    for (std::size_t at = 0; at < word.size();) {
      const auto piece = t.trie.longest(word.substr(at), at > 0);
      if (piece.id < 0) {  // one hole makes the whole word unknown
        out.resize(before);
        out.push_back(unknown);
        return;
      }
      out.push_back(piece.id);
      at += piece.length;
    }
  };
  t.specials.split(
      text,
      [&](std::string_view part, std::size_t origin) {
        t.splitter.split(part, origin, scratch, on_word);
      },
      [&](std::size_t special) { out.push_back(t.taken_out[special]); });
}

std::vector<std::string> WordPieceTokenizer::tokenize(std::string_view text) const {
  std::vector<std::string> out;
  for (const std::int32_t i : ids(text)) out.push_back(impl_->tokens[static_cast<std::size_t>(i)]);
  return out;
}

void truncate_pair(std::vector<std::int32_t>& first, std::vector<std::int32_t>& second,
                   index_t room) {
  if (room < 0) throw ValueError(fmt::format("truncate_pair: expected room >= 0; got {}", room));
  auto a = static_cast<index_t>(first.size());
  auto b = static_cast<index_t>(second.size());
  index_t excess = a + b - room;
  if (excess <= 0) return;
  // Down to equal lengths, then by turns, the second first: what popping one by one comes to.
  index_t& longer = a > b ? a : b;
  const index_t to_equal = std::min(excess, a > b ? a - b : b - a);
  longer -= to_equal;
  excess -= to_equal;
  b -= (excess + 1) / 2;
  a -= excess / 2;
  first.resize(static_cast<std::size_t>(a));
  second.resize(static_cast<std::size_t>(b));
}

Encoding WordPieceTokenizer::encode(std::string_view text, std::optional<std::string_view> second,
                                    index_t max_length) const {
  const index_t marks = second ? 3 : 2;
  if (max_length < 0 || (max_length > 0 && max_length < marks)) {
    throw ValueError(fmt::format(
        "encode: max_length: expected at least {}, for [CLS] and {}, or 0 for no limit; got {}",
        marks, second ? "two [SEP]" : "[SEP]", max_length));
  }
  std::vector<std::int32_t> a = ids(text), b;
  if (second) append_ids(*second, b);
  if (max_length > 0) truncate_pair(a, b, max_length - marks);
  Encoding e;
  e.ids.reserve(a.size() + b.size() + 3);
  e.ids.push_back(cls_id());
  e.ids.insert(e.ids.end(), a.begin(), a.end());
  e.ids.push_back(sep_id());
  e.type_ids.assign(e.ids.size(), 0);
  if (second) {
    e.ids.insert(e.ids.end(), b.begin(), b.end());
    e.ids.push_back(sep_id());
    e.type_ids.resize(e.ids.size(), 1);
  }
  return e;
}

std::string WordPieceTokenizer::decode(const std::vector<std::int32_t>& ids,
                                       bool skip_special) const {
  std::string out;
  for (const std::int32_t i : ids) {
    const std::string& piece = token(i);
    if (skip_special && is_special(i)) continue;
    if (text::is_continuation(piece) && !out.empty()) {
      out.append(piece, 2);
    } else {
      if (!out.empty()) out += ' ';
      out += piece;
    }
  }
  return out;
}

index_t WordPieceTokenizer::size() const { return static_cast<index_t>(impl_->tokens.size()); }

const std::string& WordPieceTokenizer::token(index_t id) const {
  if (id < 0 || id >= size()) {
    throw ValueError(fmt::format("token: expected an id in 0..{}; got {}", size() - 1, id));
  }
  return impl_->tokens[static_cast<std::size_t>(id)];
}

std::int32_t WordPieceTokenizer::id(std::string_view token) const {
  const std::int32_t found = impl_->trie.exact(token);
  return found < 0 ? unk_id() : found;
}

bool WordPieceTokenizer::contains(std::string_view token) const {
  return impl_->trie.exact(token) >= 0;
}

const std::vector<std::string>& WordPieceTokenizer::vocabulary() const { return impl_->tokens; }
const WordPieceOptions& WordPieceTokenizer::options() const { return impl_->options; }
std::int32_t WordPieceTokenizer::pad_id() const { return impl_->special[text::pad]; }
std::int32_t WordPieceTokenizer::unk_id() const { return impl_->special[text::unk]; }
std::int32_t WordPieceTokenizer::cls_id() const { return impl_->special[text::cls]; }
std::int32_t WordPieceTokenizer::sep_id() const { return impl_->special[text::sep]; }
std::int32_t WordPieceTokenizer::mask_id() const { return impl_->special[text::mask]; }

bool WordPieceTokenizer::is_special(index_t id) const {
  const auto& special = impl_->special;
  return std::find(special.begin(), special.end(), id) != special.end();
}

}  // namespace parsimony
