// The two texts of a figure: its numbers as CSV, and the gnuplot script that draws them.
#pragma once

#include <parsimony/figure.hpp>

#include <string>
#include <vector>

namespace parsimony::report {

/// Blocks of rows separated by two blank lines, which gnuplot counts as `index`: the header is
/// block 0, each series or surface with rows one more. Scans of a surface are one blank line apart.
/// Readers that skip blank lines (pandas, R, csv.DictReader) see one table.
struct FigureNumbers {
  std::string csv;
  std::vector<std::vector<int>> block;  // by panel and series (or surface); 0 = no rows
  int z = 0, low = 0, high = 0;         // columns from 1; x and y are 1 and 2; 0 = not there
};
FigureNumbers figure_numbers(const Figure& figure);

/// `notes` are comment lines without '#'.
std::string figure_script(const Figure& figure, const FigureNumbers& numbers,
                          const std::vector<std::string>& notes);

}  // namespace parsimony::report
