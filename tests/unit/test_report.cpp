// Claims and the report: what is written reads back, fits its width, and the page holds every run,
// claim and figure, whatever stands in them.
#include <parsimony/claims.hpp>
#include <parsimony/error.hpp>
#include <parsimony/figure.hpp>
#include <parsimony/files.hpp>
#include <parsimony/report.hpp>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "report/text.hpp"
#include "support/report_checks.hpp"
#include "support/report_sample.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using testing::contains;
using testing::exists;
using testing::gnuplot_installed;
using testing::has;
using testing::lines_of;
using testing::TempFolder;
using testing::write_raw;

namespace {

Claim claim(const std::string& id, Claim::Verdict verdict) {
  return {id,
          "The m-block equals ρ times the identity.",
          "section 1.2",
          "max |…| <= 1e-12",
          "3e-14",
          "8.2e-15",
          verdict};
}

std::vector<Claim> three_claims() {
  return {claim("T1", Claim::holds), claim("M10", Claim::fails), claim("A1", Claim::not_run)};
}

}  // namespace

// --- Claims ------------------------------------------------------------------------------------

TEST_CASE("claims.json has the promised keys and reads back") {
  const TempFolder folder;
  const std::string path = folder / "claims.json";
  write_claims(path, three_claims());
  const std::string json = read_file(path);
  std::size_t last = 0;
  for (const char* key : {"\"id\"", "\"statement\"", "\"source\"", "\"criterion\"", "\"expected\"",
                          "\"measured\"", "\"verdict\""}) {
    const std::size_t at = json.find(key);
    REQUIRE(at != std::string::npos);
    CHECK(at > last);
    last = at;
  }
  CHECK(has(json, "\"not run\""));
  const std::vector<Claim> back = read_claims(path);
  REQUIRE(back.size() == 3);
  CHECK(back[1].id == "M10");
  CHECK(back[0].statement == three_claims()[0].statement);
  CHECK(back[0].measured == "8.2e-15");
  CHECK(back[1].verdict == Claim::fails);
  CHECK(back[2].verdict == Claim::not_run);
  const ClaimCounts counts = count_claims(back);
  CHECK((counts.holds == 1 && counts.fails == 1 && counts.not_run == 1));
}

TEST_CASE("claims that are not text survive, and what is malformed is refused") {
  const TempFolder folder;
  const std::string path = folder / "claims.json";
  Claim odd = claim("T1", Claim::holds);
  odd.measured = "bad byte \xff here";
  write_claims(path, {odd});
  CHECK(has(read_claims(path)[0].measured, "here"));

  write_raw(path, R"([{"id":"T1","statement":"s","expected":3.5,"verdict":"holds"}])");
  CHECK(read_claims(path)[0].expected == "3.5");
  write_raw(path, "[]");
  CHECK(read_claims(path).empty());

  const auto fails_with = [&](const std::string& text, const std::string& message) {
    write_raw(path, text);
    CHECK_THROWS_AS(read_claims(path), InputError);
    CHECK_THROWS_WITH(read_claims(path), contains(message) && contains("claims.json"));
  };
  fails_with("", "not JSON");
  fails_with("[{\"id\": ", "not JSON");
  fails_with("{}", "expected an array");
  fails_with("[3]", "claim 1: expected an object");
  fails_with(R"([{"id":"T1","statement":"s"}])", "\"verdict\" is missing");
  fails_with(R"([{"id":"T1","statement":"s","verdict":"maybe"}])", "maybe");
  fails_with(R"([{"id":[],"statement":"s","verdict":"holds"}])", "\"id\" must be a text");
  CHECK_THROWS_AS(read_claims(folder / "none.json"), InputError);
}

TEST_CASE("the table of claims fits its width and keeps every word") {
  std::vector<Claim> claims = three_claims();
  claims[0].statement = "Losses fall to < 1e-10 at the same checkpoint; " + std::string(70, 'x') +
                        " is a long word, and 日本語 is wide";
  claims[1].measured = "\033[2Jevil\nline";
  for (int width = 20; width <= 200; width += 7) {
    for (const bool criteria : {false, true}) {
      const std::string table = claims_table(claims, width, false, criteria);
      for (const std::string& line : lines_of(table)) CHECK(text::display_width(line) <= width);
      CHECK_FALSE(has(table, "\033"));
      for (const char* word : {"checkpoint;", "T1", "M10", "8.2e-15", "not run", "evil"}) {
        CHECK(has(table, word));
      }
      CHECK(has(table, "1 holds, 1 fails,"));
    }
  }
  const std::string colored = claims_table(claims, 100, true);
  CHECK(has(colored, "\033[32mholds\033[0m"));
  CHECK(has(colored, "\033[1;31mfails\033[0m"));
  // Columns begin at the same place in every row.
  const std::vector<std::string> lines = lines_of(claims_table(three_claims(), 100));
  CHECK(lines[0].find("verdict") == lines[2].find("holds"));
  CHECK(lines[2].find("holds") == lines[3].find("fails"));
  CHECK(claims_table({}) == "no claims\n");
}

// --- Text --------------------------------------------------------------------------------------

TEST_CASE("text is escaped for where it goes") {
  CHECK(text::base64("") == "");
  CHECK(text::base64("f") == "Zg==");
  CHECK(text::base64("fo") == "Zm8=");
  CHECK(text::base64("foobar") == "Zm9vYmFy");
  CHECK(text::html("<a href=\"x\">'&'</a>") ==
        "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  CHECK(text::link("a b/<é>.csv") == "a%20b/%3C%C3%A9%3E.csv");
  CHECK(text::gnuplot("it's\n`id`") == "'it''s `id`'");
  CHECK(text::clean("a\xC0\xAF"
                    "b\xED\xA0\x80") ==
        "a\xEF\xBF\xBD\xEF\xBF\xBD"
        "b\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(text::display_width("ρ₁日") == 4);
  CHECK(text::wrap("one two  three", 7) == std::vector<std::string>{"one two", "three"});
  CHECK(text::wrap("abcdef", 4) == std::vector<std::string>{"abcd", "ef"});
  CHECK(text::wrap("", 4).size() == 1);
}

// --- The report --------------------------------------------------------------------------------

TEST_CASE("the report holds every run, claim, figure and file") {
  const TempFolder folder;
  sample::write_runs(folder.path());
  const Report written = write_report(folder.path());
  const std::string& path = written.path;
  CHECK(path == folder / "report.html");
  REQUIRE(written.damage.size() == 3);
  CHECK_THAT(written.damage[1], contains("damaged <script> & odd/claims.json: claim 1"));
  const std::string page = read_file(path);

  for (const char* part : {"<strong>1</strong>holds",
                           "<strong>1</strong>fails",
                           "<strong>2</strong>not run",
                           ">M3<",
                           ">M4<",
                           "M2&lt;b&gt;",
                           ">ML<",
                           "1.05 × its",
                           "1.049 × its, 20.3 × faster",
                           "section 2.5",
                           "spread &lt;= 5%",
                           "OpenBLAS 0.3.21",
                           "Example CPU",
                           "avx2, fma",
                           "damaged &lt;script&gt; &amp; odd",
                           "not JSON",
                           "claim 1: &quot;statement&quot; is missing",
                           "environment.json is missing",
                           "This figure was not drawn",
                           "href=\"completion-compression/metrics.csv\"",
                           "href=\"damaged%20%3Cscript%3E"}) {
    INFO(part);
    CHECK(has(page, part));
  }
  for (const Figure& f : sample::figures()) {
    CHECK(has(page, text::html(f.title)));
    CHECK(has(page, text::html(f.caption)));
    CHECK(has(page, "href=\"completion-compression/" + f.name + ".csv\""));
    if (!f.alt.empty()) CHECK(has(page, "alt=\"" + text::html(f.alt) + "\""));
  }
  std::size_t pictures = 0;
  for (std::size_t at = page.find("<img "); at != std::string::npos;
       at = page.find("<img ", at + 1)) {
    ++pictures;
    CHECK(page.substr(at, page.find('>', at) - at).find("src=\"data:image/") != std::string::npos);
  }
  if (gnuplot_installed()) CHECK(pictures == sample::figures().size());
  CHECK_FALSE(has(page, "metrics.csv is missing"));
  CHECK_FALSE(has(page, folder.path()));
  CHECK_FALSE(has(page, "<script"));
  CHECK_FALSE(has(page, "src=\"http"));
  CHECK_FALSE(has(page, "@import"));
  CHECK(has(page, "default-src 'none'"));
  // Captions come in the order of the figures.
  CHECK(page.find("Depth and width") < page.find("Evolution of the singular"));
  CHECK(page.find("Evolution of the singular") < page.find("Compressed and original"));
  // Every relative link leads somewhere.
  std::set<std::string> links;
  for (std::size_t at = page.find("href=\""); at != std::string::npos;
       at = page.find("href=\"", at + 1)) {
    links.insert(page.substr(at + 6, page.find('"', at + 6) - at - 6));
  }
  for (const std::string& link : links) {
    if (link.rfind("data:", 0) == 0) continue;
    INFO(link);
    if (link[0] == '#') {
      CHECK(has(page, "id=\"" + link.substr(1) + "\""));
      continue;
    }
    std::string file;
    for (std::size_t i = 0; i < link.size(); ++i) {
      if (link[i] == '%') {
        file += static_cast<char>(std::stoi(link.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        file += link[i];
      }
    }
    CHECK(exists(folder / file));
  }
  // Written again from the same files it is the same page.
  write_report(folder.path());
  CHECK(read_file(path) == page);
  // A run folder by itself is a report of one run.
  const std::string single = write_report(folder / "movielens/").path;
  CHECK(has(read_file(single), ">movielens<"));
  CHECK(has(read_file(single), "href=\"claims.json\""));
}

TEST_CASE("a picture that is cut short is a problem by name and not shown") {
  const TempFolder folder;
  write_raw(folder / "config.json", R"({"experiment": "x"})");
  write_raw(folder / "cut.svg", "<svg width=\"4\" height=\"3\"><path");
  write_raw(folder / "cut.png", "\x89PNG\r\n\x1a\n");
  write_raw(folder / "whole.svg", "<svg width=\"4\" height=\"3\"></svg>\n");
  const Report written = write_report(folder.path());
  REQUIRE(written.damage.size() == 2);
  CHECK(written.damage[0] == folder / "cut.svg" +
                                 ": the picture is cut short, at 31 bytes; `gnuplot cut.gp` there "
                                 "draws it again");
  CHECK_THAT(written.damage[1], contains("cut.png: the picture is cut short, at 8 bytes"));
  const std::string page = read_file(written.path);
  CHECK(has(page, "cut.svg: the picture is cut short"));
  const std::size_t first = page.find("<img ");
  CHECK(first != std::string::npos);
  CHECK(page.find("<img ", first + 1) == std::string::npos);
}

TEST_CASE("a report of nothing is an error that says what was expected") {
  const TempFolder folder;
  CHECK_THROWS_AS(write_report(folder / "none"), InputError);
  CHECK_THROWS_WITH(write_report(folder / "none"),
                    contains("expected a folder of runs; it does not exist"));
  CHECK_THROWS_AS(write_report(folder.path()), InputError);
  CHECK_THROWS_WITH(write_report(folder.path()), contains("holds no run"));
  std::filesystem::create_directory(folder / "other");
  write_raw(folder / "other/notes.txt", "x");
  CHECK_THROWS_WITH(write_report(folder.path()), contains("holds no run"));
  // What `parsimony complete --out` writes is none either.
  std::filesystem::create_directory(folder / "completed");
  write_raw(folder / "completed/metrics.csv", "step,train_rmse\n0,1\n");
  write_raw(folder / "completed/complete.json", "{}");
  CHECK_THROWS_WITH(write_report(folder.path()), contains("holds no run"));
  CHECK_THROWS_WITH(write_report(folder / "completed"), contains("holds no run"));
  std::filesystem::create_directory(folder / "broken");
  write_raw(folder / "broken/config.json", std::string("\0\1\2", 3));
  CHECK_THROWS_AS(write_report(folder.path()), InputError);
  CHECK_THROWS_WITH(write_report(folder.path()),
                    contains("can be read") && contains("config.json"));
  CHECK_FALSE(exists(folder / "report.html"));
  write_raw(folder / "file", "x");
  CHECK_THROWS_AS(write_report(folder / "file"), InputError);
}

// Not a test: writes a report for browser_test.py, or for a look at it.
TEST_CASE("a sample report", "[.sample]") {
  const char* folder = std::getenv("PARSIMONY_SAMPLE");
  REQUIRE(folder != nullptr);
  sample::write_runs(folder);
  CHECK(exists(write_report(folder).path));
}
