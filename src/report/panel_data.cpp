// Ranges, legend corners, thinning and checks of figures; see panel_data.hpp.
#include "report/panel_data.hpp"

#include <parsimony/error.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

#include <fmt/format.h>

#include "report/text.hpp"

namespace parsimony::report {
namespace {

// Widens an interval by parts of its length, on a linear or log scale.
Interval with_room(const Interval& data, bool log, double below, double above) {
  Interval out = data;
  if (log) {
    const double span = std::log10(data.high / data.low);
    out.low *= std::pow(10, -below * span);
    out.high *= std::pow(10, above * span);
  } else {
    out.low -= below * (data.high - data.low);
    out.high += above * (data.high - data.low);
  }
  return out;
}

Interval axis_of(Interval data, const std::pair<double, double>& fixed, bool log, double below,
                 double above) {
  if (fixed.first < fixed.second) return {fixed.first, fixed.second, false};
  if (data.empty) return {log ? 0.1 : 0, 1, false};
  if (log && !(data.high > data.low * 1.0001)) {
    data.low /= 2;
    data.high *= 2;
  } else if (!log &&
             !(data.high - data.low > 1e-9 * std::max(std::abs(data.low), std::abs(data.high)))) {
    const double room = data.low == 0 ? 1 : std::abs(data.low) * 0.1;
    data.low -= room;
    data.high += room;
  }
  return with_room(data, log, below, above);
}

void check_lengths(const std::string& where, const Series& s) {
  const auto same = [&](std::size_t n) { return n == s.x.size(); };
  if (!same(s.y.size())) {
    throw ValueError(fmt::format("{}: x and y must have one length; got {} and {}", where,
                                 s.x.size(), s.y.size()));
  }
  if (s.low.empty() && s.high.empty()) return;
  if (!same(s.low.size()) || !same(s.high.size())) {
    throw ValueError(fmt::format("{}: the band must have the length of x, {}; got {} and {}", where,
                                 s.x.size(), s.low.size(), s.high.size()));
  }
}

}  // namespace

void Interval::include(double value) {
  low = empty ? value : std::min(low, value);
  high = empty ? value : std::max(high, value);
  empty = false;
}

double decades(const Interval& interval) {
  return interval.empty || interval.low <= 0 ? 0 : std::log10(interval.high / interval.low);
}

double bar_distance(const Panel& panel) {
  double distance = std::numeric_limits<double>::infinity();
  for (const Series& s : panel.series) {
    if (s.style != Series::bars) continue;
    std::vector<double> x;
    std::copy_if(s.x.begin(), s.x.end(), std::back_inserter(x),
                 [](double v) { return can_draw(v, false); });
    std::sort(x.begin(), x.end());
    for (std::size_t i = 1; i < x.size(); ++i) {
      if (x[i] > x[i - 1]) distance = std::min(distance, x[i] - x[i - 1]);
    }
  }
  return std::isfinite(distance) ? distance : 1;
}

double round_step(const Interval& axis, int most) {
  const double least = (axis.high - axis.low) / most;
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const int digit : {1, 2, 5}) {
    if (digit * power >= least) return digit * power;
  }
  return 10 * power;
}

std::vector<double> short_log_tics(const Interval& axis) {
  std::vector<double> tics;
  const auto first = static_cast<int>(std::floor(std::log10(axis.low)));
  const auto last = static_cast<int>(std::floor(std::log10(axis.high)));
  if (axis.high >= 3 * axis.low) {
    const bool close = axis.high < 12 * axis.low;
    for (int power = first; power <= last; ++power) {
      for (const int digit : {1, 2, 3, 5, 7}) {
        const double tic = digit * std::pow(10, power);
        const bool wanted = close || (digit != 3 && digit != 7);
        if (wanted && tic >= axis.low && tic <= axis.high) tics.push_back(tic);
      }
    }
    return tics;
  }
  // Nearly linear: steps of 1, 2 or 5 times a power of ten, about four of them.
  const double rough = (axis.high - axis.low) / 4;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough < 2 * power ? 1 : rough < 5 * power ? 2 : 5);
  const double start = std::ceil(axis.low / step) * step;
  for (int k = 0; k < 10 && start + k * step <= axis.high; ++k) tics.push_back(start + k * step);
  return tics;
}

PanelExtent extent_of(const Panel& panel) {
  PanelExtent e;
  const double half_bar = bar_distance(panel) / 2;
  const auto dropped = [&](double value, bool log) {
    if (!log || !std::isfinite(value) || value > 0) return false;
    ++e.not_positive;
    return true;
  };
  for (const Series& s : panel.series) {
    if (s.style == Series::bars) e.y.include(panel.log_y ? 1 : 0);
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (dropped(s.x[i], panel.log_x) || dropped(s.y[i], panel.log_y)) continue;
      if (!can_draw(s.x[i], panel.log_x) || !can_draw(s.y[i], panel.log_y)) continue;
      e.x.include(s.x[i]);
      e.y.include(s.y[i]);
      if (s.style == Series::bars) {
        e.x.include(s.x[i] - half_bar);
        e.x.include(s.x[i] + half_bar);
      }
      if (s.y[i] > 0 && (e.smallest_y <= 0 || s.y[i] < e.smallest_y)) e.smallest_y = s.y[i];
      for (const std::vector<double>* side : {&s.low, &s.high}) {
        if (!side->empty() && can_draw((*side)[i], panel.log_y)) e.y.include((*side)[i]);
      }
    }
  }
  // A panel of empty bars is empty all the same.
  if (e.x.empty) e.y = Interval{};
  for (const Surface& s : panel.surfaces) {
    for (std::size_t k = 0; k < s.z.size(); ++k) {
      const double x = s.x[k % s.x.size()];
      const double y = s.y[k / s.x.size()];
      if (dropped(s.z[k], panel.log_z) || !can_draw(s.z[k], panel.log_z)) continue;
      if (!can_draw(x, panel.log_x) || !can_draw(y, panel.log_y)) continue;
      e.x.include(x);
      e.y.include(y);
      e.z.include(s.z[k]);
    }
  }
  if (!e.drawable()) return e;
  for (const ReferenceLine& r : panel.references) {
    const bool log = r.vertical ? panel.log_x : panel.log_y;
    if (can_draw(r.at, log)) (r.vertical ? e.x : e.y).include(r.at);
  }
  return e;
}

PanelAxes axes_of(const Panel& panel, const PanelExtent& extent) {
  if (!panel.surfaces.empty()) {
    return {axis_of(extent.x, panel.x_range, panel.log_x, 0, 0),
            axis_of(extent.y, panel.y_range, panel.log_y, 0, 0),
            axis_of(extent.z, panel.z_range, panel.log_z, 0, 0)};
  }
  constexpr double room = 0.04;
  const auto any = [&](auto&& test) {
    return std::any_of(panel.series.begin(), panel.series.end(), test);
  };
  const bool bars = any([](const Series& s) { return s.style == Series::bars; });
  const bool marks = any([](const Series& s) {
    return s.style == Series::markers || s.style == Series::solid_markers ||
           s.style == Series::trajectory;
  });
  // Lines run from one side to the other; bars stand on 0.
  double left = marks ? room : 0;
  double right = left;
  const double below = bars && extent.y.low >= 0 ? 0 : room;
  for (const ReferenceLine& r : panel.references) {
    if (!r.vertical || !can_draw(r.at, panel.log_x)) continue;
    if (r.at <= extent.x.low) left = room;
    if (r.at >= extent.x.high) right = room;
  }
  return {axis_of(extent.x, panel.x_range, panel.log_x, left, right),
          axis_of(extent.y, panel.y_range, panel.log_y, below, room),
          {}};
}

Series thinned(const Series& s, std::size_t limit) {
  const std::size_t n = s.x.size();
  const std::size_t stretches = std::max<std::size_t>(limit / 4, 1);
  if (n <= limit || s.style == Series::markers || s.style == Series::bars) return s;
  Series out = s;
  for (std::vector<double>* v : {&out.x, &out.y, &out.low, &out.high}) v->clear();
  for (std::size_t b = 0; b < stretches; ++b) {
    const std::size_t first = b * n / stretches;
    const std::size_t last = (b + 1) * n / stretches - 1;
    std::size_t lowest = first;
    std::size_t highest = first;
    std::size_t gap = first;  // a value that is no number leaves its gap in the curve
    for (std::size_t i = first; i <= last; ++i) {
      if (s.y[i] < s.y[lowest] || std::isnan(s.y[lowest])) lowest = i;
      if (s.y[i] > s.y[highest] || std::isnan(s.y[highest])) highest = i;
      if (!std::isfinite(s.y[i])) gap = i;
    }
    std::array<std::size_t, 5> chosen = {first, lowest, highest, gap, last};
    std::sort(chosen.begin(), chosen.end());
    const auto end = std::unique(chosen.begin(), chosen.end());
    for (auto it = chosen.begin(); it != end; ++it) {
      out.x.push_back(s.x[*it]);
      out.y.push_back(s.y[*it]);
      if (!s.low.empty()) out.low.push_back(s.low[*it]);
      if (!s.high.empty()) out.high.push_back(s.high[*it]);
    }
  }
  return out;
}

void check_figure(const Figure& figure) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  const std::string& name = figure.name;
  if (name.empty() || name.size() > 100 || !std::all_of(name.begin(), name.end(), plain) ||
      name[0] == '.' || name[0] == '-') {
    throw ValueError(
        fmt::format("figure: the name must be 1 to 100 letters, digits, '.', '_' or '-' and begin "
                    "with a letter "
                    "or digit; got \"{}\"",
                    text::clean(name)));
  }
  if (figure.panels.empty() || figure.panels.size() > 4) {
    throw ValueError(
        fmt::format("figure {}: expected 1 to 4 panels; got {}", name, figure.panels.size()));
  }
  for (std::size_t i = 0; i < figure.panels.size(); ++i) {
    const Panel& panel = figure.panels[i];
    const std::string where = fmt::format("figure {}, panel {}", name, i + 1);
    for (std::size_t k = 0; k < panel.series.size(); ++k) {
      const Series& s = panel.series[k];
      const std::string of_series =
          fmt::format("{}, series {} (\"{}\")", where, k + 1, text::clean(s.label));
      check_lengths(of_series, s);
      if (s.style == Series::bars && panel.log_x) {
        throw ValueError(of_series + ": bars need a linear x axis");
      }
    }
    if (panel.surfaces.size() > 1 || (!panel.surfaces.empty() && !panel.series.empty())) {
      throw ValueError(where + ": a panel holds series, or one surface");
    }
    for (const Surface& s : panel.surfaces) {
      if (s.z.size() != s.x.size() * s.y.size()) {
        throw ValueError(fmt::format("{}: the surface needs {} x {} heights; got {}", where,
                                     s.y.size(), s.x.size(), s.z.size()));
      }
    }
    const auto check_range = [&](const char* axis, const std::pair<double, double>& r, bool log) {
      if (r.first < r.second && log && r.first <= 0) {
        throw ValueError(fmt::format("{}: the {} range of a log axis must begin above 0; got {}",
                                     where, axis, r.first));
      }
    };
    check_range("x", panel.x_range, panel.log_x);
    check_range("y", panel.y_range, panel.log_y);
    check_range("z", panel.z_range, panel.log_z);
  }
}

}  // namespace parsimony::report
