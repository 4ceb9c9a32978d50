// Tables of texts: the three kinds, headers and columns, and what is refused with its line.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/text_table.hpp>

#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using Kind = TextFormat::Kind;
using Header = TextFormat::Header;

namespace {

TextFormat columns(const std::vector<std::string>& wanted) {
  TextFormat format;
  format.columns = wanted;
  return format;
}

/// "a|b;c|d" for two rows of two fields.
std::string flat(const TextTable& table) {
  std::string out;
  for (const auto& row : table.rows) {
    out += out.empty() ? "" : ";";
    for (std::size_t i = 0; i < row.size(); ++i) out += (i > 0 ? "|" : "") + row[i];
  }
  return out;
}

std::string read(const std::string& name, const std::string& bytes, const TextFormat& format = {}) {
  return flat(parse_text_table(name, bytes, format));
}

std::string error_of(const std::string& name, const std::string& bytes,
                     const TextFormat& format = {}) {
  try {
    return "no error: " + read(name, bytes, format);
  } catch (const InputError& error) {
    return error.what();
  }
}

const std::string nul(1, '\0');

}  // namespace

TEST_CASE("text table: TSV, quotes are literal", "[text]") {
  CHECK(read("a.tsv", "x\t\"y\nz\tw\"\n") == "x|\"y;z|w\"");
  CHECK(read("a.tsv", "\xef\xbb\xbfx\ty\r\nz\tw") == "x|y;z|w");
  CHECK(read("a.txt", "x\ty\n\n\nz\t\n\n") == "x|y;z|");
  CHECK(read("a", "one column\n") == "one column");
  const TextTable table = parse_text_table("a.tsv", "\n\nsentence\tlabel\nx\t1\n\ny\t0\n");
  CHECK(table.has_names);
  CHECK(table.columns == std::vector<std::string>{"sentence", "label"});
  CHECK(table.lines == std::vector<index_t>{4, 6});
  CHECK(table.where(1) == "a.tsv, line 6");
}

TEST_CASE("text table: CSV, RFC 4180", "[text]") {
  CHECK(read("a.csv", "\"x, y\",\"say \"\"z\"\"\"\n\"two\nlines\",w") ==
        "x, y|say \"z\";two\nlines|w");
  CHECK(read("a.csv", "\xef\xbb\xbf\"x\r\ny\",1\r\n\r\nz,2\r\n") == "x\r\ny|1;z|2");
  // One byte order mark is skipped; a second is a character.
  CHECK(read("a.csv", "\xef\xbb\xbf\xef\xbb\xbfx,1\n") == "\xef\xbb\xbfx|1");
  const TextTable table = parse_text_table("a.CSV", "text,label\n\"a\n\nb\",1\nc,2\n");
  CHECK(flat(table) == "a\n\nb|1;c|2");
  CHECK(table.lines == std::vector<index_t>{2, 5});
}

TEST_CASE("text table: JSON lines", "[text]") {
  const std::string lines =
      "{\"text\": \"a \\\"b\\\" \\u00e9\", \"label\": 1}\r\n\n"
      "{\"label\": 2.50, \"text\": \"c\", \"extra\": [1, {\"k\": null}]}";
  CHECK(read("a.jsonl", lines) == "a \"b\" \xc3\xa9|1;c|2.50");
  CHECK(read("a.ndjson", lines, columns({"label", "text"})) == "1|a \"b\" \xc3\xa9;2.50|c");
  CHECK(read("a.json", lines, columns({"2"})) == "1;2.50");
  CHECK(read("a.jsonl", "{\"a\": true, \"b\": -3, \"c\": 1e-5, \"d\": null}\n") == "true|-3|1e-5");
  CHECK(parse_text_table("a.jsonl", lines).lines == std::vector<index_t>{1, 3});
}

TEST_CASE("text table: the kind may be said against the name", "[text]") {
  TextFormat format;
  format.kind = Kind::tsv;
  CHECK(read("sts-train.csv", "a, \"b\tc\n", format) == "a, \"b|c");
  format.kind = Kind::csv;
  CHECK(read("a.tsv", "\"a,b\",c\n", format) == "a,b|c");
  format.kind = Kind::jsonl;
  CHECK(read("a.txt", "{\"a\":\"b\"}\n", format) == "b");
}

TEST_CASE("text table: headers and columns", "[text]") {
  const std::string text = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\tc\td\t0\n";
  CHECK(read("a.tsv", text) == "0|a|b|1;1|c|d|0");
  CHECK(read("a.tsv", text, columns({"sentence2", "label"})) == "b|1;d|0");
  CHECK(read("a.tsv", text, columns({"4", "2"})) == "1|a;0|c");
  CHECK(read("a.tsv", text, columns({"sentence1", "4"})) == "a|1;c|0");
  // A name tells of a header that would not be known as one.
  CHECK(read("a.tsv", "foo\tbar\nx\ty\n") == "foo|bar;x|y");
  CHECK(read("a.tsv", "foo\tbar\nx\ty\n", columns({"bar"})) == "y");
  TextFormat format = columns({"2"});
  format.header = Header::yes;
  CHECK(read("a.tsv", "foo\tbar\nx\ty\n", format) == "y");
  format.header = Header::no;
  CHECK(read("a.tsv", "text\tlabel\nx\ty\n", format) == "label;y");
  CHECK(read("a.tsv", "Gold Label\tPremise\n1\tx\n") == "1|x");
  CHECK(usual_text_column("Sentence_A") == TextColumn::text);
  CHECK(usual_text_column("#1 ID") == TextColumn::id);
  CHECK(usual_text_column("colour") == TextColumn::unknown);
}

TEST_CASE("text table: rows of different lengths", "[text]") {
  TextFormat format = columns({"3", "1"});
  CHECK_THAT(error_of("a.tsv", "a\tb\tc\nd\te\tf\tg\n", format),
             contains("a.tsv, line 2: expected 3 columns as in line 1; found 4"));
  format.extra_columns = true;
  CHECK(read("a.tsv", "a\tb\tc\nd\te\tf\tg\n", format) == "c|a;f|d");
  CHECK_THAT(error_of("a.tsv", "a\tb\tc\n\nd\te\n", format),
             contains("a.tsv, line 3: expected at least 3 columns as in line 1; found 2"));
  CHECK_THAT(error_of("a.csv", "text,label\n\"a\nb\",1\nc,1,2\n"),
             contains("a.csv, line 4: expected 2 columns as in line 1; found 3"));
  CHECK_THAT(error_of("a.csv", "a, b\nc\td\n"), contains("line 2: expected 2 columns as in line 1; "
                                                         "found 1; there are tabs in it"));
  TextFormat blank;
  blank.keep_blank_lines = true;
  CHECK(parse_text_table("a", "x\n\ny\n", blank).rows ==
        std::vector<std::vector<std::string>>{{"x"}, {""}, {"y"}});
  CHECK(read("a", "\n\nx\ty\n\n", blank) == "|;|;x|y;|");
  CHECK(read("a", "\ntext\tlabel\n\nx\ty\n", blank) == "|;x|y");
  CHECK_THAT(error_of("a", "\n\n", blank), contains("only blank lines"));
}

TEST_CASE("text table: columns that are not there", "[text]") {
  const std::string text = "sentence1\tsentence2\tlabel\na\tb\t1\n";
  CHECK_THAT(error_of("a.tsv", text, columns({"sentense1"})),
             contains("a.tsv: there is no column 'sentense1', did you mean 'sentence1'?; there "
                      "are: sentence1, sentence2, label"));
  CHECK_THAT(error_of("a.tsv", text, columns({"4"})),
             contains("there is no column 4; there are 3"));
  CHECK_THAT(error_of("a.tsv", "label\tlabel\n1\t2\n", columns({"label"})),
             contains("two columns are named 'label'"));
  CHECK_THAT(error_of("a.jsonl", "{\"text\":\"a\"}\n", columns({"tex"})),
             contains("a.jsonl, line 1: there is no column 'tex', did you mean 'text'?"));
  CHECK_THAT(error_of("a.jsonl", "{\"text\":\"a\"}\n{\"texts\":\"b\"}\n"),
             contains("a.jsonl, line 2: there is no key 'text', did you mean 'texts'?"));
  CHECK_THROWS_AS(read("a.tsv", text, columns({"0"})), ValueError);
  CHECK_THROWS_AS(read("a.tsv", text, columns({""})), ValueError);
  CHECK_THROWS_AS(read("a.tsv", text, columns({"label", "3"})), ValueError);
  TextFormat format = columns({"label"});
  format.header = Header::no;
  CHECK_THROWS_WITH(read("a.tsv", text, format), contains("there is to be no header"));
}

TEST_CASE("text table: files that are no tables", "[text]") {
  for (const std::string name : {"a.tsv", "a.csv", "a.jsonl"}) {
    INFO(name);
    CHECK_THAT(error_of(name, ""), contains("the file is empty"));
    CHECK_THAT(error_of(name, "\n\r\n\n"), contains("only blank lines"));
    CHECK_THAT(error_of(name, "\xef\xbb\xbf"), contains("only blank lines"));
    CHECK_THAT(error_of(name, "\x1f\x8b\x08"), contains("compressed"));
    CHECK_THAT(error_of(name, "\xff\xfe" + std::string("a") + nul), contains("UTF-16"));
    CHECK_THAT(error_of(name, "a\n\nb" + nul + "c\n"),
               contains(name + "': line 3, byte 2: expected text; got a NUL byte"));
    CHECK_THAT(error_of(name, "a\nb\xff\n"),
               contains(name + "': line 2, byte 2: expected UTF-8; got 0xFF"));
    CHECK_THAT(error_of(name, "a\xc3"),
               contains(name + "': line 1, byte 2: expected UTF-8; got 0xC3"));
  }
  CHECK_THAT(error_of("a.tsv", "text\tlabel\n"), contains("a header but no row"));
  CHECK_THROWS_WITH(read_text_table("/nonexistent/a.tsv"), contains("/nonexistent/a.tsv"));
  CHECK_THROWS_WITH(read_text_table("/"), contains("got a folder"));
}

TEST_CASE("text table: quotes that are wrong name the line where they opened", "[text]") {
  CHECK_THAT(error_of("a.csv", "a,b\nc,d\ne,\"f\ng,h\ni,j\n"),
             contains("'a.csv', line 3: a quote is never closed"));
  CHECK_THAT(error_of("a.csv", "a,b\n\"c\"x,d\n"), contains("line 2: text after a closing quote"));
  CHECK_THAT(error_of("a.csv", "a,b\nc\"x,d\n"), contains("line 2: a quote inside a field"));
}

TEST_CASE("text table: JSON lines that are refused", "[text]") {
  const std::string good = "{\"text\":\"a\",\"label\":1}\n";
  const auto second = [&good](const std::string& line) { return error_of("a.jsonl", good + line); };
  CHECK_THAT(second("{\"text\":\"a\""), contains("a.jsonl, line 2: not JSON: column"));
  CHECK_THAT(second("[1]"), contains("line 2: a list; expected an object"));
  CHECK_THAT(second("3"), contains("line 2: expected an object"));
  CHECK_THAT(second("{\"text\":null,\"label\":1}"), contains("line 2: 'text' is null"));
  CHECK_THAT(second("{\"text\":[\"a\"],\"label\":1}"), contains("line 2: 'text' is a list"));
  CHECK_THAT(second("{\"text\":{},\"label\":1}"), contains("line 2: 'text' is an object"));
  CHECK_THAT(second("{\"text\":\"a\",\"text\":\"b\"}"), contains("'text' comes twice"));
  CHECK_THAT(second("{\"text\":\"a\\u0000\",\"label\":1}"), contains("\\u0000"));
  CHECK_THAT(second("{\"text\":\"a\",\"label\":1e999}"), contains("line 2: not JSON"));
  CHECK_THAT(second("{\"text\":\"a\",\"label\":1} {}"), contains("line 2: not JSON"));
  const std::string deep(100000, '[');
  CHECK_THAT(second("{\"text\":" + deep), contains("line 2: nested deeper than 32 levels"));
  TextFormat format;
  format.header = Header::yes;
  CHECK_THROWS_AS(read("a.jsonl", good, format), ValueError);
}

TEST_CASE("text table: long lines", "[text]") {
  const std::string text(100000, 'x');
  const parsimony::testing::TempFolder folder;
  parsimony::testing::write_raw(folder / "a.tsv", "text\tlabel\n" + text + "\t1\n");
  const TextTable table = read_text_table(folder / "a.tsv");
  CHECK(table.rows[0][0] == text);
  CHECK(read("a.csv", "\"" + text + "\",1\n") == text + "|1");
  CHECK(read("a.jsonl", "{\"text\":\"" + text + "\"}\n") == text);
}

TEST_CASE("strings: UTF-8 is checked as Unicode defines it", "[text]") {
  CHECK(find_invalid_utf8("") == std::string::npos);
  CHECK(find_invalid_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f") == std::string::npos);
  CHECK(find_invalid_utf8("ab\x80") == 2);
  CHECK(find_invalid_utf8("\xc0\xaf") == 0);          // overlong
  CHECK(find_invalid_utf8("\xe0\x80\xaf") == 0);      // overlong
  CHECK(find_invalid_utf8("\xf0\x80\x80\xaf") == 0);  // overlong
  CHECK(find_invalid_utf8("\xed\xa0\x80") == 0);      // a surrogate
  CHECK(find_invalid_utf8("\xf4\x90\x80\x80") == 0);  // above U+10FFFF
  CHECK(find_invalid_utf8("a\xe2\x82") == 1);         // cut short
  CHECK(printable("a\x01\xff" + std::string("é")) == "a\\x01\\xffé");
}
