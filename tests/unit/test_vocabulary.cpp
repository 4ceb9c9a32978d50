// Learned vocabularies against a plain Python trainer, and their rules on cases small enough to
// work out by hand.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>

#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;
using nlohmann::json;
using Tokens = std::vector<std::string>;

namespace {

/// Without the five special tokens, which must be there.
Tokens learned(const std::vector<WordCount>& words, VocabularyOptions options) {
  options.size += 5;
  const Tokens all = train_wordpiece(words, options);
  REQUIRE(all.size() >= 5);
  CHECK(Tokens(all.begin(), all.begin() + 5) ==
        Tokens{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"});
  return Tokens(all.begin() + 5, all.end());
}

VocabularyOptions limits(index_t size, index_t min_frequency = 1, index_t alphabet = 1000) {
  VocabularyOptions options;
  options.size = size;
  options.min_frequency = min_frequency;
  options.alphabet_limit = alphabet;
  return options;
}

}  // namespace

TEST_CASE("vocabulary: as the Python reference learns it") {
  const json reference = json::parse(read_file(fixture("tokenizer.json")));
  const json& training = reference["training"];
  for (const bool lower : {true, false}) {
    WordPieceOptions words;
    words.lower_case = lower;
    WordCounter counter(words);
    for (const json& c : reference["cases"]) counter.add(c["text"].get<std::string>());
    const Tokens found = train_wordpiece(
        counter.words(),
        limits(training["size"], training["min_frequency"], training["alphabet_limit"]));
    const Tokens expected = reference["vocabularies"][lower ? "uncased" : "cased"].get<Tokens>();
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      INFO("token " << i);
      REQUIRE(found[i] == expected[i]);
    }
  }
}

TEST_CASE("vocabulary: characters, then the pair that occurs most") {
  // b+##a and ##a+##b both 5: "b" (id 6) is before "##a" (id 8), so ba is merged first.
  const std::vector<WordCount> words = {{"bab", 5}, {"cc", 4}};
  CHECK(learned(words, limits(100)) ==
        Tokens{"a", "b", "c", "##a", "##b", "##c", "ba", "bab", "cc"});
  CHECK(learned(words, limits(7)) == Tokens{"a", "b", "c", "##a", "##b", "##c", "ba"});
  CHECK(learned(words, limits(100, 5)) == Tokens{"a", "b", "c", "##a", "##b", "##c", "ba", "bab"});
  CHECK(learned(words, limits(6)) == Tokens{"a", "b", "c", "##a", "##b", "##c"});
}

TEST_CASE("vocabulary: runs of one character") {
  // ##a ##a overlaps itself; it is merged from the left, as text is.
  CHECK(learned({{"aaaaa", 1}}, limits(100)) == Tokens{"a", "##a", "##aa", "aaa", "aaaaa"});
}

TEST_CASE("vocabulary: rare characters leave with their words") {
  const std::vector<WordCount> words = {{"ab", 10}, {"ax", 1}, {"\xC3\xA9", 3}};
  CHECK(learned(words, limits(100, 1, 3)) == Tokens{"a", "b", "\xC3\xA9", "##b", "ab"});
  CHECK(learned(words, limits(100, 1, 1)) == Tokens{"a"});
}

TEST_CASE("vocabulary: order of the words does not matter") {
  std::vector<WordCount> words;
  for (int i = 0; i < 300; ++i) {
    std::string word;
    for (int n = i * 7919 + 1; n > 0; n /= 5) word += static_cast<char>('a' + n % 5);
    words.emplace_back(word, 1 + i % 4);
  }
  const Tokens forward = learned(words, limits(150, 2));
  std::reverse(words.begin(), words.end());
  CHECK(learned(words, limits(150, 2)) == forward);
  CHECK(forward.size() == 150);
}

TEST_CASE("vocabulary: what is refused") {
  CHECK_THROWS_WITH(train_wordpiece(std::vector<WordCount>{}), contains("no words"));
  CHECK_THROWS_WITH(learned({{"ab", 1}}, limits(2)), contains("are 8 tokens; got size 7"));
  CHECK_THROWS_WITH(learned({{"ab", 0}}, limits(9)), contains("with count 0"));
  CHECK_THROWS_WITH(learned({{"a\xFF", 1}}, limits(9)), contains("not UTF-8"));
  CHECK_THROWS_AS(learned({{"", 1}}, limits(9)), ValueError);
  CHECK_THROWS_AS(learned({{"ab", 1}}, limits(9, 0)), ValueError);
  VocabularyOptions twice;
  twice.special_tokens = {"[PAD]", "[PAD]"};
  CHECK_THROWS_WITH(train_wordpiece({WordCount{"a", 1}}, twice), contains("got '[PAD]'"));
}

TEST_CASE("vocabulary: words of files") {
  const TempFolder folder;
  write_raw(folder / "a.txt", "The cat, the [MASK] hat\r\n\n" + std::string(200, 'x') + " cat");
  write_raw(folder / "b.txt", "CAT\n");
  WordCounter counter;
  counter.add_file(folder / "a.txt");
  counter.add_file(folder / "b.txt");
  CHECK(counter.words() == std::vector<WordCount>{{",", 1}, {"cat", 3}, {"hat", 1}, {"the", 2}});

  write_raw(folder / "bad.txt", "one\ntwo\nab \xFF\n");
  CHECK_THROWS_WITH(counter.add_file(folder / "bad.txt"),
                    contains("bad.txt': line 3, byte 4: expected UTF-8; got 0xFF"));
  CHECK_THROWS_AS(counter.add_file(folder / "missing.txt"), InputError);
  CHECK_THROWS_AS(counter.add_file(folder.path()), InputError);

  // More than a block, with words across its borders, and a line longer than one.
  std::string text(1500000, ' ');
  for (std::size_t i = 0; i + 12 < text.size(); i += 13)
    text.replace(i, 12, "caf\xC3\xA9-monsie", 12);
  text += "\n";
  for (int i = 0; i < 200000; ++i) text += "word number\n";
  write_raw(folder / "long.txt", text);
  WordCounter streamed, whole;
  streamed.add_file(folder / "long.txt");
  whole.add(text);
  CHECK(streamed.words() == whole.words());
  CHECK(whole.words().size() == 5);

  const Tokens tokens = train_wordpiece({folder / "a.txt", folder / "b.txt"}, limits(40), {});
  CHECK(std::find(tokens.begin(), tokens.end(), "cat") != tokens.end());
}
