// What the tests of figures and of the report share.
#pragma once

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "report/gnuplot_process.hpp"
#include "support/catch.hpp"

namespace parsimony::testing {

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline bool exists(const std::string& path) { return std::filesystem::exists(path); }

inline bool gnuplot_installed() {
  static const bool found = report::run_in_folder({"gnuplot", "--version"}, ".").status == 0;
  if (!found) WARN("gnuplot is not installed: pictures are not checked");
  return found;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace parsimony::testing
