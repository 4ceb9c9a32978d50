// The report: one HTML page about every run in a folder, with nothing to fetch.
#pragma once

#include <string>
#include <vector>

namespace parsimony {

/// What write_report() made of a folder.
struct Report {
  std::string path;                 ///< of the page
  std::vector<std::string> damage;  ///< files that could not be read, each with what is wrong
};

/// Reads the run folders OUT/NAME/ (config.json, environment.json, metrics.csv, claims.json,
/// figures) and writes OUT/report.html: what was run and on what, every claim with its measured
/// value beside the expected one, every figure inline, links to the files. OUT may also be a run
/// folder itself. Files that are missing or malformed are named in the page.
/// @throws InputError if the folder does not exist or nothing in it is a readable run; IoError if
/// the page cannot be written.
Report write_report(const std::string& out_dir);

}  // namespace parsimony
