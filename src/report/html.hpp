// The page of a report, from what was read of its run folders.
#pragma once

#include <parsimony/claims.hpp>
#include <parsimony/figure.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace parsimony::report {

using KeyValues = std::vector<std::pair<std::string, std::string>>;

struct PageFigure {
  std::string name;
  FigureText text;
  std::string media_type;     // of the picture; empty = there is none
  std::string picture;        // its bytes
  int width = 0, height = 0;  // to show it at, in CSS pixels; 0 = not known
  std::vector<std::string> files;
};

struct PageRun {
  std::string name;
  std::string prefix;  // of links from the page: "NAME/", or "" where the page lies in the folder
  KeyValues config, environment;
  std::vector<Claim> claims;
  std::vector<PageFigure> figures;
  std::vector<std::string> metric_names;
  std::vector<std::vector<std::string>> metric_rows;  // the last row of each series
  std::vector<std::pair<std::string, std::uintmax_t>> files;
  std::vector<std::string> problems;
  std::vector<std::string> damage;  // of these, what is there and cannot be read: whole paths
  bool checkpoint = false;          // the run has not finished, or kept it
};

std::string render_page(const std::vector<PageRun>& runs);

}  // namespace parsimony::report
