// Sizes of a figure, and room for the legends and for the labels of reference lines where no curve
// runs.
#pragma once

#include <parsimony/figure.hpp>

#include <array>
#include <cstddef>
#include <vector>

#include "report/panel_data.hpp"

namespace parsimony::report {

/// Where the label of a reference line stands: how far along the line it begins (from 0 to 1), and
/// on which side of it.
struct LabelPlace {
  double along = 0;
  bool beyond = true;  // above a horizontal line, right of a vertical one
};

struct Placement {
  std::vector<LabelPlace> references;  // one for each, in order
  /// Resolved: `automatic` only for a legend with its upper left corner at (legend_u, legend_v) in
  /// units of the axes, from the lower left.
  Panel::Legend legend = Panel::none;
  double legend_u = 0, legend_v = 0;
  /// Names of categories stand at an angle: side by side they would run into each other.
  bool slanted = false;
};

/// The picture in pixels at 96 dpi. Rows have one height, so that axes stand in line; legends below
/// the axes make all of them higher.
struct FigureLayout {
  int rows = 1, columns = 1;
  int panel_width = 0, row_height = 0, font = 0;
  int top = 0, bottom = 0;  // from the edges of its row to a plot
  int legend_top = 0;       // from a plot down to the legend below it
  double line = 1;          // factor for the width of curves
  std::vector<PanelExtent> extents;
  std::vector<Placement> placements;
};
FigureLayout layout_of(const Figure& figure);

}  // namespace parsimony::report
