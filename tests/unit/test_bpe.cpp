// GPT-2's tokenizer against an independent implementation in Python (tests/fixtures/decoders/bpe),
// its files, vocabularies learned from text, and the joining of pieces itself.
#include <parsimony/bpe.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/rng.hpp>

#include <algorithm>
#include <filesystem>

#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"
#include "text/merge.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::fixture;
using parsimony::testing::TempFolder;
using parsimony::testing::write_raw;

TEST_CASE("bpe: ids are the reference's, and decode to the text") {
  const BpeTokenizer tokenizer = BpeTokenizer::load(fixture("decoders/bpe"));
  const auto cases = nlohmann::json::parse(read_file(fixture("decoders/bpe/cases.json")));
  REQUIRE(cases.size() > 20);
  for (const auto& c : cases) {
    const auto text = c["text"].get<std::string>();
    INFO(text);
    const auto ids = tokenizer.ids(text);
    CHECK(ids == c["ids"].get<std::vector<std::int32_t>>());
    CHECK(tokenizer.decode(ids, false) == text);
  }
  CHECK_THROWS_WITH(tokenizer.ids("a\xff"), contains("byte 2: expected UTF-8; got 0xFF"));
  // Half a character.
  const auto half = tokenizer.ids("\u00e9\U0001f600");
  CHECK(tokenizer.decode({half.begin(), half.end() - 1}).find("\uFFFD") != std::string::npos);
}

TEST_CASE("bpe: GPT-2's own vocabulary") {
  const std::string vocabulary = find_data_file("", "vocab/gpt2-vocab.json");
  const std::string merges = find_data_file("", "vocab/gpt2-merges.txt");
  if (vocabulary.empty() || merges.empty()) {
    WARN("vocab/gpt2-vocab.json was not found: GPT-2's own ids are not checked");
    return;
  }
  const TempFolder temp;
  std::filesystem::copy(vocabulary, temp / "vocab.json");
  std::filesystem::copy(merges, temp / "merges.txt");
  const BpeTokenizer tokenizer = BpeTokenizer::load(temp.path());
  CHECK(tokenizer.size() == 50257);
  CHECK(tokenizer.eos_id() == 50256);
  CHECK(tokenizer.ids("Hello world") == std::vector<std::int32_t>{15496, 995});
  CHECK(tokenizer.ids("Hello, my dog is cute") ==
        std::vector<std::int32_t>{15496, 11, 616, 3290, 318, 13779});
  CHECK(tokenizer.ids("<|endoftext|>") == std::vector<std::int32_t>{50256});
}

TEST_CASE("bpe: files that disagree or are broken") {
  const TempFolder temp;
  const std::string vocabulary = read_file(fixture("decoders/bpe/vocab.json"));
  const std::string merges = read_file(fixture("decoders/bpe/merges.txt"));
  const auto load = [&](const std::string& v, const std::string& m) {
    write_raw(temp / "vocab.json", v);
    write_raw(temp / "merges.txt", m);
    return BpeTokenizer::load(temp.path());
  };
  CHECK_NOTHROW(load(vocabulary, merges));
  const std::string next = std::to_string(1 + std::count(merges.begin(), merges.end(), '\n'));
  CHECK_THROWS_WITH(load(vocabulary, merges + "q z\n"),
                    contains("merges.txt: line " + next +
                             ": 'q z': the vocabulary has no 'qz' (of vocab.json beside it): the "
                             "files disagree"));
  CHECK_THROWS_WITH(load(vocabulary, merges + "q\n"), contains("expected two pieces"));
  const std::size_t line = merges.find('\n') + 1;
  const std::string first = merges.substr(line, merges.find('\n', line) - line);
  CHECK_THROWS_WITH(load(vocabulary, merges + first + "\n"),
                    contains("'" + first + "' is there twice"));
  const auto without = [&](const std::string& part) {
    std::string text = vocabulary;
    text.erase(text.find(part), part.size());
    return text;
  };
  CHECK_THROWS_WITH(load(without("\"!\": 0, "), merges), contains("0 is missing"));
  CHECK_THROWS_WITH(load("[1]", merges), contains("expected a JSON object"));
  CHECK_THROWS_WITH(load("{\"a\": 0", merges), contains("expected JSON"));
  CHECK_THROWS_WITH(load("{\"a\": \"0\"}", merges), contains("'a': expected an id"));
  CHECK_THROWS_WITH(load("{\"a\": 0, \"b\": 0}", merges), contains("have the same id 0"));
  CHECK_THROWS_WITH(load("{\"a\": 0}", merges), contains("expected a token for every byte"));
}

TEST_CASE("bpe: saved and learned vocabularies") {
  const TempFolder temp;
  const std::string text =
      "the cat sat on the mat and the cat's hat; the theme of the other\nis the cat "
      "\u00e9t\u00e9\n";
  std::string corpus;
  for (int i = 0; i < 20; ++i) corpus += text;
  write_raw(temp / "corpus.txt", corpus);
  const BpeTokenizer learned = train_bpe({temp / "corpus.txt"}, 280);
  CHECK(learned.size() == 280);
  CHECK(learned.token(279) == "<|endoftext|>");
  CHECK(learned.eos_id() == 279);
  CHECK(learned.decode(learned.ids(text), false) == text);
  CHECK(learned.ids(text).size() < text.size() / 2);
  learned.save(temp / "saved");
  const auto again = load_tokenizer(temp / "saved");
  CHECK(again->size() == learned.size());
  CHECK(again->ids(text + "<|endoftext|>") == learned.ids(text + "<|endoftext|>"));
  // A smaller vocabulary's merges are the beginning of a larger one's.
  const BpeTokenizer smaller = train_bpe({temp / "corpus.txt"}, 270);
  for (index_t i = 0; i < 269; ++i) CHECK(smaller.token(i) == learned.token(i));
  CHECK_THROWS_WITH(train_bpe({temp / "corpus.txt"}, 256), contains("257"));
}

TEST_CASE("joining of pieces: the short way and the long way agree") {
  // Pieces a < b join into a + b where that is below 40, small sums first.
  const auto find = [](std::int32_t a, std::int32_t b) {
    return a + b < 40 && (a + b) % 7 != 0 ? text::Joined{-static_cast<double>(a + b), a + b}
                                          : text::Joined{};
  };
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::int32_t> pieces;
    for (int i = 0; i < 200; ++i) pieces.push_back(static_cast<std::int32_t>(1 + rng.below(12)));
    std::vector<std::int32_t> expected = pieces;
    while (true) {
      text::Joined best;
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
        const text::Joined j = find(expected[i], expected[i + 1]);
        if (j.merged >= 0 && (best.merged < 0 || j.priority > best.priority)) {
          best = j;
          at = i;
        }
      }
      if (best.merged < 0) break;
      expected[at] = best.merged;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    text::join_neighbours(pieces, find);
    CHECK(pieces == expected);
  }
}

TEST_CASE("sentencepiece: ids are those of the library's own binding") {
  const std::string folder = fixture("decoders/sentencepiece");
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = load_tokenizer(folder);
  } catch (const InputError& e) {
    CHECK_THAT(e.what(), contains("-Dsentencepiece=enabled"));
    WARN("this build has no SentencePiece");
    return;
  }
  const auto cases = nlohmann::json::parse(read_file(folder + "/cases.json"));
  REQUIRE(cases.size() > 15);
  for (const auto& c : cases) {
    const auto text = c["text"].get<std::string>();
    INFO(text);
    const auto ids = tokenizer->ids(text);
    CHECK(ids == c["ids"].get<std::vector<std::int32_t>>());
    CHECK(tokenizer->decode(ids) == text);
  }
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 2);
  CHECK(tokenizer->begins_with_bos());
  CHECK(tokenizer->encode("a", "b").ids.front() == 1);
  const TempFolder temp;
  tokenizer->save(temp / "saved");
  CHECK(load_tokenizer(temp / "saved")->ids("Hello world") == tokenizer->ids("Hello world"));
  write_raw(temp / "tokenizer.model", "no model");
  CHECK_THROWS_WITH(load_tokenizer(temp.path()), contains("expected a SentencePiece model"));
}
