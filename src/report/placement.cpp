// Marks the cells of a raster that curves pass through, then takes the first box, in an order of
// preference, that covers none of them; see placement.hpp.
#include "report/placement.hpp"

#include <algorithm>
#include <cmath>

#include "report/text.hpp"

namespace parsimony::report {
namespace {

// Position of a value within an interval, 0 to 1, on a linear or log scale; the value can be axes.
double along(double value, const Interval& interval, bool log) {
  const double low = log ? std::log10(interval.low) : interval.low;
  const double high = log ? std::log10(interval.high) : interval.high;
  if (!(high > low)) return 0.5;
  // Far outside a fixed range is as good as just outside, and sooner walked to.
  return std::clamp(((log ? std::log10(value) : value) - low) / (high - low), -1.0, 2.0);
}

// Calls visit(u, v) for points of the panel's curves and reference lines, in units of the axes,
// close enough together that none slips through a legend.
template <class Visit>
void sample(const Panel& panel, const PanelAxes& axes, const Visit& visit) {
  constexpr double step = 0.02;
  const double half_bar = 0.45 * bar_distance(panel) / std::max(axes.x.high - axes.x.low, 1e-300);
  for (const Series& s : panel.series) {
    const bool joined = s.style != Series::markers && s.style != Series::bars;
    const bool line = s.style == Series::solid || s.style == Series::dash || s.style == Series::dot;
    double u0 = 0;
    double v0 = 0;
    bool started = false;
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!can_draw(s.x[i], panel.log_x) || !can_draw(s.y[i], panel.log_y)) {
        started = false;
        continue;
      }
      const double u = along(s.x[i], axes.x, panel.log_x);
      const double v = along(s.y[i], axes.y, panel.log_y);
      visit(u, v);
      if (s.style == Series::bars) {
        for (double w = v; w > 0; w -= step) {
          for (double t = u - half_bar; t < u + half_bar; t += step) visit(t, w);
        }
      } else if (!line) {
        for (const double by : {-step, step}) {
          visit(u + by, v);
          visit(u, v + by);
        }
      }
      if (joined && started) {
        const double length = std::max(std::abs(u - u0), std::abs(v - v0));
        for (double t = step; t < length; t += step) {
          visit(u0 + (u - u0) * t / length, v0 + (v - v0) * t / length);
        }
      }
      if (!s.low.empty() && can_draw(s.low[i], panel.log_y) && can_draw(s.high[i], panel.log_y)) {
        const double top = along(s.high[i], axes.y, panel.log_y);
        for (double w = along(s.low[i], axes.y, panel.log_y); w <= top; w += step) visit(u, w);
      }
      u0 = u;
      v0 = v;
      started = true;
    }
  }
  for (const ReferenceLine& r : panel.references) {
    if (!can_draw(r.at, r.vertical ? panel.log_x : panel.log_y)) continue;
    for (double t = 0; t <= 1; t += step) {
      if (r.vertical) {
        visit(along(r.at, axes.x, panel.log_x), t);
      } else {
        visit(t, along(r.at, axes.y, panel.log_y));
      }
    }
  }
}

// Which cells of the panel something is drawn in.
class Raster {
 public:
  void mark(double u, double v) {
    if (u < 0 || u > 1 || v < 0 || v > 1) return;
    cells_[cell(v)][cell(u)] = true;
  }
  void mark_box(double u, double v, double width, double height) {
    for (double i = 0; i <= 1; i += 0.02) {
      for (double k = 0; k <= 1; k += 0.1) mark(u + i * width, v + k * height);
    }
  }
  int covered(double u, double v, double width, double height) const {
    int count = 0;
    for (std::size_t i = cell(v); i <= cell(v + height); ++i) {
      for (std::size_t k = cell(u); k <= cell(u + width); ++k) count += cells_[i][k] ? 1 : 0;
    }
    return count;
  }

 private:
  static constexpr std::size_t size = 64;
  static std::size_t cell(double t) {
    return static_cast<std::size_t>(std::clamp(t, 0.0, 0.999999) * size);
  }
  std::array<std::array<bool, size>, size> cells_{};
};

// The label of a horizontal line at v: near its right end, left end or in between.
LabelPlace place_horizontal(Raster& raster, double v, double width, double height) {
  LabelPlace best{0.985 - width, true};
  int least = -1;
  for (const double u : {0.985 - width, 0.015, 0.5 - width / 2, 0.7 - width / 2, 0.3 - width / 2}) {
    for (const bool above : {true, false}) {
      const double low = above ? v + 0.02 : v - height - 0.02;
      if (low < 0 || low + height > 1) continue;
      const int covered = raster.covered(u, low, width, height);
      if (least >= 0 && covered >= least) continue;
      least = covered;
      best = {u, above};
    }
  }
  raster.mark_box(best.along, best.beyond ? v : v - height, width, height);
  return best;
}

// The label of a vertical line at u stands beside it, near its top, bottom or middle.
LabelPlace place_vertical(Raster& raster, double u, double width, double height) {
  LabelPlace best{0.96, true};
  int least = -1;
  for (const double middle : {0.96, 0.05, 0.5}) {
    for (const bool right : {true, false}) {
      const double left = right ? u + 0.02 : u - width - 0.02;
      if (left < 0 || left + width > 1) continue;
      const int covered = raster.covered(left, middle - height / 2, width, height);
      if (least >= 0 && covered >= least) continue;
      least = covered;
      best = {middle, right};
    }
  }
  raster.mark_box(best.beyond ? u : u - width, best.along - height / 2, width, height);
  return best;
}

// Size of a plot between its axes and of the type, in pixels.
struct PlotSize {
  double width, height, font;
};

int legend_entries(const Panel& panel) {
  int entries = 0;
  bool paths = false;
  for (const Series& s : panel.series) {
    paths = paths || s.style == Series::trajectory;
    entries += s.label.empty() ? 0 : 1;
  }
  return entries > 0 && paths ? entries + 2 : entries;  // "start" and "end"
}

// Sets legend_u and legend_v if there is a free place.
bool place_legend(const Raster& raster, double width, double height, Placement& out) {
  constexpr double edge = 0.02;
  if (width > 0.9 || height > 0.8) return false;
  const double right = 1 - edge - width;
  const double top = 1 - edge - height;
  // Corners first, then edges, then anywhere.
  std::vector<std::array<double, 2>> places = {
      {right, top}, {edge, top}, {right, edge}, {edge, edge}};
  for (const double t : {0.5, 0.25, 0.75}) {
    places.push_back({right, edge + t * (top - edge)});
    places.push_back({edge, edge + t * (top - edge)});
    places.push_back({edge + t * (right - edge), edge});
    places.push_back({edge + t * (right - edge), top});
  }
  for (int i = 1; i < 12; ++i) {
    for (int k = 1; k < 12; ++k) {
      places.push_back({edge + (right - edge) * i / 12, edge + (top - edge) * k / 12});
    }
  }
  for (const auto& [u, v] : places) {
    if (raster.covered(u, v, width, height) > 0) continue;
    out.legend_u = u;
    out.legend_v = v + height;
    return true;
  }
  return false;
}

Placement place_texts(const Panel& panel, const PanelExtent& extent, const PlotSize& plot) {
  const PanelAxes axes = axes_of(panel, extent);
  Raster raster;
  sample(panel, axes, [&](double u, double v) { raster.mark(u, v); });

  // Measured on both pictures: the PNG has the wider letters, the SVG the wider lines.
  const double character = 0.54 * plot.font / plot.width;
  const double line = 1.45 * plot.font / plot.height;
  Placement out;
  for (const ReferenceLine& r : panel.references) {
    const double width = text::display_width(text::clean(r.label)) * character;
    if (!can_draw(r.at, r.vertical ? panel.log_x : panel.log_y)) {
      out.references.emplace_back();
    } else if (r.vertical) {
      out.references.push_back(
          place_vertical(raster, along(r.at, axes.x, panel.log_x), width, line));
    } else {
      out.references.push_back(
          place_horizontal(raster, along(r.at, axes.y, panel.log_y), width, line));
    }
  }
  const int entries = legend_entries(panel);
  out.legend = entries > 0 && extent.drawable() ? panel.legend : Panel::none;
  if (out.legend != Panel::automatic) return out;
  int longest = 5;
  for (const Series& s : panel.series) {
    longest = std::max(longest, text::display_width(text::clean(s.label)));
  }
  if (!place_legend(raster, (longest + 6) * character, (entries + 0.5) * line, out)) {
    out.legend = Panel::below;
  }
  return out;
}

constexpr double slant_sine = 0.7;  // of 45 degrees

/// Width of the longest category's name, in pixels, by the type's size.
double longest_category(const Panel& panel, double font) {
  int longest = 0;
  for (const std::string& name : panel.categories) {
    longest = std::max(longest, text::display_width(text::clean(name)));
  }
  return 0.54 * font * longest;
}

}  // namespace

FigureLayout layout_of(const Figure& figure) {
  FigureLayout out;
  const bool column = figure.size == Figure::column;
  const int n = static_cast<int>(figure.panels.size());
  out.columns = std::clamp(figure.columns > 0 ? figure.columns : n == 4 ? 2 : n, 1, n);
  out.rows = (n + out.columns - 1) / out.columns;
  out.panel_width = column ? 330 : 440;
  out.row_height = column ? 290 : 380;
  out.font = column ? 11 : 14;
  out.line = column ? 0.85 : 1;
  const auto lines = [&](double count) { return static_cast<int>(count * out.font); };
  const bool titled = std::any_of(figure.panels.begin(), figure.panels.end(),
                                  [](const Panel& p) { return !p.title.empty(); });
  out.top = lines(titled ? 3.4 : 1.2);

  const double plot_width = 0.7 * out.panel_width;
  int below = 0;
  bool notes = false;
  double names = 0;  // height of slanted ones
  for (const Panel& panel : figure.panels) {
    out.extents.push_back(extent_of(panel));
    notes = notes || out.extents.back().not_positive > 0;
    const double width = longest_category(panel, out.font);
    if (width * static_cast<double>(panel.categories.size()) > plot_width) {
      names = std::max(names, slant_sine * width);
    }
  }
  const bool labelled = std::any_of(figure.panels.begin(), figure.panels.end(),
                                    [](const Panel& p) { return !p.x_label.empty(); });
  // Numbers and the label of the x axis, perhaps with a line on what is left out.
  out.legend_top = lines(notes ? 6.8 : labelled ? 5.1 : 3.1) + static_cast<int>(names);
  out.row_height += static_cast<int>(names);
  out.bottom = out.legend_top;
  const PlotSize plot{plot_width, static_cast<double>(out.row_height - out.top - out.bottom),
                      static_cast<double>(out.font)};
  for (std::size_t i = 0; i < figure.panels.size(); ++i) {
    const Panel& panel = figure.panels[i];
    out.placements.push_back(place_texts(panel, out.extents[i], plot));
    out.placements.back().slanted =
        longest_category(panel, out.font) * static_cast<double>(panel.categories.size()) >
        plot_width;
    if (out.placements.back().legend == Panel::below) {
      below = std::max(below, lines(1.5 * legend_entries(figure.panels[i]) + 0.6));
    }
  }
  out.bottom += below;
  out.row_height += below;
  return out;
}

}  // namespace parsimony::report
