// Figures: data and style in, four files out. NAME.csv holds the numbers, NAME.gp is a gnuplot
// script that reads only that file, NAME.svg and NAME.png are the pictures; `gnuplot NAME.gp` in
// their folder draws them again.
//
//   Figure f;
//   f.name = "recovery";
//   f.caption = "Recovery error of both factorisations.";
//   Panel& p = f.panel("against iterations");
//   p.x_label = "iterations / 100";
//   p.y_label = "recovery error";
//   p.log_y = true;
//   p.line("original", steps, errors);
//   p.dashed("compressed, γ = 0.01", steps2, errors2);
//   p.horizontal(1e-10, "tolerance");
//   write_figure(folder, f);
//
// Labels are plain UTF-8 text; nothing in them is markup (write W₁ and 10⁻³ with Unicode).
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

/// Points of one curve, or heights of one set of bars.
struct Series {
  enum Style { solid, dash, dot, markers, solid_markers, bars, trajectory };

  std::string label;      // in the legend; empty = not there
  std::vector<double> x;  // ascending for curves; NaN and infinities leave gaps
  std::vector<double> y;
  /// A shaded band (curves) or error bars (markers, bars) from low to high; both empty = none.
  std::vector<double> low, high;
  Style style = solid;
  int color = -1;    // index into the palette of 8; -1 = position within the panel
  int marker = -1;   // index into the 8 marks of points; -1 = that of the color
  double width = 2;  // of the line, in points
};

/// A thin line across the panel at a value of x (vertical) or y, with a label beside it.
struct ReferenceLine {
  bool vertical = false;
  double at = 0;
  std::string label;
};

/// Heights z over a grid: z[i * x.size() + j] belongs to (x[j], y[i]).
struct Surface {
  enum Style {
    mesh,      // a coloured surface with its grid lines
    waterfall  // one filled curve for each y, the last y at the back
  };
  std::vector<double> x, y, z;
  Style style = mesh;
};

/// One pair of axes. A panel holds series, or one surface.
struct Panel {
  /// `automatic` takes the corner that covers the fewest points, or goes below the axes.
  enum Legend { automatic, top_right, top_left, bottom_right, bottom_left, below, none };

  std::string title, x_label, y_label, z_label;
  bool log_x = false, log_y = false, log_z = false;  // values <= 0 are left out, and counted below
  Legend legend = automatic;
  /// Fixed range where first < second.
  std::pair<double, double> x_range{0, 0}, y_range{0, 0}, z_range{0, 0};
  /// Names at x = 0, 1, 2, … instead of numbers.
  std::vector<std::string> categories;
  std::deque<Series> series;  // a deque: what line() returned stays valid
  std::vector<ReferenceLine> references;
  std::vector<Surface> surfaces;  // none or one

  Series& line(const std::string& label, std::vector<double> x, std::vector<double> y);
  Series& dashed(const std::string& label, std::vector<double> x, std::vector<double> y);
  Series& points(const std::string& label, std::vector<double> x, std::vector<double> y);
  /// A curve with a shaded band from low to high.
  Series& band(const std::string& label, std::vector<double> x, std::vector<double> y,
               std::vector<double> low, std::vector<double> high);
  /// Mean over runs (population) with a band of one standard deviation each way. Each run has one
  /// value for each x; NaN entries do not count. @throws ValueError if lengths differ.
  Series& mean_band(const std::string& label, const std::vector<double>& x,
                    const std::vector<std::vector<double>>& runs);
  /// Bars at x; several sets stand side by side.
  Series& bars(const std::string& label, std::vector<double> x, std::vector<double> heights);
  /// Counts of values in `bins` equal bins between the smallest and the largest value.
  Series& histogram(const std::string& label, const std::vector<double>& values, int bins);
  /// A path in the plane with its start and end marked.
  Series& trajectory(const std::string& label, std::vector<double> x, std::vector<double> y);
  void vertical(double x, const std::string& label = "");
  void horizontal(double y, const std::string& label = "");
  Surface& surface(std::vector<double> x, std::vector<double> y, std::vector<double> z);

 private:
  Series& add(Series::Style style, const std::string& label, std::vector<double> x,
              std::vector<double> y);
};

/// One to four panels. References that panel() and line() return stay valid as more are added.
struct Figure {
  enum Size {
    page,   // panels 440 x 340 px at 96 dpi: an HTML page, or a figure across a page
    column  // panels 330 x 250 px with small type: one column of a paper
  };

  std::string name;     // of the files; letters, digits, '.', '_' and '-'
  std::string title;    // shown by the report above the picture, not drawn
  std::string caption;  // shown by the report below it
  std::string alt;      // what a reader who cannot see the picture should know; "" = made up
  int order = 0;        // position in the report; then by name
  int columns = 0;      // panels beside each other; 0 = up to 3 in a row, 4 as 2 x 2
  Size size = page;
  std::deque<Panel> panels;

  Panel& panel(const std::string& title = "");
};

/// Writes NAME.csv, NAME.gp, NAME.svg and NAME.png into an existing folder, each whole or not at
/// all. Without a working gnuplot the first two are written, stderr says once what to install, and
/// the result is false. Curves of more than 4000 points are thinned to the extremes of equal
/// stretches; the script says so.
/// @throws ValueError if the figure is malformed, IoError if a file cannot be written, a picture
/// that gnuplot had no room for included.
bool write_figure(const std::string& folder, const Figure& figure);

/// What the report shows of a figure, from the first lines of its script.
struct FigureText {
  std::string title, caption, alt;
  int order = 0;
};
/// @throws InputError if the script cannot be read.
FigureText read_figure_text(const std::string& script_path);

}  // namespace parsimony
