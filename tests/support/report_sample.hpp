// Run folders with figures, claims and settings shaped like the paper's, from formulas instead of
// training: what the tests of the report render, and what a person can look at.
#pragma once

#include <parsimony/figure.hpp>

#include <string>
#include <vector>

namespace parsimony::sample {

/// One figure of every kind that figure.hpp offers.
std::vector<Figure> figures();

/// Fills `out` with three run folders: one complete, one without data ("not run"), one damaged.
void write_runs(const std::string& out);

}  // namespace parsimony::sample
