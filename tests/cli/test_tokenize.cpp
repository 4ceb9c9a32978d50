// parsimony tokenize, as a user runs it: ids and tokens, pairs, files and pipes, learned
// vocabularies, and what it refuses.
#include <parsimony/files.hpp>

#include <filesystem>

#include "cli/process.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using parsimony::read_file;
namespace fs = std::filesystem;

namespace {

const std::string specials = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

struct Model {
  Model() {
    fs::create_directories(path);
    write_raw(path + "/vocab.txt", specials + "how\ndeep\n?\nthree\nlayer\n##s\n");
  }
  TempFolder folder;
  std::string path = folder / "model";
  std::string input = folder / "input.txt";
  std::string output = folder / "ids.txt";

  Outcome run(std::vector<std::string> more) const {
    more.insert(more.begin(), {"tokenize", "--model", path, "--input", input});
    return program(more);
  }
  void check_refused(const std::vector<std::string>& more, const std::string& message) const {
    const Outcome o = run(more);
    INFO(message);
    CHECK(o.code == 2);
    CHECK_THAT(o.err, contains(message));
  }
};

}  // namespace

TEST_CASE("tokenize: a line of ids for each line of text") {
  const Model m;
  write_raw(m.input, "How deep?\tThree layers\r\n\nhow [MASK] h\xC3\xB3w xyz");
  const Outcome o = m.run({});
  CHECK(o.code == 0);
  CHECK(o.err.empty());
  CHECK(o.out == "2 5 6 7 3 8 9 10 3\n2 3\n2 5 4 5 1 3\n");
  CHECK(m.run({"--tokens"}).out ==
        "[CLS] how deep ? [SEP] three layer ##s [SEP]\n[CLS] [SEP]\n"
        "[CLS] how [MASK] how [UNK] [SEP]\n");
  CHECK(m.run({"--max-length", "6"}).out == "2 5 6 3 8 3\n2 3\n2 5 4 5 1 3\n");
  // A vocabulary alone, with capitals kept.
  const Outcome cased = program(
      {"tokenize", "--model", m.path + "/vocab.txt", "--input", m.input, "--cased", "--tokens"});
  CHECK_THAT(cased.out, contains("[CLS] [UNK] deep ? [SEP] [UNK] layer ##s [SEP]\n"));
  write_raw(m.input, "");
  CHECK(m.run({}).out.empty());
}

TEST_CASE("tokenize: stdin, and a file that is whole or not there") {
  const Model m;
  write_raw(m.input, "how deep\n");
  Environment from_file;
  const std::string text = m.input;
  from_file.before = [text] {
    if (std::freopen(text.c_str(), "rb", stdin) == nullptr) std::abort();
  };
  CHECK(program({"tokenize", "--model", m.path}, from_file).out == "2 5 6 3\n");
  CHECK(m.run({"--output", m.output}).out.empty());
  CHECK(read_file(m.output) == "2 5 6 3\n");

  write_raw(m.input, "how\nhow d\xC3\xA9\xFF\n");
  m.check_refused({"--output", m.folder / "new.txt"},
                  m.input + "': line 2, byte 8: expected UTF-8; got 0xFF");
  CHECK_FALSE(fs::exists(m.folder / "new.txt"));
  CHECK(program({"tokenize", "--model", m.path, "--input", m.input, "--output",
                 m.folder / "none" + "/ids.txt"})
            .code != 0);
}

TEST_CASE("tokenize: what it refuses") {
  const Model m;
  write_raw(m.input, "a\nb\tc\td\n");
  m.check_refused({}, "line 2: expected one text, or two parted by a tab; got 3");
  m.check_refused({"--max-length", "2"}, "--max-length: expected 3 or more");
  m.check_refused({"more.txt"}, "unexpected argument 'more.txt'");
  m.check_refused({"--train", m.input}, "got both");
  write_raw(m.input, "a\n");
  write_raw(m.path + "/vocab.txt", specials + "a\nb\na\n");
  m.check_refused({}, "vocab.txt: line 8: 'a' repeats line 6");
  write_raw(m.path + "/vocab.txt", "[PAD]\na\n");
  m.check_refused({}, "lacks [UNK], [CLS], [SEP], [MASK]");
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& message) {
    const Outcome o = program(arguments);
    CHECK(o.code == 2);
    CHECK_THAT(o.err, contains(message));
  };
  refused({"tokenize"}, "name a model with --model DIR");
  refused({"tokenize", "--model", m.folder / "none"}, "none");
  refused({"tokenize", "--model", m.folder.path()}, "expected a tokenizer: vocab.txt");
  write_raw(m.path + "/vocab.txt", specials);
  refused({"tokenize", "--model", m.path, "--input", m.folder / "none"},
          "none': expected a file; it does not exist");
}

TEST_CASE("tokenize: a learned vocabulary") {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 20; ++i) text += "The deeper layers learn the deepest features.\n";
  write_raw(folder / "a.txt", text);
  write_raw(folder / "b.txt", "Caf\xC3\xA9 caf\xC3\xA9\n");
  const std::string out = folder / "learned";
  const std::vector<std::string> arguments = {
      "tokenize",        "--train", folder / "a.txt", folder / "b.txt",
      "--out",           out,       "--vocab-size",   "100",
      "--min-frequency", "1"};
  const Outcome o = program(arguments);
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.out.empty());
  CHECK_THAT(o.err, contains("162 words, 8 of them different") && contains("vocab.txt"));
  const std::string vocabulary = read_file(out + "/vocab.txt");
  CHECK(vocabulary.rfind(specials, 0) == 0);
  CHECK_THAT(vocabulary, contains("\nthe\n") && contains("\ncafe\n"));
  CHECK_THAT(read_file(out + "/tokenizer_config.json"), contains("\"do_lower_case\": true"));
  const Outcome ids =
      program({"tokenize", "--model", out, "--input", folder / "b.txt", "--tokens"});
  CHECK(ids.out == "[CLS] cafe cafe [SEP]\n");

  auto cased = arguments;
  cased.insert(cased.end(), {"--cased", "--quiet"});
  const Outcome again = program(cased);
  CHECK(again.code == 0);
  CHECK(again.err.empty());
  CHECK_THAT(read_file(out + "/vocab.txt"), contains("\nThe\n") && contains("\ncaf\xC3\xA9\n"));

  const auto refused = [](std::vector<std::string> with, const std::string& message) {
    const Outcome bad = program(with);
    INFO(message);
    CHECK(bad.code == 2);
    CHECK_THAT(bad.err, contains(message));
  };
  auto small = arguments;
  small[7] = "10";
  refused(small, "got size 10; hint: a larger size, or an alphabet_limit");
  refused({"tokenize", "--train", folder / "a.txt"}, "--out DIR");
  write_raw(folder / "empty.txt", " \n");
  refused({"tokenize", "--train", folder / "empty.txt", "--out", out}, "there are no words");
  refused({"tokenize", "--train", folder / "none.txt", "--out", out},
          "none.txt': expected a file; it does not exist");
  write_raw(out + "/model.safetensors", "");
  refused(arguments, "a model would lose its vocabulary");
}
