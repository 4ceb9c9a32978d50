// Writes the gnuplot script of a figure.
//
// The script draws once per picture: it runs for SVG, then loads itself for PNG. `stem` names the
// pictures, so that write_figure can have them drawn under a temporary name. All texts are
// `noenhanced`, in single quotes: nothing in a label is markup or reaches a shell. Colours are
// those of Okabe and Ito (2008), which stay apart for colour-blind readers; dashes and markers tell
// curves apart without colour.
#include "report/gnuplot_script.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "report/panel_data.hpp"
#include "report/placement.hpp"
#include "report/text.hpp"

namespace parsimony::report {
namespace {

constexpr std::array<const char*, 8> palette = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                "#E69F00", "#56B4E9", "#000000", "#7F7F7F"};
constexpr std::array<int, 8> markers = {7, 5, 9, 13, 11, 6, 4, 8};
constexpr const char* ink = "#333333";

std::string number(double v) { return fmt::format("{:.12g}", v); }

// Everything that a panel's lines are written from.
struct Drawing {
  const FigureNumbers& numbers;
  const FigureLayout& layout;
  const Panel& panel;
  std::size_t at;    // of the panel
  std::string file;  // quoted

  const PanelExtent& extent() const { return layout.extents[at]; }
  const Placement& placement() const { return layout.placements[at]; }
  std::string data(std::size_t series) const {
    return fmt::format("{} index {}", file, numbers.block[at][series]);
  }
  // A height in the picture, from 0 at its foot to 1: so many pixels below the top of the row.
  std::string screen(double pixels) const {
    const int row = static_cast<int>(at) / layout.columns;
    return fmt::format("screen {:.4f}", 1 - (row + pixels / layout.row_height) / layout.rows);
  }
};

void add(std::string& out, const std::string& line) { out += line + "\n"; }

std::string colour_of(const Series& s, std::size_t position) {
  const std::size_t i = s.color >= 0 ? static_cast<std::size_t>(s.color) : position;
  return fmt::format("rgb '{}'", palette[i % palette.size()]);
}

std::string title_of(const std::string& label) {
  return label.empty() ? "notitle" : "title " + text::gnuplot(label) + " noenhanced";
}

// --- Axes --------------------------------------------------------------------------------------

// Ranges are written out: gnuplot 5.4 loses bounds on the automatic range of a log axis.
void axis(std::string& out, const char* name, bool log, const Interval& range) {
  add(out, fmt::format("set {}range [{}:{}]", name, number(range.low), number(range.high)));
  if (!log) return;
  add(out, fmt::format("set logscale {}", name));
  if (decades(range) >= 2) {
    add(out, fmt::format("set format {} '10^{{%L}}'", name));
    return;
  }
  std::string tics;
  for (const double tic : short_log_tics(range)) tics += (tics.empty() ? "" : ", ") + number(tic);
  add(out, fmt::format("set {}tics ({})", name, tics));
}

void labels(std::string& out, const Drawing& d) {
  const Panel& panel = d.panel;
  const PanelExtent& extent = d.extent();
  if (!panel.title.empty()) {
    add(out, "set title " + text::gnuplot(panel.title) + " noenhanced");
  }
  std::string below = text::gnuplot(panel.x_label);
  if (extent.not_positive > 0) {
    below += fmt::format(".\"\\n\".'({} {} ≤ 0 not drawn on a log axis)'", extent.not_positive,
                         extent.not_positive == 1 ? "value" : "values");
  }
  const bool surface = !panel.surfaces.empty();
  const char* turn = surface ? " rotate parallel" : "";
  add(out, "set xlabel " + below + " noenhanced" + turn);
  add(out, "set ylabel " + text::gnuplot(panel.y_label) + " noenhanced" + turn);
  // Above its axis: beside it a label would run over the numbers, or out of the picture.
  if (surface) {
    add(out, "set label " + text::gnuplot(panel.z_label) +
                 " at graph 0, graph 0, graph 1.2 center noenhanced");
  }
  if (panel.categories.empty()) return;
  std::string tics;
  for (std::size_t i = 0; i < panel.categories.size(); ++i) {
    // The text of a tic is a format for its number.
    std::string name;
    for (const char c : panel.categories[i]) name += c == '%' ? "%%" : std::string(1, c);
    tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", text::gnuplot(name), i);
  }
  const char* slant = d.placement().slanted ? "rotate by 45 right " : "";
  if (d.placement().slanted) {
    // gnuplot would give the first and last names room of their own, each panel another.
    const auto column = static_cast<double>(d.at % static_cast<std::size_t>(d.layout.columns));
    add(out, fmt::format("set lmargin at screen {:.4f}", (column + 0.23) / d.layout.columns));
    add(out, fmt::format("set rmargin at screen {:.4f}", (column + 0.96) / d.layout.columns));
  }
  add(out, fmt::format("set xtics {}noenhanced scale 0 ({})", slant, tics));
}

void legend(std::string& out, const Drawing& d) {
  const auto key = [&](const std::string& place) {
    add(out, fmt::format("set key {} Left reverse samplen 2.2 spacing 1.0 font ',{}'", place,
                         d.layout.font - 1));
  };
  const Placement& p = d.placement();
  const int foot = d.layout.row_height - d.layout.bottom + d.layout.legend_top;
  switch (p.legend) {
    case Panel::none:
      add(out, "unset key");
      return;
    case Panel::top_right:
      key("top right");
      return;
    case Panel::top_left:
      key("top left");
      return;
    case Panel::bottom_left:
      key("bottom left");
      return;
    case Panel::bottom_right:
      key("bottom right");
      return;
    case Panel::automatic:
      key(fmt::format("at graph {:.3f}, graph {:.3f} left top", p.legend_u, p.legend_v));
      return;
    case Panel::below:
      key("at graph 0.5, " + d.screen(foot) + " center top");
      return;
  }
}

void references(std::string& out, const Drawing& d) {
  for (std::size_t i = 0; i < d.panel.references.size(); ++i) {
    const ReferenceLine& r = d.panel.references[i];
    const bool log = r.vertical ? d.panel.log_x : d.panel.log_y;
    if (!can_draw(r.at, log)) continue;
    const std::string at = number(r.at);
    const std::string from =
        r.vertical ? fmt::format("first {}, graph 0", at) : fmt::format("graph 0, first {}", at);
    const std::string to =
        r.vertical ? fmt::format("first {}, graph 1", at) : fmt::format("graph 1, first {}", at);
    add(out, fmt::format("set arrow from {} to {} nohead back lw 1 dt (6,4) lc rgb '#767676'", from,
                         to));
    if (r.label.empty()) continue;
    const LabelPlace& p = d.placement().references[i];
    const std::string place =
        r.vertical ? fmt::format("at first {}, graph {:.3f} {} offset {}, 0", at, p.along,
                                 p.beyond ? "left" : "right", p.beyond ? "0.7" : "-0.7")
                   : fmt::format("at graph {:.3f}, first {} left offset 0, {}", p.along, at,
                                 p.beyond ? "0.6" : "-0.6");
    add(out, fmt::format("set label {} {} noenhanced front font ',{}' tc rgb '#555555'",
                         text::gnuplot(r.label), place, d.layout.font - 2));
  }
}

// --- Series ------------------------------------------------------------------------------------

// Sets of bars share the room between neighbouring values of x.
struct BarLayout {
  std::size_t sets = 0;
  double width = 0;
};
BarLayout bar_layout(const Panel& panel) {
  BarLayout layout;
  for (const Series& s : panel.series) layout.sets += s.style == Series::bars ? 1 : 0;
  const double fill = layout.sets > 1 ? 0.8 : 0.9;
  layout.width =
      fill * bar_distance(panel) / static_cast<double>(std::max<std::size_t>(layout.sets, 1));
  return layout;
}

std::string y_column(const Drawing& d, int column) {
  return d.panel.log_y ? fmt::format("(${0}>0?${0}:NaN)", column) : std::to_string(column);
}
std::string x_column(const Drawing& d) { return d.panel.log_x ? "($1>0?$1:NaN)" : "1"; }

bool has_band(const Series& s) { return !s.low.empty(); }
bool is_curve(const Series& s) { return s.style != Series::markers && s.style != Series::bars; }

void band(std::vector<std::string>& plots, const Drawing& d, std::size_t k) {
  const Series& s = d.panel.series[k];
  if (!has_band(s) || !is_curve(s)) return;
  // On a log axis a band that reaches 0 is cut off at the lowest curve.
  const std::string low =
      d.panel.log_y ? fmt::format("(${0}>0?${0}:{1})", d.numbers.low, number(d.extent().smallest_y))
                    : std::to_string(d.numbers.low);
  plots.push_back(fmt::format(
      "{} using {}:{}:{} with filledcurves fs transparent solid 0.22 noborder fc {} notitle",
      d.data(k), x_column(d), low, y_column(d, d.numbers.high), colour_of(s, k)));
}

void trajectory(std::vector<std::string>& plots, const Drawing& d, std::size_t k, int paths) {
  const Series& s = d.panel.series[k];
  const std::string colour = colour_of(s, k);
  const std::string xy = x_column(d) + ":" + y_column(d, 2);
  // Paths that coincide stay visible: the first is broad, the next ones thin with open marks.
  const std::string look =
      paths == 0 ? fmt::format("lw {} pt 7 ps 0.7", number(s.width * 2 * d.layout.line))
                 : fmt::format("lw {} dt (8,5) pt 6 ps 1.3", number(s.width * d.layout.line));
  plots.push_back(fmt::format("{} using {} with linespoints {} lc {} {}", d.data(k), xy, look,
                              colour, title_of(s.label)));
  const auto mark = [&](std::size_t row, int marker, double size) {
    plots.push_back(
        fmt::format("{0} every ::{1}::{1} using {2} with points pt {3} ps {4} lw 2 lc "
                    "rgb '{5}' notitle",
                    d.data(k), row, xy, marker, size, ink));
  };
  mark(0, 4, 1.8);
  mark(s.x.size() - 1, 12, 1.8);
}

void curve(std::vector<std::string>& plots, const Drawing& d, std::size_t k) {
  const Series& s = d.panel.series[k];
  const std::string colour = colour_of(s, k);
  const std::string xy = x_column(d) + ":" + y_column(d, 2);
  const std::string width = number(s.width * d.layout.line);
  const std::string start = d.data(k) + " using " + xy;
  const std::string end = fmt::format("lc {} {}", colour, title_of(s.label));
  const std::size_t look = s.color >= 0 ? static_cast<std::size_t>(s.color) : k;
  const int marker = markers[(s.marker >= 0 ? static_cast<std::size_t>(s.marker) : look) % 8];
  switch (s.style) {
    case Series::dash:
      plots.push_back(start + " with lines dt (9,5) lw " + width + " " + end);
      break;
    case Series::dot:
      plots.push_back(start + " with lines dt (2,4) lw " + width + " " + end);
      break;
    case Series::solid_markers:
      plots.push_back(
          fmt::format("{} with linespoints lw {} pt {} ps 1 {}", start, width, marker, end));
      break;
    case Series::markers:
      if (has_band(s)) {
        plots.push_back(fmt::format("{}:{}:{} with yerrorbars lw 1.5 pt {} ps 1.1 {}", start,
                                    y_column(d, d.numbers.low), y_column(d, d.numbers.high), marker,
                                    end));
      } else {
        plots.push_back(fmt::format("{} with points lw 1.5 pt {} ps 1.1 {}", start, marker, end));
      }
      break;
    default:
      plots.push_back(start + " with lines lw " + width + " " + end);
  }
}

void bars(std::vector<std::string>& plots, const Drawing& d, std::size_t k, std::size_t set) {
  const Series& s = d.panel.series[k];
  const BarLayout layout = bar_layout(d.panel);
  const double offset =
      (static_cast<double>(set) - 0.5 * static_cast<double>(layout.sets - 1)) * layout.width;
  const std::string x = fmt::format("($1+({}))", number(offset));
  plots.push_back(fmt::format(
      "{} using {}:{}:({}) with boxes fs solid 0.85 border rgb '{}' fc {} {}", d.data(k), x,
      y_column(d, 2), number(layout.width), "#ffffff", colour_of(s, k), title_of(s.label)));
  if (!has_band(s)) return;
  // Error bars as arrows with flat heads: those of gnuplot blank a disc where a point would be.
  plots.push_back(fmt::format(
      "{0} using {1}:{2}:(0):(${4}-${3}) with vectors heads size screen 0.005,90 fixed lw 1.5 lc "
      "rgb '{5}' notitle",
      d.data(k), x, y_column(d, d.numbers.low), d.numbers.low, d.numbers.high, ink));
}

std::string joined(const char* command, const std::vector<std::string>& plots) {
  std::string out = command;
  for (std::size_t i = 0; i < plots.size(); ++i) {
    out += (i == 0 ? " " : ", \\\n     ") + plots[i];
  }
  return out;
}

// Whether an axis from low to high shows few enough counts for a number at each.
bool few_counts(const Panel& panel, const Interval& axis) {
  const double span = axis.high - axis.low;
  if (span < 2 || span > 8) return false;
  return std::all_of(panel.series.begin(), panel.series.end(), [](const Series& s) {
    return std::all_of(s.x.begin(), s.x.end(), [](double x) { return x == std::floor(x); });
  });
}

void flat_panel(std::string& out, const Drawing& d) {
  const Panel& p = d.panel;
  const PanelAxes axes = axes_of(p, d.extent());
  axis(out, "x", p.log_x, axes.x);
  axis(out, "y", p.log_y, axes.y);
  if (!p.log_x && p.categories.empty()) {
    // gnuplot would mark halves between few counts, and write long numbers into each other.
    if (few_counts(p, axes.x)) {
      add(out, "set xtics 1");
    } else if (std::max(-axes.x.low, axes.x.high) >= 1000) {
      add(out, "set xtics " + number(round_step(axes.x, 5)));
    }
  }
  references(out, d);
  std::vector<std::string> plots;
  for (std::size_t k = 0; k < p.series.size(); ++k) {
    if (d.numbers.block[d.at][k] > 0) band(plots, d, k);
  }
  std::size_t set = 0;
  int paths = 0;
  for (std::size_t k = 0; k < p.series.size(); ++k) {
    if (d.numbers.block[d.at][k] == 0) continue;
    switch (p.series[k].style) {
      case Series::bars:
        bars(plots, d, k, set++);
        break;
      case Series::trajectory:
        trajectory(plots, d, k, paths++);
        break;
      default:
        curve(plots, d, k);
    }
  }
  if (paths > 0) {
    plots.push_back(fmt::format("NaN with points pt 4 ps 1.6 lw 2 lc rgb '{}' title 'start'", ink));
    plots.push_back(fmt::format("NaN with points pt 12 ps 1.6 lw 2 lc rgb '{}' title 'end'", ink));
  }
  add(out, joined("plot", plots));
}

void surface_panel(std::string& out, const Drawing& d) {
  const Panel& p = d.panel;
  const Surface& s = p.surfaces.front();
  const std::string z =
      p.log_z ? fmt::format("(${0}>0?${0}:NaN)", d.numbers.z) : std::to_string(d.numbers.z);
  add(out, "set border 895");
  add(out, "set grid x y z vertical");
  add(out, "set xtics offset 0, -0.3");
  add(out, "set ytics offset 0.5, -0.2");
  add(out, "set xyplane 0");
  add(out, "set view 60, 40, 1, 1");
  const PanelAxes axes = axes_of(p, d.extent());
  axis(out, "x", p.log_x, axes.x);
  axis(out, "y", p.log_y, axes.y);
  axis(out, "z", p.log_z, axes.z);
  // The perceptually uniform "viridis".
  add(out,
      "set palette defined (0 '#440154', 1 '#46327e', 2 '#365c8d', 3 '#277f8e', 4 '#1fa187', "
      "5 '#4ac16d', 6 '#a0da39', 7 '#fde725')");
  add(out, "unset colorbox");
  if (s.style == Surface::mesh) {
    add(out, "set pm3d depthorder border lc rgb '#40404040' lw 0.4");
    add(out, joined("splot", {fmt::format("{} using 1:2:{} with pm3d", d.data(0), z)}));
    return;
  }
  // Back to front, each curve hiding what lies behind it.
  add(out, fmt::format("set style line 1 lc rgb '{}' lw 1.4", palette[0]));
  add(out, fmt::format("splot for [i={}:0:-1] {} every :::i::i using 1:2:{}:({}):{} with "
                       "zerrorfill ls 1 fc rgb '#ffffff' notitle",
                       s.y.size() - 1, d.data(0), z, number(axes.z.low), z));
}

void empty_panel(std::string& out) {
  add(out, "set xrange [0:1]");
  add(out, "set yrange [0:1]");
  add(out, "unset tics");
  add(out, "unset key");
  add(out, "set label 'no data to draw' at graph 0.5, graph 0.5 center tc rgb '#555555'");
  add(out, "plot NaN notitle");
}

// --- The file ----------------------------------------------------------------------------------

void head(std::string& out, const Figure& figure, const std::vector<std::string>& notes) {
  add(out, fmt::format("# Draws {0}.svg and {0}.png from {0}.csv: gnuplot {0}.gp", figure.name));
  add(out, "# title: " + text::clean(figure.title));
  add(out, "# caption: " + text::clean(figure.caption));
  add(out, "# alt: " + text::clean(figure.alt));
  add(out, fmt::format("# order: {}", figure.order));
  for (const std::string& note : notes) add(out, "# " + text::clean(note));
}

void terminals(std::string& out, const Figure& figure, const FigureLayout& layout) {
  const int width = layout.panel_width * layout.columns;
  const int height = layout.row_height * layout.rows;
  add(out, "\nif (!exists('stem')) { stem = " + text::gnuplot(figure.name) + " }");
  add(out, "if (!exists('kind')) { kind = 'svg' }");
  add(out, "set encoding utf8");
  add(out, "if (kind eq 'svg') {");
  add(out, fmt::format("  set terminal svg size {},{} enhanced font 'sans-serif,{}' background "
                       "'#ffffff' dashlength 0.6",
                       width, height, layout.font));
  add(out, "} else {");
  add(out,
      fmt::format("  set terminal pngcairo size {},{} enhanced font 'sans-serif,{}' background "
                  "'#ffffff' fontscale 1.5 linewidth 2 pointscale 2 dashlength 0.6",
                  2 * width, 2 * height, layout.font));
  add(out, "}");
  add(out, "set output stem.'.'.kind");
  add(out, fmt::format("set multiplot layout {},{}", layout.rows, layout.columns));
}

void common_style(std::string& out, const FigureLayout& layout) {
  add(out, "set encoding utf8");
  add(out, "set decimalsign '.'");
  add(out, "set datafile separator ','");
  add(out, fmt::format("set border 3 lw 1 lc rgb '{}'", ink));
  add(out,
      fmt::format("set tics nomirror out scale 0.6 tc rgb '{}' font ',{}'", ink, layout.font - 1));
  add(out, "set grid lw 0.6 lt 1 lc rgb '#DDDDDD'");
}

}  // namespace

std::string figure_script(const Figure& figure, const FigureNumbers& numbers,
                          const std::vector<std::string>& notes) {
  const FigureLayout layout = layout_of(figure);
  const std::string file = text::gnuplot(figure.name + ".csv");
  std::string out;
  head(out, figure, notes);
  terminals(out, figure, layout);
  for (std::size_t i = 0; i < figure.panels.size(); ++i) {
    const Panel& panel = figure.panels[i];
    const Drawing d{numbers, layout, panel, i, file};
    add(out, fmt::format("\n# panel {}", i + 1));
    add(out, "reset");
    common_style(out, layout);
    labels(out, d);
    legend(out, d);
    if (panel.surfaces.empty() || !d.extent().drawable()) {
      add(out, "set tmargin at " + d.screen(layout.top));
      add(out, "set bmargin at " + d.screen(layout.row_height - layout.bottom));
    }
    if (!d.extent().drawable()) {
      empty_panel(out);
    } else if (panel.surfaces.empty()) {
      flat_panel(out, d);
    } else {
      surface_panel(out, d);
    }
  }
  add(out, "\nunset multiplot");
  add(out, "unset output");
  add(out, "if (kind eq 'svg') {");
  add(out, "  kind = 'png'");
  add(out, "  load " + text::gnuplot(figure.name + ".gp"));
  add(out, "}");
  return out;
}

}  // namespace parsimony::report
