// A small BERT of its own, tables of a few rows and what programs print, for the tests of the
// commands on language models.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "cli/process.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace parsimony::testing {

/// Made once a process: model/ (2 layers x 128, a vocabulary of some hundred tokens), train.tsv and
/// dev.tsv (pairs with classes same and other), in.tsv (texts without labels).
const TempFolder& language_fixture();

/// The program's arguments with those of a quick fine-tuning on the fixture before them.
std::vector<std::string> quick_finetune(const std::string& out,
                                        const std::vector<std::string>& more = {});

/// Runs the program, which must end well.
Outcome done(const std::vector<std::string>& arguments);

/// Checks that the program ends with exit code 2 and a message.
void refused(const std::vector<std::string>& arguments, const std::string& message);

/// The numbers that predict writes for the fixture's in.tsv.
std::vector<std::vector<double>> predicted(std::vector<std::string> arguments);

/// Largest difference of two outputs.
double largest_difference(const std::vector<std::vector<double>>& a,
                          const std::vector<std::vector<double>>& b);

}  // namespace parsimony::testing
