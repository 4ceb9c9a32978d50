// Reads run folders for the report. A file that is missing or damaged is a line on the page and no
// exception: a report is wanted most when something went wrong.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/report.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "report/html.hpp"
#include "report/pictures.hpp"
#include "report/text.hpp"

namespace parsimony {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using report::KeyValues;
using report::PageFigure;
using report::PageRun;

// Above this size the PNG is smaller and looks the same (surfaces of thousands of polygons).
constexpr std::size_t largest_svg = 1'000'000;
constexpr std::size_t most_metric_rows = 40;
const char* const marks_of_a_run[] = {"config.json", "environment.json", "claims.json",
                                      "metrics.csv"};

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}
bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_run_folder(const fs::path& folder) {
  // What `parsimony complete` writes has metrics too, and is no run.
  const bool completion = is_file(folder / "complete.json");
  return std::any_of(std::begin(marks_of_a_run), std::end(marks_of_a_run),
                     [&](const std::string& name) {
                       return is_file(folder / name) && !(completion && name == "metrics.csv");
                     });
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().front() != '.') out.push_back(it->path());
  }
  if (error) {
    throw InputError(
        fmt::format("report: {} cannot be read: {}", folder.string(), error.message()));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string json_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "not known";
  if (!value.is_array()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string out;
  for (const Json& item : value) out += (out.empty() ? "" : ", ") + json_text(item);
  return out;
}

KeyValues read_object(const std::string& path) {
  const std::string bytes = read_file(path);
  try {
    const Json object = Json::parse(bytes);
    if (!object.is_object()) throw InputError(path + ": expected a JSON object");
    KeyValues out;
    for (const auto& [key, value] : object.items()) out.emplace_back(key, json_text(value));
    return out;
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("{}: not JSON: {}", path, text::json_message(e.what())));
  }
}

std::string rounded(const std::string& field) {
  double value = 0;
  const char* end = field.data() + field.size();
  const auto [stop, error] = std::from_chars(field.data(), end, value);
  const bool number = error == std::errc() && stop == end && !field.empty();
  return number ? fmt::format("{:.6g}", value) : field;
}

void read_metrics(const std::string& path, PageRun& run) {
  const CsvTable table = read_csv(path);
  run.metric_names = table.columns();
  // The last row of each series; without that column, of the table.
  std::map<std::string, std::size_t> last;
  std::vector<std::string> order;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const std::string series = table.has("series") ? table.strings("series")[row] : "";
    if (last.find(series) == last.end()) order.push_back(series);
    last[series] = row;
  }
  if (order.size() > most_metric_rows) order.resize(most_metric_rows);
  for (const std::string& series : order) {
    run.metric_rows.emplace_back();
    for (const std::string& column : table.columns()) {
      run.metric_rows.back().push_back(rounded(table.strings(column)[last[series]]));
    }
  }
}

// The number after `key` in the head of an SVG; 0 if there is none.
int svg_size(const std::string& svg, const std::string& key) {
  const std::size_t at = svg.substr(0, 400).find(key + "=\"");
  if (at == std::string::npos) return 0;
  const char* first = svg.data() + at + key.size() + 2;
  int value = 0;
  std::from_chars(first, svg.data() + svg.size(), value);
  return value;
}

// The page lies beside what it speaks of: paths on it begin at the run folder.
std::string without_folder(std::string message, const fs::path& folder) {
  const std::string prefix = folder.string() + "/";
  for (std::size_t at = 0; (at = message.find(prefix, at)) != std::string::npos;) {
    message.erase(at, prefix.size());
  }
  return message;
}

void note_damage(PageRun& run, const Error& e, const fs::path& folder) {
  run.problems.push_back(without_folder(e.what(), folder));
  run.damage.emplace_back(e.what());
}

// The bytes of a figure's picture; empty if there is none or it is cut short, which is noted.
std::string read_picture(const fs::path& folder, const std::string& file, PageRun& run) {
  const fs::path path = folder / file;
  if (!is_file(path)) return "";
  try {
    std::string bytes = read_file(path.string());
    if (report::is_whole_picture(path.extension() == ".png" ? "png" : "svg", bytes)) return bytes;
    throw InputError(
        fmt::format("{}: the picture is cut short, at {} bytes; `gnuplot {}.gp` there "
                    "draws it again",
                    path.string(), bytes.size(), path.stem().string()));
  } catch (const Error& e) {
    note_damage(run, e, folder);
    return "";
  }
}

PageFigure read_figure(const fs::path& folder, const std::string& name, PageRun& run) {
  PageFigure f;
  f.name = name;
  const std::string base = (folder / name).string();
  for (const char* ending : {".csv", ".gp", ".svg", ".png"}) {
    if (is_file(base + ending)) f.files.push_back(name + ending);
  }
  try {
    if (is_file(base + ".gp")) f.text = read_figure_text(base + ".gp");
  } catch (const Error& e) {
    note_damage(run, e, folder);
  }
  std::string svg = read_picture(folder, name + ".svg", run);
  std::string png = read_picture(folder, name + ".png", run);
  f.width = svg_size(svg, "width");
  f.height = svg_size(svg, "height");
  if (!svg.empty() && (svg.size() <= largest_svg || png.empty())) {
    f.media_type = "image/svg+xml";
    f.picture = std::move(svg);
  } else if (!png.empty()) {
    f.media_type = "image/png";
    f.picture = std::move(png);
  }
  return f;
}

void read_figures(const fs::path& folder, PageRun& run) {
  std::set<std::string> names;
  for (const auto& [file, size] : run.files) {
    const fs::path path = file;
    if (path.extension() == ".gp" || path.extension() == ".svg" || path.extension() == ".png") {
      names.insert(path.stem().string());
    }
  }
  for (const std::string& name : names) run.figures.push_back(read_figure(folder, name, run));
  std::stable_sort(
      run.figures.begin(), run.figures.end(),
      [](const PageFigure& a, const PageFigure& b) { return a.text.order < b.text.order; });
}

PageRun read_run(const fs::path& folder, const std::string& name, const std::string& prefix) {
  PageRun run;
  run.name = name;
  run.prefix = prefix;
  const auto attempt = [&](const char* file, const std::function<void(const std::string&)>& read) {
    const std::string path = (folder / file).string();
    if (!is_file(path)) {
      run.problems.push_back(std::string(file) + " is missing");
      return;
    }
    try {
      read(path);
    } catch (const Error& e) {
      note_damage(run, e, folder);
    }
  };
  attempt("config.json", [&](const std::string& path) { run.config = read_object(path); });
  attempt("environment.json",
          [&](const std::string& path) { run.environment = read_object(path); });
  attempt("claims.json", [&](const std::string& path) { run.claims = read_claims(path); });
  // An experiment that was not run has logged nothing.
  const bool ran = std::any_of(run.claims.begin(), run.claims.end(),
                               [](const Claim& c) { return c.verdict != Claim::not_run; });
  if (ran || run.claims.empty() || is_file(folder / "metrics.csv")) {
    attempt("metrics.csv", [&](const std::string& path) { read_metrics(path, run); });
  }
  for (const fs::path& entry : entries_of(folder)) {
    std::error_code ignored;
    const std::string file = entry.filename().string();
    if (is_folder(entry)) {
      run.checkpoint = run.checkpoint || file == "checkpoint";
    } else if (is_file(entry) && file != "report.html") {
      run.files.emplace_back(file, fs::file_size(entry, ignored));
    }
  }
  read_figures(folder, run);
  return run;
}

bool nothing_readable(const PageRun& run) {
  return run.config.empty() && run.environment.empty() && run.claims.empty() &&
         run.metric_names.empty();
}

}  // namespace

Report write_report(const std::string& out_dir) {
  const fs::path out = out_dir;
  check_folder(out_dir, "a folder of runs");
  std::vector<PageRun> runs;
  if (is_run_folder(out)) {
    const fs::path whole = fs::absolute(out).lexically_normal();
    const fs::path last = whole.has_filename() ? whole.filename() : whole.parent_path().filename();
    runs.push_back(read_run(out, last.string(), ""));
  } else {
    for (const fs::path& entry : entries_of(out)) {
      if (!is_folder(entry) || !is_run_folder(entry)) continue;
      const std::string name = entry.filename().string();
      runs.push_back(read_run(entry, name, name + "/"));
    }
  }
  if (runs.empty()) {
    throw InputError(fmt::format(
        "report: {} holds no run: expected a folder for each, with config.json and claims.json; "
        "`parsimony run NAME --out {}` makes one",
        out_dir, out_dir));
  }
  if (std::all_of(runs.begin(), runs.end(), nothing_readable)) {
    throw InputError(fmt::format("report: nothing in {} can be read; {}{}", out_dir,
                                 runs.front().prefix, runs.front().problems.front()));
  }
  Report written{(out / "report.html").string(), {}};
  for (const PageRun& run : runs) {
    written.damage.insert(written.damage.end(), run.damage.begin(), run.damage.end());
  }
  write_file_atomically(written.path, report::render_page(runs));
  return written;
}

}  // namespace parsimony
