// CSV in any locale: what is written reads back, and what is malformed is refused with file and
// line.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/rng.hpp>

#include <clocale>
#include <cmath>
#include <filesystem>
#include <limits>
#include <locale>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using testing::contains;
using testing::infinity;
using testing::nan_value;
using testing::TempFolder;
using testing::write_raw;

namespace {

struct CommaDecimal : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// Decimal commas everywhere while it lives: in C++, and in C where such a locale is installed.
class CommaLocale {
 public:
  CommaLocale() : before_(std::locale::global(std::locale(std::locale(), new CommaDecimal))) {
    const char* name = std::setlocale(LC_ALL, nullptr);
    c_before_ = name == nullptr ? "C" : name;
    for (const char* locale : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE"}) {
      if (std::setlocale(LC_ALL, locale) != nullptr) break;
    }
  }
  ~CommaLocale() {
    std::locale::global(before_);
    std::setlocale(LC_ALL, c_before_.c_str());
  }

 private:
  std::locale before_;
  std::string c_before_;
};

}  // namespace

TEST_CASE("csv: numbers read back to the same bits in every locale", "[io]") {
  const TempFolder folder;
  const std::string path = folder / "a.csv";
  Rng rng(3);
  std::vector<double> doubles = {
      0.0,       -0.0,      0.1,        1e-308,   5e-324,   1.7976931348623157e308,
      1234567.5, nan_value, -nan_value, infinity, -infinity};
  for (int i = 0; i < 200; ++i) doubles.push_back(std::exp(50 * rng.normal()));
  const auto check = [&] {
    CHECK(format_number(0.1) == "0.10000000000000001");
    CHECK(format_number(0.1F) == "0.100000001");
    CHECK(format_number(1234567.5) == "1234567.5");
    CHECK(format_number(nan_value) == "nan");
    CHECK(format_number(-nan_value) == "nan");
    CHECK(format_number(infinity) == "inf");
    CHECK(format_number(-std::numeric_limits<float>::infinity()) == "-inf");
    CsvWriter writer(path, {"step", "double", "float"});
    for (std::size_t i = 0; i < doubles.size(); ++i) {
      writer.row({10000 * i, doubles[i], static_cast<float>(doubles[i])});
    }
    CHECK_FALSE(std::filesystem::exists(path));
    writer.finish();
    const CsvTable table = read_csv(path);
    REQUIRE(table.rows() == doubles.size());
    const std::vector<double> steps = table.numbers("step");
    const std::vector<double> read = table.numbers("double");
    const std::vector<double> floats = table.numbers("float");
    for (std::size_t i = 0; i < doubles.size(); ++i) {
      CHECK(steps[i] == 10000.0 * static_cast<double>(i));
      if (std::isnan(doubles[i])) {
        CHECK(std::isnan(read[i]));
        CHECK(std::isnan(floats[i]));
      } else {
        CHECK(std::memcmp(&read[i], &doubles[i], sizeof read[i]) == 0);
        CHECK(static_cast<float>(floats[i]) == static_cast<float>(doubles[i]));
      }
    }
    std::filesystem::remove(path);
  };
  check();
  const CommaLocale commas;
  check();
}

TEST_CASE("csv: text is quoted and read back", "[io]") {
  const TempFolder folder;
  const std::vector<std::string> texts = {"plain",    "",        "a,b", "say \"x\"", "two\nlines",
                                          "cr\r\nlf", " space ", "\"",  "ünï",       "tab\t"};
  CsvWriter writer(folder / "a.csv", {"text, with comma", "n"});
  for (std::size_t i = 0; i < texts.size(); ++i) writer.row({texts[i], i});
  CHECK_THROWS_AS(writer.row({"one"}), ValueError);
  writer.finish();
  const CsvTable table = read_csv(folder / "a.csv");
  CHECK(table.columns() == std::vector<std::string>{"text, with comma", "n"});
  CHECK(table.strings("text, with comma") == texts);
  CHECK(table.line(4) == 6);
  CHECK(table.line(5) == 8);  // after a field of two lines
  CHECK(csv_line({"a", 1, 2.5, "b\"c"}) == "a,1,2.5,\"b\"\"c\"\n");

  CsvWriter single(folder / "b.csv", {"only"});
  single.row({""});
  single.row({"x"});
  single.finish();
  CHECK(read_csv(folder / "b.csv").strings("only") == std::vector<std::string>{"", "x"});
  { CsvWriter(folder / "c.csv", {"x"}).row({1}); }  // never finished
  CHECK(folder.count() == 2);
  CHECK_THROWS_AS(CsvWriter(folder / "c.csv", {}), ValueError);
  CHECK_THROWS_AS(CsvWriter(folder / "c.csv", {"x", "x"}), ValueError);
  CHECK_THROWS_AS(CsvWriter(folder / "none/c.csv", {"x"}), IoError);
}

TEST_CASE("csv: line ends, blank lines and byte order marks of others", "[io]") {
  const CsvTable table = parse_csv("t", "\xEF\xBB\xBFx,\"y\"\r\n1,a\r\n\r\n2,\"b\"\r\n\n3,c");
  CHECK(table.columns() == std::vector<std::string>{"x", "y"});
  CHECK(table.numbers("x") == std::vector<double>{1, 2, 3});
  CHECK(table.strings("y") == std::vector<std::string>{"a", "b", "c"});
  CHECK(table.line(2) == 6);
  CHECK(parse_csv("t", "x\n").rows() == 0);
  CHECK(parse_csv("t", "x,y\n,\n").strings("y") == std::vector<std::string>{""});
  CHECK(parse_csv("t", "x\n1\r").numbers("x") == std::vector<double>{1});
  CHECK(parse_csv("t", "x\n\"1\"\r").numbers("x") == std::vector<double>{1});
}

TEST_CASE("csv: malformed tables are refused with file and line", "[io]") {
  const TempFolder folder;
  struct Case {
    std::string text;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"", "line 1: the file is empty"},
      {"\n\n", "the file is empty"},
      {"\xEF\xBB\xBF", "the file is empty"},
      {"x,y\n1,2\n3\n", "line 3: expected 2 fields; got 1"},
      {"x,y\n1,2,3\n", "line 2: expected 2 fields; got 3"},
      {"x,x\n", "line 1: the column 'x' comes twice"},
      {"x\n\"1\n2\n", "line 2: a quote is never closed"},
      {"x\n\"1\"2\n", "line 2: text after a closing quote"},
      {"x\n1\n2\"3\n", "line 3: a quote inside a field"},
      {std::string("x\n1\n\0\n", 6), "line 3, byte 1: expected text; got a NUL byte"},
  };
  for (const Case& bad : cases) {
    write_raw(folder / "bad.csv", bad.text);
    CHECK_THROWS_AS(read_csv(folder / "bad.csv"), InputError);
    CHECK_THROWS_WITH(read_csv(folder / "bad.csv"), contains(bad.reason) && contains("bad.csv"));
  }
  for (const char* bad : {"abc", "1,5", "1x", " 1", "1 ", "", "0x10", "--1", "1e999"}) {
    const CsvTable table = parse_csv("t.csv", std::string("n,x\n0,1\n1,\"") + bad + "\"\n");
    CAPTURE(bad);
    CHECK_THROWS_AS(table.numbers("x"), InputError);
    CHECK_THROWS_WITH(table.numbers("x"), contains("'t.csv', line 3"));
  }
  const CsvTable table = parse_csv("t.csv", "x,y\n1,2\n");
  CHECK(table.has("x"));
  CHECK_FALSE(table.has("z"));
  CHECK_THROWS_WITH(table.strings("z"), contains("no column 'z'; it has x, y"));
  CHECK_THROWS_AS(read_csv(folder / "none.csv"), InputError);
}
