// Where the reference numbers of the parity tests lie. A missing file fails its test.
#pragma once

#include <cstdlib>
#include <string>

namespace parsimony::testing {

/// Path of a file of tests/fixtures: in $PARSIMONY_FIXTURES, which the build sets, or below the
/// current folder.
inline std::string fixture(const std::string& name) {
  const char* folder = std::getenv("PARSIMONY_FIXTURES");
  return std::string(folder != nullptr ? folder : "tests/fixtures") + "/" + name;
}

}  // namespace parsimony::testing
