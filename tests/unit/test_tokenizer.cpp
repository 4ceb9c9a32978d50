// The tokenizer against an independent Python one on hard strings, and what it does with lengths,
// files and faults.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;
using nlohmann::json;
using Ids = std::vector<std::int32_t>;

namespace {

const json& reference() {
  static const json loaded = json::parse(read_file(fixture("tokenizer.json")));
  return loaded;
}

std::vector<std::string> vocabulary(const std::string& name) {
  return reference()["vocabularies"][name].get<std::vector<std::string>>();
}

WordPieceOptions variant(const std::string& name) {
  const json& flags = reference()["variants"][name];
  WordPieceOptions options;
  options.lower_case = flags["lower_case"];
  options.strip_accents = flags["strip_accents"].get<bool>();
  options.tokenize_cjk = flags["tokenize_cjk"];
  return options;
}

/// Small enough to see through: ids are the places in the list.
WordPieceTokenizer tiny() {
  return WordPieceTokenizer({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able",
                             "a", "##b", "##c", ",", "un##"});
}

std::string lines(std::vector<std::string> tokens) {
  std::string text;
  for (const auto& token : tokens) text += token + "\n";
  return text;
}

const std::vector<std::string> specials = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

void compare(const WordPieceTokenizer& tokenizer, const std::string& expected) {
  std::size_t compared = 0;
  for (const json& c : reference()["cases"]) {
    const std::string text = c["text"];
    INFO(expected << ": " << c["text"].dump(-1, ' ', true));
    CHECK(tokenizer.ids(text) == c[expected].get<Ids>());
    ++compared;
  }
  CHECK(compared >= 700);
}

}  // namespace

TEST_CASE("tokenizer: hard strings as the Python reference") {
  for (const auto& [name, flags] : reference()["variants"].items()) {
    const bool lower = flags["lower_case"];
    compare(WordPieceTokenizer(vocabulary(lower ? "uncased" : "cased"), variant(name)), name);
  }
}

TEST_CASE("tokenizer: hard strings in BERT's own vocabulary") {
  const char* data = std::getenv("PARSIMONY_DATA");
  const std::string path =
      std::string(data != nullptr ? data : "data") + "/vocab/bert-base-uncased-vocab.txt";
  if (!std::filesystem::exists(path)) {
    WARN("no " << path << ": BERT's vocabulary is not tested; set PARSIMONY_DATA");
    return;
  }
  const auto tokenizer = WordPieceTokenizer::load(path);
  CHECK(tokenizer.size() == 30522);
  CHECK(tokenizer.pad_id() == 0);
  CHECK(tokenizer.unk_id() == 100);
  CHECK(tokenizer.cls_id() == 101);
  CHECK(tokenizer.sep_id() == 102);
  CHECK(tokenizer.mask_id() == 103);
  CHECK(tokenizer.encode("Hello, World!").ids == Ids{101, 7592, 1010, 2088, 999, 102});
  compare(tokenizer, "bert-uncased");
}

TEST_CASE("tokenizer: pieces, ids and back") {
  const auto t = tiny();
  CHECK(t.tokenize("unaffable, AB") ==
        std::vector<std::string>{"un", "##aff", "##able", ",", "a", "##b"});
  CHECK(t.ids("unaffable unaffably") == Ids{5, 6, 7, 1});
  CHECK(t.ids("a[MASK]b [mask]") == Ids{8, 4, 1, 1, 1, 1});
  CHECK(t.ids("").empty());
  CHECK(t.ids(" \t\n\r").empty());
  CHECK(t.decode({2, 5, 6, 7, 11, 8, 9, 3, 0}) == "unaffable , ab");
  CHECK(t.decode({2, 5, 6, 3}, false) == "[CLS] unaff [SEP]");
  CHECK(t.decode({6}) == "##aff");
  CHECK(t.size() == 13);
  CHECK(t.token(6) == "##aff");
  CHECK(t.id("##aff") == 6);
  CHECK(t.id("aff") == t.unk_id());
  CHECK(t.id("") == t.unk_id());
  CHECK(t.id("un##") == 12);
  CHECK(t.contains("un"));
  CHECK_FALSE(t.contains("u"));
  CHECK(t.is_special(4));
  CHECK_FALSE(t.is_special(5));
  CHECK_THROWS_WITH(t.token(13), contains("0..12; got 13"));
  CHECK_THROWS_AS(t.decode({-1}), ValueError);
}

TEST_CASE("tokenizer: marks that are kept stand in canonical order") {
  // Two spacing marks of classes 224 and 216: the rare ones that accent stripping leaves.
  const WordPieceTokenizer t(
      {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##\u302E", "##\U0001D165"});
  CHECK(t.ids("a\u302E\U0001D165") == Ids{5, 7, 6});
  CHECK(t.ids("a\u302E\u0301\U0001D165") == Ids{5, 7, 6});
  CHECK(t.ids("a\U0001D165\u302E") == Ids{5, 7, 6});
}

TEST_CASE("tokenizer: a pair and its types") {
  const auto t = tiny();
  const Encoding single = t.encode("un a");
  CHECK(single.ids == Ids{2, 5, 8, 3});
  CHECK(single.type_ids == Ids{0, 0, 0, 0});
  const Encoding pair = t.encode("un", "a ,");
  CHECK(pair.ids == Ids{2, 5, 3, 8, 11, 3});
  CHECK(pair.type_ids == Ids{0, 0, 0, 1, 1, 1});
  CHECK(t.encode("", "").ids == Ids{2, 3, 3});
  CHECK(t.encode("").ids == Ids{2, 3});
}

TEST_CASE("tokenizer: the longer text is cut, the second of equals") {
  const auto t = tiny();
  CHECK(t.encode("a a a a", {}, 4).ids == Ids{2, 8, 8, 3});
  CHECK(t.encode("a a", {}, 4).ids == Ids{2, 8, 8, 3});
  CHECK(t.encode("a a a", ", , ,", 8).ids == Ids{2, 8, 8, 8, 3, 11, 11, 3});
  CHECK(t.encode("a", ", , ,", 3).ids == Ids{2, 3, 3});
  CHECK_THROWS_WITH(t.encode("a", {}, 1), contains("at least 2"));
  CHECK_THROWS_WITH(t.encode("a", "a", 2), contains("at least 3"));
  CHECK_THROWS_AS(t.encode("a", {}, -1), ValueError);
  for (index_t n = 0; n < 7; ++n) {
    for (index_t m = 0; m < 7; ++m) {
      for (index_t room = 0; room < 15; ++room) {
        // As it is usually written: one at a time.
        index_t a = n, b = m;
        while (a + b > room) --(a > b ? a : b);
        Ids first(static_cast<std::size_t>(n), 8), second(static_cast<std::size_t>(m), 9);
        truncate_pair(first, second, room);
        INFO(n << " and " << m << " into " << room);
        CHECK(static_cast<index_t>(first.size()) == a);
        CHECK(static_cast<index_t>(second.size()) == b);
      }
    }
  }
}

TEST_CASE("tokenizer: long lines, and several threads") {
  const auto t = tiny();
  CHECK(t.ids(std::string(100000, 'a')) == Ids{1});
  std::string many, accents;
  for (int i = 0; i < 50000; ++i) {
    many += "a,";
    accents += "\xC3\xA0,";  // à
  }
  CHECK(t.ids(many).size() == 100000);
  CHECK(t.ids(accents) == t.ids(many));
  WordPieceOptions options;
  options.max_word_characters = 3;
  const WordPieceTokenizer three({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a"},
                                 options);
  CHECK(three.ids("aaa aaaa") == Ids{5, 6, 6, 1});

  const WordPieceTokenizer full(vocabulary("uncased"));
  std::vector<std::vector<Ids>> found(3);
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&mine, full] {
      for (const json& c : reference()["cases"]) {
        mine.push_back(full.ids(c["text"].get_ref<const std::string&>()));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(found[0] == found[1]);
  CHECK(found[0] == found[2]);
}

TEST_CASE("tokenizer: text that is not UTF-8") {
  const auto t = tiny();
  const std::vector<std::pair<std::string, std::size_t>> bad = {{"ab \xFF", 3},
                                                                {"\x80", 0},
                                                                {"a\xC3", 1},
                                                                {"\xC0\xAF", 0},
                                                                {"\xE0\x80\x80", 0},
                                                                {"a \xED\xA0\x80 b", 2},
                                                                {"\xF4\x90\x80\x80", 0},
                                                                {"\xF0\x9F\x98", 0},
                                                                {"\xC3\xA9\xE2\x28\xA1", 2},
                                                                {"[MASK]\xF8", 6},
                                                                {"a\xF0\x80\x80\xAF", 1}};
  for (const auto& [text, byte] : bad) {
    INFO(byte);
    CHECK(find_invalid_utf8(text) == byte);
    CHECK_THROWS_WITH(t.ids(text),
                      contains("byte " + std::to_string(byte + 1) + ": expected UTF-8"));
  }
  CHECK(find_invalid_utf8("a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80") == std::string_view::npos);
  CHECK(t.ids("a") == Ids{8});  // still works after a failure
}

TEST_CASE("tokenizer: a vocabulary that cannot be used") {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> tokens = specials;
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
  };
  CHECK_THROWS_AS(WordPieceTokenizer(std::vector<std::string>{}), ValueError);
  CHECK_THROWS_WITH(WordPieceTokenizer(with({"a", "b", "a"})),
                    contains("entry 8: 'a' repeats entry 6"));

  const TempFolder folder;
  const auto refusal = [&](const std::string& bytes, const std::string& name = "v.txt") {
    write_raw(folder / name, bytes);
    try {
      WordPieceTokenizer::load(folder / name);
    } catch (const InputError& e) {
      CHECK_THAT(e.what(), contains(folder / name));
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  CHECK_THAT(refusal(""), contains("the vocabulary is empty"));
  CHECK_THAT(refusal(lines(with({"a", "b", "a"}))), contains("line 8: 'a' repeats line 6"));
  CHECK_THAT(refusal("[PAD]\n[UNK]\n[CLS]\na\n"), contains("lacks [SEP], [MASK];"));
  CHECK_THAT(refusal(lines(with({"a", "", "b"}))), contains("line 7: expected a token"));
  CHECK_THAT(refusal(lines(with({"a\xFF"}))), contains("line 6: byte 2: expected UTF-8; got 0xFF"));
  CHECK_THAT(refusal("PK\x03\x04zip", "pytorch_model.bin"), contains("zip archive"));
  CHECK_THAT(refusal("\x80\x02}q", "x.pkl"), contains("pickle"));
  CHECK_THAT(refusal("{\"a\": 1}", "tokenizer.json"), contains("got JSON; hint"));
  CHECK_THAT(refusal(std::string("ab\0cd", 5), "x.bin"), contains("binary data"));
  CHECK_THROWS_AS(WordPieceTokenizer::load(folder / "missing.txt"), InputError);

  CHECK(WordPieceTokenizer(with({"a"})).size() == 6);
  write_raw(folder / "windows.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nab");
  CHECK(WordPieceTokenizer::load(folder / "windows.txt").ids("ab") == Ids{5});
}

TEST_CASE("tokenizer: folders") {
  const TempFolder folder;
  const auto at = [&](const std::string& name) { return folder / name; };
  CHECK_THROWS_WITH(WordPieceTokenizer::load(folder.path()), contains("vocab.txt"));
  write_raw(at("merges.txt"), "");
  CHECK_THROWS_WITH(WordPieceTokenizer::load(folder.path()), contains("merges.txt belongs to"));

  write_raw(at("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nA\na\n\xC3\xA0\n");
  CHECK(WordPieceTokenizer::load(folder.path()).ids("A \xC3\xA0") == Ids{6, 6});
  const auto config = [&](const std::string& text) {
    write_raw(at("tokenizer_config.json"), text);
    return WordPieceTokenizer::load(folder.path());
  };
  CHECK(config(R"({"do_lower_case": false})").ids("A \xC3\xA0") == Ids{5, 7});
  CHECK(config(R"({"do_lower_case": true, "strip_accents": false})").ids("A \xC3\xA0") ==
        Ids{6, 7});
  const auto rich = config(R"({"strip_accents": null, "tokenize_chinese_chars": false,
    "model_max_length": 1000000000000000019884624838656, "mask_token": {"content": "[MASK]"},
    "unk_token": "[UNK]", "never_split": null, "tokenizer_class": "BertTokenizer"})");
  CHECK_FALSE(rich.options().tokenize_cjk);
  CHECK_FALSE(rich.options().strip_accents.has_value());
  CHECK(rich.options().model_max_length == 0);
  CHECK_THROWS_WITH(config("{"), contains("expected JSON"));
  CHECK_THROWS_WITH(config("[]"), contains("expected a JSON object; got array"));
  CHECK_THROWS_WITH(config(R"({"do_lower_case": 1})"), contains("do_lower_case: expected true"));
  CHECK_THROWS_WITH(config(R"({"unk_token": "<unk>"})"), contains("unk_token: expected"));
  CHECK_THROWS_WITH(config(R"({"model_max_length": -1})"), contains("model_max_length"));
  CHECK_THROWS_WITH(config(R"({"do_basic_tokenize": false})"), contains("do_basic_tokenize"));

  for (const auto& accents : {std::optional<bool>{}, std::optional<bool>{true}}) {
    WordPieceOptions options;
    options.lower_case = false;
    options.strip_accents = accents;
    options.tokenize_cjk = false;
    options.model_max_length = 128;
    const WordPieceTokenizer saved(vocabulary("cased"), options);
    saved.save(at("new/model"));
    const auto loaded = WordPieceTokenizer::load(at("new/model"));
    CHECK(loaded.vocabulary() == saved.vocabulary());
    CHECK_FALSE(loaded.options().lower_case);
    CHECK(loaded.options().strip_accents == accents);
    CHECK_FALSE(loaded.options().tokenize_cjk);
    CHECK(loaded.options().model_max_length == 128);
    const json written = json::parse(read_file(at("new/model/tokenizer_config.json")));
    CHECK(written["tokenizer_class"] == "BertTokenizer");
    CHECK(written["mask_token"] == "[MASK]");
  }
}

TEST_CASE("tokenizer: tokens that a folder adds are taken out of text") {
  const TempFolder folder;
  const auto file = [&](const std::string& name, const std::string& text) {
    write_raw(folder / name, text);
  };
  const auto ids = [&](const std::string& text) {
    return WordPieceTokenizer::load(folder.path()).ids(text);
  };
  const auto refused = [&](const std::string& name, const std::string& text,
                           const std::string& message) {
    file(name, text);
    CHECK_THROWS_AS(ids("a"), InputError);
    CHECK_THROWS_WITH(ids("a"), contains(folder / name) && contains(message));
    file(name, "{}");
  };
  // Ids from 5.
  file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\ncd\n<e1>\n<\n##1\n>\n<e1>x\ne\n1\n");
  const Ids split = {5, 8, 12, 9, 10, 6};
  const Ids whole = {5, 7, 6};
  CHECK(ids("ab <e1> cd") == split);
  const std::string in_config[] = {
      R"({"additional_special_tokens": ["<e1>"]})",
      R"({"additional_special_tokens": [{"content": "<e1>", "lstrip": true}], "never_split": []})",
      R"({"extra_special_tokens": {"entity": "<e1>"}, "tokenizer_class": "BertTokenizerFast"})",
      R"({"added_tokens_decoder": {"4": {"content": "[MASK]", "single_word": false},
          "7": {"content": "<e1>", "special": true}}})"};
  for (const std::string& text : in_config) {
    file("tokenizer_config.json", text);
    CHECK(ids("ab <e1> cd") == whole);
    CHECK(ids("ab<e1>cd") == whole);
    CHECK(ids("ab <E1> cd") == split);  // in this spelling
    CHECK(ids("[MASK]<e1>[mask") == Ids{4, 7, 1, 1});
  }
  WordPieceTokenizer::load(folder.path()).save(folder / "again");
  CHECK(WordPieceTokenizer::load(folder / "again").ids("ab<e1>cd") == whole);
  // BERT's own five alone are what every folder lists.
  file("tokenizer_config.json",
       R"({"added_tokens_decoder": {"0": {"content": "[PAD]"}, "1": {"content": "[UNK]"}}})");
  CHECK(ids("ab <e1> cd") == split);
  file("added_tokens.json", R"({"<e1>": 7, "<e1>x": 11})");
  CHECK(ids("ab <e1>x <e1> cd") == Ids{5, 11, 7, 6});  // the longer one
  file("added_tokens.json", "{}");
  file("special_tokens_map.json",
       R"({"additional_special_tokens": ["<e1>"], "cls_token": "[CLS]"})");
  CHECK(ids("ab <e1> cd") == whole);

  refused("special_tokens_map.json", R"({"cls_token": "<s>"})", "cls_token: expected \"[CLS]\"");
  refused("added_tokens.json", R"({"<e2>": 14})",
          "'<e2>' with id 14: expected a token of vocab.txt; it is not there");
  refused("added_tokens.json", R"({"<e1>": 8})", "there it is 7");
  const char* config = "tokenizer_config.json";
  refused(config, R"({"additional_special_tokens": ["<e2>"]})",
          "'<e2>': expected a token of vocab");
  refused(config, R"({"additional_special_tokens": "<e1>"})", "expected a list of tokens");
  refused(config, R"({"added_tokens_decoder": {"x": "<e1>"}})", "expected ids; got 'x'");
  refused(config, R"({"added_tokens_decoder": {"7": {"content": "<e1>", "single_word": true}}})",
          "found inside words too");
  refused(config, R"({"never_split": ["ab"]})", "never_split is not supported; got [\"ab\"]");
  refused(config, R"({"tokenizer_class": "RobertaTokenizer"})",
          "expected BertTokenizer beside vocab.txt; got \"RobertaTokenizer\"");
  WordPieceOptions options;
  options.added_tokens = {"<e1>"};
  CHECK_THROWS_WITH(WordPieceTokenizer(vocabulary("cased"), options), contains("has no '<e1>'"));
}
