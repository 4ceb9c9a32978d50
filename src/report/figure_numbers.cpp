// The CSV of a figure: blocks of rows, as gnuplot_script.hpp describes them.
#include <parsimony/csv.hpp>

#include "report/gnuplot_script.hpp"
#include "report/text.hpp"

namespace parsimony::report {

FigureNumbers figure_numbers(const Figure& figure) {
  FigureNumbers n;
  bool bands = false;
  bool heights = false;
  for (const Panel& p : figure.panels) {
    heights = heights || !p.surfaces.empty();
    for (const Series& s : p.series) bands = bands || !s.low.empty();
  }
  int columns = 2;
  n.csv = "x,y";
  if (heights) {
    n.z = ++columns;
    n.csv += ",z";
  }
  if (bands) {
    n.low = ++columns;
    n.high = ++columns;
    n.csv += ",low,high";
  }
  n.csv += ",panel,series\n";
  int blocks = 0;
  for (std::size_t i = 0; i < figure.panels.size(); ++i) {
    const Panel& p = figure.panels[i];
    n.block.emplace_back();
    for (const Series& s : p.series) {
      n.block.back().push_back(s.x.empty() ? 0 : ++blocks);
      if (!s.x.empty()) n.csv += "\n\n";
      const std::string tail =
          "," + std::to_string(i + 1) + "," + CsvCell(text::clean(s.label)).text() + "\n";
      for (std::size_t k = 0; k < s.x.size(); ++k) {
        n.csv += format_number(s.x[k]) + "," + format_number(s.y[k]);
        if (heights) n.csv += ",";
        if (bands && s.low.empty()) n.csv += ",,";
        if (!s.low.empty()) {
          n.csv += "," + format_number(s.low[k]) + "," + format_number(s.high[k]);
        }
        n.csv += tail;
      }
    }
    for (const Surface& s : p.surfaces) {
      n.block.back().push_back(s.z.empty() ? 0 : ++blocks);
      if (!s.z.empty()) n.csv += "\n";
      const std::string tail = std::string(bands ? ",,," : ",") + std::to_string(i + 1) + "," +
                               CsvCell(text::clean(p.z_label)).text() + "\n";
      for (std::size_t k = 0; k < s.z.size(); ++k) {
        if (k % s.x.size() == 0) n.csv += "\n";
        n.csv += format_number(s.x[k % s.x.size()]) + "," + format_number(s.y[k / s.x.size()]) +
                 "," + format_number(s.z[k]) + tail;
      }
    }
  }
  return n;
}

}  // namespace parsimony::report
