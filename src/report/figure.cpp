// Building figures, and writing one: CSV and script first, then the pictures that gnuplot draws
// from them in a temporary folder.
#include <parsimony/error.hpp>
#include <parsimony/figure.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "report/gnuplot_process.hpp"
#include "report/gnuplot_script.hpp"
#include "report/panel_data.hpp"
#include "report/pictures.hpp"
#include "report/text.hpp"

namespace parsimony {
namespace {

namespace fs = std::filesystem;

// More points than pixels only make the picture large.
constexpr std::size_t most_points = 4000;

void warn_once(const std::string& message) {
  static std::once_flag said;
  std::call_once(said, [&] { std::fputs(message.c_str(), stderr); });
}

// Where gnuplot draws: a folder within the figure's, whose name is of those that a run removes as
// it starts, should this process be killed meanwhile.
class DrawingFolder {
 public:
  explicit DrawingFolder(const fs::path& parent) {
    static std::atomic<unsigned> counter{0};
    std::error_code error;
    do {
      name_ = fmt::format(".parsimony-{}-figure-{}.tmp", getpid(), counter++);
      path_ = parent / name_;
    } while (!fs::create_directory(path_, error) && !error);
    if (error) {
      throw IoError(fmt::format("{}: cannot be written: {}", parent.string(), error.message()));
    }
  }
  ~DrawingFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  DrawingFolder(const DrawingFolder&) = delete;
  DrawingFolder& operator=(const DrawingFolder&) = delete;
  const std::string& name() const { return name_; }
  /// What gnuplot wrote under this name; empty if nothing.
  std::string read(const std::string& file) const {
    std::error_code ignored;
    return fs::exists(path_ / file, ignored) ? read_file((path_ / file).string()) : "";
  }

 private:
  std::string name_;
  fs::path path_;
};

bool draw(const std::string& folder, const std::string& name) {
  const std::string base = (fs::path(folder) / name).string();
  for (const char* kind : {".svg", ".png"}) {
    std::error_code ignored;
    fs::remove(base + kind, ignored);  // an older picture would belong to other numbers
  }
  const DrawingFolder drawn(folder);
  const report::ProcessResult r = report::run_in_folder(
      {"gnuplot", "-d", "-e", fmt::format("stem = '{}/{}'", drawn.name(), name), name + ".gp"},
      folder);
  // posix_spawn may report a missing program as exit status 127.
  if (!r.started || r.status == 127) {
    warn_once(
        "warning: gnuplot is not installed, so figures are written as .csv and .gp only; install "
        "gnuplot (Debian: apt-get install gnuplot-nox) and run `gnuplot NAME.gp` beside them\n");
    return false;
  }
  const bool too_large = r.status == 128 + SIGXFSZ;
  if (r.status != 0 && !too_large) {
    fmt::print(stderr, "warning: gnuplot could not draw {}.gp in {} (exit status {}): {}\n", name,
               folder, r.status, text::clean(r.messages, true));
    return false;
  }
  const std::string svg = drawn.read(name + ".svg");
  const std::string png = drawn.read(name + ".png");
  // gnuplot looks at no write: it ends as if all were well when the disk is full.
  for (const auto& [kind, picture] : {std::pair{"svg", &svg}, {"png", &png}}) {
    if (!report::is_whole_picture(kind, *picture)) {
      throw IoError(fmt::format(
          "write: cannot write '{}.{}': gnuplot's picture ends after {} bytes; is the disk full?",
          base, kind, picture->size()));
    }
  }
  write_file_atomically(base + ".svg", svg);
  write_file_atomically(base + ".png", png);
  return true;
}

}  // namespace

Panel& Figure::panel(const std::string& panel_title) {
  panels.emplace_back();
  panels.back().title = panel_title;
  return panels.back();
}

Series& Panel::add(Series::Style style, const std::string& label, std::vector<double> x,
                   std::vector<double> y) {
  series.emplace_back();
  Series& s = series.back();
  s.label = label;
  s.x = std::move(x);
  s.y = std::move(y);
  s.style = style;
  return s;
}

Series& Panel::line(const std::string& label, std::vector<double> x, std::vector<double> y) {
  return add(Series::solid, label, std::move(x), std::move(y));
}

Series& Panel::dashed(const std::string& label, std::vector<double> x, std::vector<double> y) {
  return add(Series::dash, label, std::move(x), std::move(y));
}

Series& Panel::points(const std::string& label, std::vector<double> x, std::vector<double> y) {
  return add(Series::markers, label, std::move(x), std::move(y));
}

Series& Panel::band(const std::string& label, std::vector<double> x, std::vector<double> y,
                    std::vector<double> low, std::vector<double> high) {
  Series& s = add(Series::solid, label, std::move(x), std::move(y));
  s.low = std::move(low);
  s.high = std::move(high);
  return s;
}

Series& Panel::mean_band(const std::string& label, const std::vector<double>& x,
                         const std::vector<std::vector<double>>& runs) {
  std::vector<double> mean(x.size());
  std::vector<double> low(x.size());
  std::vector<double> high(x.size());
  for (const std::vector<double>& run : runs) {
    if (run.size() != x.size()) {
      throw ValueError(fmt::format("mean_band \"{}\": each run needs {} values; got {}", label,
                                   x.size(), run.size()));
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    double sum = 0;
    double count = 0;
    for (const std::vector<double>& run : runs) {
      if (std::isnan(run[i])) continue;
      sum += run[i];
      ++count;
    }
    mean[i] = sum / count;  // NaN where no run has a value
    double squares = 0;
    for (const std::vector<double>& run : runs) {
      if (!std::isnan(run[i])) squares += (run[i] - mean[i]) * (run[i] - mean[i]);
    }
    const double deviation = std::sqrt(squares / count);
    low[i] = mean[i] - deviation;
    high[i] = mean[i] + deviation;
  }
  return band(label, x, std::move(mean), std::move(low), std::move(high));
}

Series& Panel::bars(const std::string& label, std::vector<double> x, std::vector<double> heights) {
  return add(Series::bars, label, std::move(x), std::move(heights));
}

Series& Panel::histogram(const std::string& label, const std::vector<double>& values, int bins) {
  if (bins < 1) {
    throw ValueError(fmt::format("histogram \"{}\": expected at least 1 bin; got {}", label, bins));
  }
  report::Interval range;
  for (const double v : values) {
    if (std::isfinite(v)) range.include(v);
  }
  std::vector<double> x;
  std::vector<double> counts;
  if (!range.empty) {
    const bool flat = !(range.high > range.low);
    const double width = flat ? 1 : (range.high - range.low) / bins;
    const double first = flat ? range.low - 0.5 : range.low;
    const auto n = static_cast<std::size_t>(flat ? 1 : bins);
    counts.assign(n, 0);
    for (std::size_t b = 0; b < n; ++b) x.push_back(first + (static_cast<double>(b) + 0.5) * width);
    for (const double v : values) {
      if (!std::isfinite(v)) continue;
      // The largest value belongs to the last bin.
      const auto b = static_cast<std::size_t>((v - first) / width);
      ++counts[std::min(b, n - 1)];
    }
  }
  return add(Series::bars, label, std::move(x), std::move(counts));
}

Series& Panel::trajectory(const std::string& label, std::vector<double> x, std::vector<double> y) {
  return add(Series::trajectory, label, std::move(x), std::move(y));
}

void Panel::vertical(double x, const std::string& label) { references.push_back({true, x, label}); }

void Panel::horizontal(double y, const std::string& label) {
  references.push_back({false, y, label});
}

Surface& Panel::surface(std::vector<double> x, std::vector<double> y, std::vector<double> z) {
  surfaces.push_back({std::move(x), std::move(y), std::move(z)});
  return surfaces.back();
}

bool write_figure(const std::string& folder, const Figure& figure) {
  report::check_figure(figure);
  Figure drawn = figure;
  std::vector<std::string> notes;
  for (std::size_t i = 0; i < drawn.panels.size(); ++i) {
    for (Series& s : drawn.panels[i].series) {
      const std::size_t before = s.x.size();
      s = report::thinned(s, most_points);
      if (s.x.size() < before) {
        notes.push_back(fmt::format("panel {}, \"{}\": {} of {} points, extremes kept", i + 1,
                                    s.label, s.x.size(), before));
      }
    }
  }
  const report::FigureNumbers numbers = report::figure_numbers(drawn);
  const fs::path base = fs::path(folder) / figure.name;
  write_file_atomically(base.string() + ".csv", numbers.csv);
  write_file_atomically(base.string() + ".gp", report::figure_script(drawn, numbers, notes));
  return draw(folder.empty() ? "." : folder, figure.name);
}

FigureText read_figure_text(const std::string& script_path) {
  const std::string script = read_file(script_path);
  FigureText out;
  std::string order;
  const std::pair<std::string_view, std::string*> fields[] = {{"# title: ", &out.title},
                                                              {"# caption: ", &out.caption},
                                                              {"# alt: ", &out.alt},
                                                              {"# order: ", &order}};
  for (std::size_t at = 0; at < script.size() && script[at] == '#';) {
    const std::size_t end = std::min(script.find('\n', at), script.size());
    const std::string_view line = std::string_view(script).substr(at, end - at);
    for (const auto& [key, value] : fields) {
      if (line.substr(0, key.size()) == key) *value = line.substr(key.size());
    }
    at = end + 1;
  }
  std::from_chars(order.data(), order.data() + order.size(), out.order);
  return out;
}

}  // namespace parsimony
