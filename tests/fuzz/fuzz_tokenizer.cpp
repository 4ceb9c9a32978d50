// Any bytes as text, as a vocabulary, and as text to learn a vocabulary from. The first byte
// chooses which, and the settings.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>
#include <parsimony/vocabulary.hpp>

#include <vector>

#include "fuzz/targets.hpp"

namespace parsimony::fuzz {

namespace {

using Ids = std::vector<std::int32_t>;
const std::vector<std::string> specials = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

WordPieceOptions options_of(std::uint8_t choice) {
  WordPieceOptions options;
  options.lower_case = (choice & 1) != 0;
  if ((choice & 2) != 0) options.strip_accents = (choice & 4) != 0;
  options.tokenize_cjk = (choice & 8) != 0;
  if ((choice & 16) != 0) options.max_word_characters = 4;
  return options;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  return lines;
}

/// Single bytes and characters of several lengths, on their own and continuing.
const WordPieceTokenizer& known(const WordPieceOptions& options) {
  thread_local std::vector<std::pair<WordPieceOptions, WordPieceTokenizer>> made;
  const auto same = [&](const WordPieceOptions& o) {
    return o.lower_case == options.lower_case && o.strip_accents == options.strip_accents &&
           o.tokenize_cjk == options.tokenize_cjk &&
           o.max_word_characters == options.max_word_characters;
  };
  for (const auto& [o, tokenizer] : made) {
    if (same(o)) return tokenizer;
  }
  std::vector<std::string> tokens = specials;
  for (char c = '!'; c <= '~'; ++c) {
    tokens.emplace_back(1, c);
    if (c >= 'a' && c <= 'y') tokens.push_back(std::string("##") + c);
  }
  for (const char* piece : {"the", "##ing", "\u00e9", "##\u00e9", "\u03c3", "##\u03c2", "\u4e2d",
                            "##\uac00", "\U0001f600", "##\u0301", "\u0301", "i\u0307"}) {
    tokens.emplace_back(piece);
  }
  made.emplace_back(options, WordPieceTokenizer(tokens, options));
  return made.back().second;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void text(std::string_view bytes, const WordPieceOptions& options) {
  const WordPieceTokenizer& tokenizer = known(options);
  const bool bad = find_invalid_utf8(bytes) != std::string_view::npos;
  Ids ids;
  try {
    ids = tokenizer.ids(bytes);
    require(!bad, "text that is not UTF-8 is refused");
  } catch (const ValueError&) {
    require(bad, "text that is UTF-8 is not refused");
    return;
  }
  for (const auto id : ids) require(id >= 0 && id < tokenizer.size(), "ids are of the vocabulary");
  const std::string all(bytes);
  require(tokenizer.ids(all + " " + all) == joined(ids, ids), "a blank parts texts");
  require(tokenizer.tokenize(bytes).size() == ids.size(), "as many tokens as ids");
  tokenizer.decode(ids);

  // A zero-width space leaves no trace but takes the way of the characters that are not ASCII.
  std::string slow;
  bool ascii = true;
  for (const char c : all) {
    ascii = ascii && static_cast<unsigned char>(c) < 0x80;
    if (c == ' ') slow += "\u200b";
    slow += c;
  }
  if (ascii) require(tokenizer.ids(slow + "\u200b") == ids, "one result on both ways");

  const index_t limit = 3 + static_cast<index_t>(bytes.size() % 7);
  const Encoding e = tokenizer.encode(bytes, bytes, limit);
  require(static_cast<index_t>(e.ids.size()) <= limit, "a pair is cut to the limit");
  require(e.ids.size() == e.type_ids.size(), "as many types as ids");
  require(e.ids.front() == tokenizer.cls_id() && e.ids.back() == tokenizer.sep_id(),
          "[CLS] ... [SEP]");
}

void vocabulary(std::string_view bytes, const WordPieceOptions& options, bool whole) {
  std::vector<std::string> tokens = split_lines(bytes);
  if (!whole) tokens.insert(tokens.begin(), specials.begin(), specials.end());
  try {
    const WordPieceTokenizer tokenizer(tokens, options);
    for (index_t i = 0; i < tokenizer.size(); ++i) {
      require(tokenizer.id(tokenizer.token(i)) == i, "every token has its id");
    }
    const Ids ids = tokenizer.ids(bytes);
    require(tokenizer.decode(ids, false).size() <= bytes.size() * 8 + 8, "decoded text is bounded");
  } catch (const ValueError&) {
    // Repeated, empty or not UTF-8: most inputs.
  }
}

void training(std::string_view bytes, const WordPieceOptions& options) {
  WordCounter counter(options);
  try {
    counter.add(bytes);
  } catch (const ValueError&) {
    require(find_invalid_utf8(bytes) != std::string_view::npos,
            "text that is UTF-8 can be counted");
    return;
  }
  const std::vector<WordCount> words = counter.words();
  if (words.empty()) return;
  VocabularyOptions v;
  v.size = 100000;
  v.min_frequency = 1 + static_cast<index_t>(bytes.size() % 3);
  v.alphabet_limit = 100000;
  const std::vector<std::string> tokens = train_wordpiece(words, v);
  const WordPieceTokenizer tokenizer(tokens, options);
  for (const std::int32_t id : tokenizer.ids(bytes)) {
    require(id != tokenizer.unk_id() || bytes.find("[UNK]") != std::string_view::npos ||
                options.max_word_characters < 100 || bytes.size() > 100,
            "a vocabulary knows the words that it was learned from");
  }
  const index_t characters = static_cast<index_t>(tokens.size()) - 1;
  v.size = characters;
  try {
    const std::vector<std::string> fewer = train_wordpiece(words, v);
    require(fewer == std::vector<std::string>(tokens.begin(), tokens.end() - 1),
            "a smaller vocabulary is the beginning of a larger one");
  } catch (const ValueError&) {
    // No room for the characters alone.
  }
}

}  // namespace

void tokenizer(Input input) {
  const std::uint8_t choice = take_byte(input);
  const WordPieceOptions options = options_of(choice);
  switch (choice >> 5) {
    case 0:
      return vocabulary(as_text(input), options, true);
    case 1:
      return vocabulary(as_text(input), options, false);
    case 2:
      return training(as_text(input), options);
    default:
      return text(as_text(input), options);
  }
}

}  // namespace parsimony::fuzz
