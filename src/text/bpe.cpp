// Byte-level byte-pair encoding; the files are read in bpe_files.cpp.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "text/bpe_impl.hpp"
#include "text/merge.hpp"
#include "text/unicode.hpp"

namespace parsimony {

namespace text {

const std::array<std::string, 256>& byte_characters() {
  static const auto table = [] {
    std::array<std::string, 256> out;
    std::int32_t others = 0x100;
    for (std::int32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      append_utf8(printable ? b : others++, out[static_cast<std::size_t>(b)]);
    }
    return out;
  }();
  return table;
}

}  // namespace text

namespace {

constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

/// The bytes that a token stands for; a token with other characters stands for itself.
std::string bytes_of(const std::string& token) {
  static const auto bytes = [] {
    std::unordered_map<std::string_view, char> out;
    const auto& characters = text::byte_characters();
    for (std::size_t b = 0; b < 256; ++b) out[characters[b]] = static_cast<char>(b);
    return out;
  }();
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    const std::size_t begin = at;
    if (text::decode(token, at) < 0) return token;
    const auto found = bytes.find(std::string_view(token).substr(begin, at - begin));
    if (found == bytes.end()) return token;
    out += found->second;
  }
  return out;
}

}  // namespace

BpeTokenizer::Impl::Impl(std::vector<std::string> vocabulary,
                         const std::vector<std::pair<std::string, std::string>>& merges,
                         const std::vector<std::string>& special_tokens,
                         const std::string& end_token, const Fail& fail)
    : tokens(std::move(vocabulary)), merge_texts(merges) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty() || find_invalid_utf8(tokens[i]) != std::string_view::npos) {
      fail(-1, fmt::format("token {}: expected a text in UTF-8", i));
    }
    if (!ids.emplace(tokens[i], static_cast<std::int32_t>(i)).second) {
      fail(-1, fmt::format("'{}' is there twice", printable(tokens[i])));
    }
  }
  const auto id_of = [&](const std::string& token) {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  };
  for (std::size_t b = 0; b < 256; ++b) {
    byte_ids[b] = id_of(text::byte_characters()[b]);
    if (byte_ids[b] < 0) {
      fail(-1, fmt::format("expected a token for every byte; there is no '{}', byte 0x{:02X}",
                           text::byte_characters()[b], b));
    }
  }
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const std::int32_t merged = id_of(left + right);
    for (const auto& [token, id] : {std::pair{left, id_of(left)}, std::pair{right, id_of(right)},
                                    std::pair{left + right, merged}}) {
      if (id < 0) {
        fail(static_cast<index_t>(rank),
             fmt::format("'{} {}': the vocabulary has no '{}'", printable(left), printable(right),
                         printable(token)));
      }
    }
    const auto key = pair_key(id_of(left), id_of(right));
    if (!joins.emplace(key, std::pair{static_cast<std::int32_t>(rank), merged}).second) {
      fail(static_cast<index_t>(rank),
           fmt::format("'{} {}' is there twice", printable(left), printable(right)));
    }
  }
  for (const std::string& token : special_tokens) {
    const std::int32_t id = id_of(token);
    if (id < 0) fail(-1, fmt::format("the vocabulary has no special token '{}'", printable(token)));
    specials.emplace_back(token, id);
  }
  // The longest first: of two that begin alike, the longer one is meant.
  std::stable_sort(specials.begin(), specials.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  if (!end_token.empty()) {
    end = id_of(end_token);
    if (end < 0) fail(-1, fmt::format("the vocabulary has no '{}'", printable(end_token)));
  }
  for (const std::string& token : tokens) bytes.push_back(bytes_of(token));
}

BpeTokenizer::BpeTokenizer(const std::vector<std::string>& vocabulary,
                           const std::vector<std::pair<std::string, std::string>>& merges,
                           const std::vector<std::string>& specials, const std::string& end)
    : impl_(std::make_shared<const Impl>(
          vocabulary, merges, specials, end, [](index_t merge, const std::string& what) {
            throw ValueError(merge < 0 ? "bpe: " + what
                                       : fmt::format("bpe: merge {}: {}", merge, what));
          })) {}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::vector<std::string_view> bpe_words(std::string_view text) {
  enum class Kind { letter, number, sign, space };
  const auto kind_at = [&](std::size_t at, std::size_t& end) {
    end = at;
    const std::int32_t c = text::decode(text, end);
    if (c < 0) {
      throw ValueError(fmt::format("tokenizer: byte {}: expected UTF-8; got 0x{:02X}", at + 1,
                                   static_cast<unsigned char>(text[at])));
    }
    return text::is_letter(c)        ? Kind::letter
           : text::is_number(c)      ? Kind::number
           : text::is_white_space(c) ? Kind::space
                                     : Kind::sign;
  };
  std::vector<std::string_view> words;
  const auto run_from = [&](std::size_t at, Kind kind) {
    std::size_t end = at;
    for (std::size_t next = at; end < text.size() && kind_at(end, next) == kind;) end = next;
    return end;
  };
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    if (text[at] == '\'') {
      for (const std::string_view tail : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        if (text.substr(at, tail.size()) == tail) {
          end = at + tail.size();
          break;
        }
      }
    }
    if (end == at) {
      std::size_t next = at;
      Kind kind = kind_at(at, next);
      std::size_t begin = at;
      if (text[at] == ' ' && next < text.size()) {
        std::size_t after = next;
        const Kind following = kind_at(next, after);
        if (following != Kind::space) {
          kind = following;
          begin = next;
        }
      }
      end = run_from(begin, kind);
      // White space before a word leaves its last character to it.
      if (kind == Kind::space && end < text.size()) {
        std::size_t last = at;
        for (std::size_t i = at; i < end;) {
          last = i;
          kind_at(i, i);
        }
        if (last > at) end = last;
      }
    }
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

void BpeTokenizer::append_ids(std::string_view text, std::vector<std::int32_t>& out) const {
  const Impl& t = *impl_;
  thread_local std::vector<std::int32_t> pieces;
  const auto plain = [&](std::string_view part) {
    for (const std::string_view word : bpe_words(part)) {
      pieces.clear();
      for (const char c : word) pieces.push_back(t.byte_ids[static_cast<unsigned char>(c)]);
      text::join_neighbours(pieces, [&](std::int32_t left, std::int32_t right) {
        const auto found = t.joins.find(pair_key(left, right));
        return found == t.joins.end()
                   ? text::Joined{}
                   : text::Joined{-static_cast<double>(found->second.first), found->second.second};
      });
      out.insert(out.end(), pieces.begin(), pieces.end());
    }
  };
  std::size_t from = 0;
  for (std::size_t at = 0; at < text.size() && !t.specials.empty();) {
    const auto special = std::find_if(t.specials.begin(), t.specials.end(), [&](const auto& s) {
      return text.compare(at, s.first.size(), s.first) == 0;
    });
    if (special == t.specials.end()) {
      ++at;
      continue;
    }
    plain(text.substr(from, at - from));
    out.push_back(special->second);
    at += special->first.size();
    from = at;
  }
  plain(text.substr(from));
}

std::string BpeTokenizer::decode(const std::vector<std::int32_t>& ids, bool skip_special) const {
  std::string out;
  for (const std::int32_t id : ids) {
    token(id);  // checks
    if (skip_special && is_special(id)) continue;
    out += impl_->bytes[static_cast<std::size_t>(id)];
  }
  return text::replace_invalid_utf8(out);
}

index_t BpeTokenizer::size() const { return static_cast<index_t>(impl_->tokens.size()); }

const std::string& BpeTokenizer::token(index_t id) const {
  if (id < 0 || id >= size()) {
    throw ValueError(fmt::format("token: expected an id in 0..{}; got {}", size() - 1, id));
  }
  return impl_->tokens[static_cast<std::size_t>(id)];
}

std::int32_t BpeTokenizer::eos_id() const { return impl_->end; }

bool BpeTokenizer::is_special(index_t id) const {
  return std::any_of(impl_->specials.begin(), impl_->specials.end(),
                     [id](const auto& s) { return s.second == id; });
}

}  // namespace parsimony
