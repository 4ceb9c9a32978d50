// What a panel will show, worked out before the script is written: which values can be drawn
// and where they lie. Also the checks of a figure.
#pragma once

#include <parsimony/figure.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace parsimony::report {

/// An interval that grows with what is put into it; empty at first.
struct Interval {
  double low = 0, high = 0;
  bool empty = true;
  void include(double value);
};

/// Whether a value has a place on an axis. gnuplot takes the largest doubles for undefined.
inline bool can_draw(double value, bool log) {
  return std::abs(value) < 1e290 && (!log || value > 0);
}

struct PanelExtent {
  Interval x, y, z;              // of what can be drawn, bands and reference lines included
  std::size_t not_positive = 0;  // finite values that a log axis leaves out
  double smallest_y = 0;         // smallest positive y, the floor of bands on a log axis
  bool drawable() const { return !x.empty && !y.empty; }
};
PanelExtent extent_of(const Panel& panel);

/// Smallest distance between neighbouring bars of a panel; 1 where there is at most one.
double bar_distance(const Panel& panel);

/// The axes of a panel as they are drawn: the fixed range, or the data with a little room where
/// curves, markers or reference lines would touch the frame. Never empty, never flat.
struct PanelAxes {
  Interval x, y, z;
};
PanelAxes axes_of(const Panel& panel, const PanelExtent& extent);

/// Decades that an interval spans, for log axes.
double decades(const Interval& interval);

/// The smallest step, 1, 2 or 5 times a power of ten, that divides an axis into at most `most`
/// parts.
double round_step(const Interval& axis, int most);

/// Where to put the numbers on a log axis of less than two decades, whose powers of ten are too
/// few.
std::vector<double> short_log_tics(const Interval& axis);

/// At most about `limit` points: first, last, lowest and highest of each of limit/4 stretches, in
/// order, with their bands. Markers and bars are returned as they are.
Series thinned(const Series& series, std::size_t limit);

/// @throws ValueError naming the figure, panel and series.
void check_figure(const Figure& figure);

}  // namespace parsimony::report
