// Figures: their numbers, and that they draw, also again from their own folder, whatever stands in
// the labels and however little there is to draw.
#include <parsimony/error.hpp>
#include <parsimony/figure.hpp>
#include <parsimony/files.hpp>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <locale>
#include <numeric>

#include "report/gnuplot_process.hpp"
#include "support/numbers.hpp"
#include "support/report_checks.hpp"
#include "support/report_sample.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using testing::contains;
using testing::exists;
using testing::gnuplot_installed;
using testing::has;
using testing::infinity;
using testing::lines_of;
using testing::nan_value;
using testing::TempFolder;
using testing::write_raw;

namespace {

// "" if the text is well-formed XML as far as tags, quotes and entities go.
std::string xml_fault(const std::string& s) {
  std::vector<std::string> open;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '&') {
      const std::size_t end = s.find(';', i);
      if (end == std::string::npos || end - i > 10) return "bare & at " + std::to_string(i);
    }
    if (s[i] != '<') continue;
    std::size_t end = i + 1;
    for (char quote = 0; end < s.size() && (quote != 0 || s[end] != '>'); ++end) {
      if (quote == 0 && (s[end] == '"' || s[end] == '\'')) {
        quote = s[end];
      } else if (s[end] == quote) {
        quote = 0;
      }
    }
    if (end >= s.size()) return "open tag at " + std::to_string(i);
    const std::string tag = s.substr(i + 1, end - i - 1);
    i = end;
    if (tag.empty()) return "empty tag";
    if (tag[0] == '?' || tag[0] == '!' || tag.back() == '/') continue;
    const std::string name = tag.substr(0, tag.find_first_of(" \t\n"));
    if (name[0] != '/') {
      open.push_back(name);
    } else if (open.empty() || "/" + open.back() != name) {
      return "unexpected <" + name + ">";
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

Figure small_figure() {
  Figure f;
  f.name = "small";
  Panel& p = f.panel("panel");
  p.line("a, \"b\"", {0, 0.1}, {1, nan_value});
  p.band("c", {1, 2}, {5, 6}, {4, 5}, {6, infinity});
  return f;
}

}  // namespace

TEST_CASE("the CSV of a figure") {
  const TempFolder folder;
  write_figure(folder.path(), small_figure());
  CHECK(read_file(folder / "small.csv") ==
        "x,y,low,high,panel,series\n\n\n"
        "0,1,,,1,\"a, \"\"b\"\"\"\n0.10000000000000001,nan,,,1,\"a, \"\"b\"\"\"\n\n\n"
        "1,5,4,6,1,c\n2,6,5,inf,1,c\n");
  Figure f;
  f.name = "surface";
  f.panel().surface({1, 2}, {0, 1}, {1, 2, 3, 4});
  f.panels[0].z_label = "σ";
  write_figure(folder.path(), f);
  CHECK(read_file(folder / "surface.csv") ==
        "x,y,z,panel,series\n\n\n1,0,1,1,σ\n2,0,2,1,σ\n\n1,1,3,1,σ\n2,1,4,1,σ\n");
}

TEST_CASE("numbers in figures do not follow the locale") {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const TempFolder folder;
  write_figure(folder.path(), small_figure());
  const std::string csv = read_file(folder / "small.csv");
  const std::string script = read_file(folder / "small.gp");
  const std::locale before = std::locale::global(std::locale(std::locale(), new Comma));
  const bool drawn = write_figure(folder.path(), small_figure());
  std::locale::global(before);
  CHECK(drawn == gnuplot_installed());
  CHECK(read_file(folder / "small.csv") == csv);
  CHECK(read_file(folder / "small.gp") == script);
}

TEST_CASE("every kind of figure is drawn, and again from its own folder") {
  const TempFolder folder;
  for (Figure f : sample::figures()) {
    INFO(f.name);
    if (f.name == "width") f.size = Figure::column;
    const bool drawn = write_figure(folder.path(), f);
    REQUIRE(drawn == gnuplot_installed());
    if (!drawn) continue;
    const std::string svg = folder / (f.name + ".svg");
    const std::string png = folder / (f.name + ".png");
    const std::string picture = read_file(svg);
    CHECK(xml_fault(picture) == "");
    CHECK(has(picture, "</svg>"));
    CHECK(read_file(png).substr(0, 8) == "\x89PNG\r\n\x1a\n");
    std::filesystem::remove(svg);
    std::filesystem::remove(png);
    const report::ProcessResult again =
        report::run_in_folder({"gnuplot", "-d", f.name + ".gp"}, folder.path());
    CHECK(again.messages == "");
    CHECK(again.status == 0);
    CHECK(read_file(svg) == picture);
    CHECK(exists(png));
    const FigureText text = read_figure_text(folder / (f.name + ".gp"));
    CHECK(text.title == f.title);
    CHECK(text.caption == f.caption);
    CHECK(text.alt == f.alt);
    CHECK(text.order == f.order);
  }
  if (gnuplot_installed()) CHECK(folder.count() == 4 * sample::figures().size());
}

TEST_CASE("labels are drawn as they are and run nothing") {
  const TempFolder folder;
  const std::string label = "a_b^c {d} @e ~f \\g `touch pwned` \"h\" 'i' <j> & %k #l Ωσ₁ $m";
  Figure f;
  f.name = "labels";
  f.title = f.caption = label + "\nsecond line: `touch pwned`";
  Panel& p = f.panel(label);
  p.x_label = p.y_label = label;
  p.categories = {"a_b 50% `touch pwned`", "it's %d"};
  p.bars(label, {0, 1}, {1, 2});
  p.horizontal(1.5, label);
  Panel& q = f.panel("`touch pwned`");
  q.z_label = label;
  q.surface({0, 1}, {0, 1}, {0, 1, 2, 3});
  REQUIRE(write_figure(folder.path(), f) == gnuplot_installed());
  CHECK(read_figure_text(folder / "labels.gp").caption == label + " second line: `touch pwned`");
  CHECK_FALSE(exists(folder / "pwned"));
  if (!gnuplot_installed()) return;
  const std::string svg = read_file(folder / "labels.svg");
  CHECK(xml_fault(svg) == "");
  // Title, two axis labels, the legend, the line's label, the height.
  std::size_t times = 0;
  const std::string drawn = "a_b^c {d} @e ~f \\g `touch pwned` \"h\" 'i' &lt;j> &amp; %k #l Ωσ₁ $m";
  for (std::size_t at = svg.find(drawn); at != std::string::npos; at = svg.find(drawn, at + 1)) {
    ++times;
  }
  CHECK(times == 6);
  CHECK(has(svg, ">a_b 50% `touch pwned`<"));
  CHECK(has(svg, ">it's %d<"));
}

TEST_CASE("names that do not fit side by side stand at an angle, marks can be chosen") {
  const TempFolder folder;
  const auto script = [&](const std::string& name, const std::vector<std::string>& categories) {
    Figure f;
    f.name = name;
    Panel& p = f.panel();
    p.categories = categories;
    Series& s = p.points("", {0, 1}, {1, 2});
    s.color = 0;
    s.marker = 2;
    write_figure(folder.path(), f);
    return read_file(folder / (name + ".gp"));
  };
  CHECK_FALSE(has(script("short", {"one", "two", "three"}), "rotate by"));
  const std::string slanted = script("long", {"a rather long name", "another one", "and a third"});
  CHECK(has(slanted, "rotate by 45 right"));
  CHECK(has(slanted, "pt 9 ps 1.1 lc rgb '#0072B2'"));
}

TEST_CASE("figures of data that can hardly be drawn") {
  const TempFolder folder;
  const auto draws = [&](const std::string& name, const std::function<void(Panel&)>& fill) {
    INFO(name);
    Figure f;
    f.name = name;
    fill(f.panel("p"));
    CHECK(write_figure(folder.path(), f) == gnuplot_installed());
    return read_file(folder / (name + ".gp"));
  };
  CHECK(has(draws("nothing", [](Panel&) {}), "no data to draw"));
  CHECK(has(draws("empty", [](Panel& p) { p.line("a", {}, {}); }), "no data to draw"));
  CHECK(has(draws("nans",
                  [](Panel& p) {
                    p.line("a", {1, 2}, {nan_value, infinity});
                  }),
            "no data to draw"));
  CHECK(has(draws("no_surface",
                  [](Panel& p) {
                    p.surface({1, 2}, {1}, {nan_value, nan_value});
                  }),
            "no data to draw"));
  CHECK(has(draws("below_zero",
                  [](Panel& p) {
                    p.log_y = true;
                    p.line("a", {1, 2}, {0, -1});
                  }),
            "no data to draw"));
  const std::string some = draws("some_zero", [](Panel& p) {
    p.log_y = true;
    p.x_label = "x";
    p.band("a", {1, 2, 3}, {1, 0.1, 0}, {-1, 0.01, 0}, {2, 0.2, 0});
    p.points("b", {1, 2}, {0, 1});
  });
  CHECK(has(some, "2 values ≤ 0 not drawn"));
  draws("one_point", [](Panel& p) { p.line("a", {1}, {1}); });
  draws("flat", [](Panel& p) { p.line("a", {1, 2}, {3, 3}); });
  draws("flat_zero", [](Panel& p) { p.points("a", {0, 0}, {0, 0}); });
  draws("flat_log", [](Panel& p) {
    p.log_x = p.log_y = true;
    p.line("a", {1e-9, 1e-9}, {1e-200, 1e-200});
  });
  draws("large", [](Panel& p) { p.line("a", {-1e250, 1e250}, {-1e280, 1e280}); });
  draws("largest", [](Panel& p) { p.line("a", {0, 1, 2, 3}, {1, 1e308, -1e308, 2}); });
  draws("far_outside", [](Panel& p) {
    p.y_range = {0, 1e-6};
    p.line("a", {0, 1}, {-1e9, 1e9});
    p.bars("b", {0}, {1e9});
  });
  draws("empty_and_full", [](Panel& p) {
    p.line("a", {}, {});
    p.line("b", {0, 1}, {0, 1});
    p.vertical(nan_value, "nowhere");
    p.horizontal(5, "far");
  });
  draws("one_bar", [](Panel& p) { p.bars("a", {3}, {-2}).low = {}; });
  draws("ranges", [](Panel& p) {
    p.x_range = {0, 0.5};
    p.y_range = {-1, 1};
    p.line("a", {0, 1}, {0, 1});
  });
  const std::string limit = draws("limit", [](Panel& p) {
    p.log_y = true;
    p.line("a", {0, 1}, {1e-15, 1e-6});
    p.horizontal(1e-3, "limit");
    p.vertical(1, "end");
  });
  CHECK(has(limit, "set xrange [0:1.04]"));
  const std::size_t range = limit.find("set yrange [");
  REQUIRE(range != std::string::npos);
  CHECK(std::stod(limit.substr(limit.find(':', range) + 1)) > 1e-3);
  CHECK(has(draws("short_log",
                  [](Panel& p) {
                    p.log_y = true;
                    p.line("a", {1, 2, 3}, {2e-3, 5e-3, 8e-3});
                  }),
            "set ytics (0.002, 0.003, 0.005, 0.007)"));
  // A number at each of few counts, and none at halves.
  const auto counted = [&](const std::string& name, std::vector<double> x) {
    const std::vector<double> y(x.size(), 1);
    return has(draws(name, [&](Panel& p) { p.line("a", x, y); }), "set xtics 1\n");
  };
  CHECK(counted("counts", {1, 2, 3, 4}));
  CHECK_FALSE(counted("halves", {1, 1.5, 2, 3}));
  CHECK_FALSE(counted("shares", {0, 1}));
  // Numbers of many digits stand apart.
  for (const auto& [last, step] : {std::pair<double, std::string>{999, ""},
                                   {4000, "1000"},
                                   {17600, "5000"},
                                   {60000, "20000"}}) {
    CAPTURE(last);
    const double end = last;
    const std::string text = draws("long", [&](Panel& p) {
      p.line("a", {0, end}, std::vector<double>{1, 2});
    });
    CHECK(has(text, "set xtics " + step + "\n") == !step.empty());
  }
  draws("shortest_log", [](Panel& p) {
    p.log_x = true;
    p.x_range = {1, 1 + 1e-6};
    p.points("a", {1}, {1});
  });
  draws("path_of_one", [](Panel& p) { p.trajectory("a", {1}, {1}); });
  draws("surface_with_gap", [](Panel& p) {
    p.surface({1, 2, 3}, {1, 2, 3}, {1, 2, 3, 4, nan_value, 6, 7, 8, 9});
  });
  draws("flat_surface", [](Panel& p) { p.surface({1, 2}, {1, 2}, {1, 1, 1, 1}); });
  draws("one_scan", [](Panel& p) { p.surface({1, 2}, {1}, {1, 2}).style = Surface::waterfall; });
}

TEST_CASE("malformed figures are refused by name") {
  const TempFolder folder;
  const auto refused = [&](const Figure& f, const std::string& message) {
    CHECK_THROWS_AS(write_figure(folder.path(), f), ValueError);
    CHECK_THROWS_WITH(write_figure(folder.path(), f), contains(message));
  };
  Figure f = small_figure();
  for (const char* name : {"", "../up", "-e", ".hidden", "a b", "a'b"}) {
    f.name = name;
    refused(f, "the name must be");
  }
  f = Figure{};
  f.name = "f";
  refused(f, "expected 1 to 4 panels; got 0");
  for (int i = 0; i < 5; ++i) f.panel();
  refused(f, "got 5");
  f = small_figure();
  f.panels[0].series[0].y.pop_back();
  refused(f, "figure small, panel 1, series 1 (\"a, \"b\"\"): x and y must have one length; got 2");
  f = small_figure();
  f.panels[0].series[1].high.clear();
  refused(f, "the band must have the length of x");
  f = small_figure();
  f.panels[0].surface({1}, {1}, {1});
  refused(f, "series, or one surface");
  f.panels[0].series.clear();
  f.panels[0].surfaces[0].z.clear();
  refused(f, "the surface needs 1 x 1 heights; got 0");
  f = small_figure();
  f.panels[0].log_x = true;
  f.panels[0].x_range = {0, 1};
  refused(f, "must begin above 0");
  CHECK(folder.count() == 0);
  CHECK_THROWS_AS(write_figure(folder / "none", small_figure()), IoError);
  CHECK_THROWS_AS(Panel().mean_band("a", {1, 2}, {{1}}), ValueError);
  CHECK_THROWS_AS(Panel().histogram("a", {1, 2}, 0), ValueError);
}

TEST_CASE("without gnuplot the numbers and the script are there") {
  const TempFolder folder;
  const std::string path = std::getenv("PATH") == nullptr ? "" : std::getenv("PATH");
  write_raw(folder / "small.svg", "<svg></svg>");
  ::setenv("PATH", folder.path().c_str(), 1);
  const bool drawn = write_figure(folder.path(), small_figure());
  ::setenv("PATH", path.c_str(), 1);
  CHECK_FALSE(drawn);
  CHECK(exists(folder / "small.csv"));
  CHECK(exists(folder / "small.gp"));
  CHECK_FALSE(exists(folder / "small.svg"));  // it showed other numbers
}

// A limit on file size cuts a picture short in the middle of a write, as a full disk does; gnuplot
// ends as if all were well.
TEST_CASE("a picture that is cut short is an error and leaves nothing") {
  if (!gnuplot_installed()) return;
  const TempFolder folder;
  Figure f = small_figure();
  std::vector<double> many(500);
  std::iota(many.begin(), many.end(), 0.0);
  f.panels[0].points("many", many, many);  // a few bytes each in the table, 60 in the picture
  write_raw(folder / "small.svg", "<svg></svg>");
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit limited = before;
  limited.rlim_cur = 16000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
  std::string message;
  try {
    write_figure(folder.path(), f);
  } catch (const IoError& e) {
    message = e.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, contains("write: cannot write '") && contains("small.svg") &&
                          contains("ends after 16000 bytes; is the disk full?"));
  CHECK(exists(folder / "small.csv"));
  CHECK(exists(folder / "small.gp"));
  CHECK(folder.count() == 2);  // no picture, an older one neither, and nothing of gnuplot's
}

TEST_CASE("means, histograms and thinned curves") {
  Panel p;
  const Series& band = p.mean_band("a", {1, 2, 3}, {{1, 5, nan_value}, {3, nan_value, nan_value}});
  CHECK(band.y[0] == 2);
  CHECK(band.low[0] == 1);
  CHECK(band.high[0] == 3);
  CHECK(band.y[1] == 5);
  CHECK(band.high[1] == 5);
  CHECK(std::isnan(band.y[2]));

  const Series& bars = p.histogram("h", {0, 0.1, 1, 3.9, 4, nan_value, infinity}, 4);
  CHECK(bars.x == std::vector<double>{0.5, 1.5, 2.5, 3.5});
  CHECK(bars.y == std::vector<double>{2, 1, 0, 2});
  CHECK(p.histogram("one", {7, 7}, 5).y == std::vector<double>{2});
  CHECK(p.histogram("none", {}, 5).y.empty());

  const TempFolder folder;
  Figure f;
  f.name = "long";
  std::vector<double> x(100000);
  std::vector<double> y(100000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
  y[54321] = 1e6;
  y[77777] = -3;
  f.panel().line("spiky", x, y);
  write_figure(folder.path(), f);
  const std::string csv = read_file(folder / "long.csv");
  CHECK(lines_of(csv).size() < 5100);
  CHECK(has(csv, "\n54321,1000000,"));
  CHECK(has(csv, "\n77777,-3,"));
  CHECK(has(csv, "\n99999,0,"));
  CHECK(has(read_file(folder / "long.gp"), "of 100000 points, extremes kept"));
}
