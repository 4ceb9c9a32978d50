// Any bytes as text for a byte-level tokenizer, as its merges.txt, and as its vocab.json. The first
// byte chooses which.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "fuzz/targets.hpp"

namespace parsimony::fuzz {

namespace {

namespace fs = std::filesystem;

/// Vocabulary and merges of the bytes and a few joined ones.
struct Known {
  std::string vocabulary = "{", merges = "#version: 0.2\n";
  Known() {
    const std::vector<std::string> more = {"th", "the", "\u0120th", "\u0120the", "in", "ing"};
    int id = 0;
    const auto add = [&](const std::string& token) {
      std::string escaped;
      for (const char c : token) {
        if (c == '"' || c == '\\') escaped += '\\';
        escaped += c;
      }
      vocabulary += (id > 0 ? ",\"" : "\"") + escaped + "\":" + std::to_string(id);
      ++id;
    };
    int others = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      const int c = printable ? b : others++;
      std::string token;
      if (c < 0x80) {
        token += static_cast<char>(c);
      } else {
        token += static_cast<char>(0xC0 | c >> 6);
        token += static_cast<char>(0x80 | (c & 0x3F));
      }
      add(token);
    }
    for (const std::string& token : more) add(token);
    add("<|endoftext|>");
    vocabulary += "}";
    merges += "t h\nth e\n\u0120 th\n\u0120th e\ni n\nin g\n";
  }
};

/// A folder of this process.
const fs::path& folder() {
  static const fs::path path = [] {
    std::string pattern = (fs::temp_directory_path() / "parsimony-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::logic_error("mkdtemp failed");
    return fs::path(pattern);
  }();
  return path;
}

void write(const char* name, std::string_view bytes) {
  std::ofstream(folder() / name, std::ios::binary) << bytes;
}

const BpeTokenizer& known() {
  static const BpeTokenizer tokenizer = [] {
    const Known files;
    write("vocab.json", files.vocabulary);
    write("merges.txt", files.merges);
    return BpeTokenizer::load(folder().string());
  }();
  return tokenizer;
}

void text(std::string_view bytes) {
  const BpeTokenizer& tokenizer = known();
  const bool bad = find_invalid_utf8(bytes) != std::string_view::npos;
  try {
    const std::vector<std::int32_t> ids = tokenizer.ids(bytes);
    require(!bad, "text that is not UTF-8 is refused");
    require(tokenizer.decode(ids, false) == bytes, "ids decode to the text");
    std::size_t all = 0;
    for (const std::string_view word : bpe_words(bytes)) {
      require(!word.empty(), "no word is empty");
      all += word.size();
    }
    require(all == bytes.size(), "the words are all of the text");
  } catch (const ValueError&) {
    require(bad, "text that is UTF-8 is not refused");
  }
}

void files(std::string_view vocabulary, std::string_view merges) {
  write("vocab.json", vocabulary);
  write("merges.txt", merges);
  try {
    const BpeTokenizer tokenizer = BpeTokenizer::load(folder().string());
    const std::string sample = "the thing, <|endoftext|>\u00e9";
    require(tokenizer.decode(tokenizer.ids(sample), false) == sample, "ids decode to the text");
  } catch (const InputError&) {
    // Not JSON, not a vocabulary, merges of other pieces: most inputs.
  }
}

}  // namespace

void bpe(Input input) {
  const std::uint8_t choice = take_byte(input);
  static const Known good;
  switch (choice % 3) {
    case 0:
      return text(as_text(input));
    case 1:
      return files(good.vocabulary, as_text(input));
    default:
      return files(as_text(input), good.merges);
  }
}

}  // namespace parsimony::fuzz
