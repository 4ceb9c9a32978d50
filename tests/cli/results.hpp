// Comparing what two runs wrote.
#pragma once

#include <sstream>
#include <string>

namespace parsimony::testing {

/// metrics.csv without its second column, the only one that may differ between equal runs.
inline std::string without_seconds(const std::string& csv) {
  std::istringstream in(csv);
  std::string line, out;
  while (std::getline(in, line)) {
    const auto first = line.find(',');
    const auto second = line.find(',', first + 1);
    out += line.substr(0, first) + line.substr(second) + "\n";
  }
  return out;
}

}  // namespace parsimony::testing
