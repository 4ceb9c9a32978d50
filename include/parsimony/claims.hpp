// What a run set out to show, and whether its own numbers bear it out: claims.json and the table
// that a run ends with.
#pragma once

#include <string>
#include <vector>

namespace parsimony {

/// One claim with its outcome. All texts are plain UTF-8.
struct Claim {
  enum Verdict { holds, fails, not_run };

  std::string id;         // "T1", "M3"; unique within a run
  std::string statement;  // what is claimed, in one sentence
  std::string source;     // where the paper says so
  std::string criterion;  // what is compared with what
  std::string expected;   // the paper's value, or the bound
  std::string measured;   // this run's value; for not_run the reason
  Verdict verdict = not_run;
};

/// "holds", "fails" or "not run", as in claims.json.
const char* verdict_word(Claim::Verdict verdict);

struct ClaimCounts {
  int holds = 0;
  int fails = 0;
  int not_run = 0;
};
ClaimCounts count_claims(const std::vector<Claim>& claims);

/// Writes claims.json: an array of objects with the keys id, statement, source, criterion,
/// expected, measured, verdict. The file appears whole or not at all. @throws IoError.
void write_claims(const std::string& path, const std::vector<Claim>& claims);

/// Reads what write_claims wrote. id, statement and verdict must be there; the other texts may be
/// missing, or numbers. @throws InputError naming the file and the entry.
std::vector<Claim> read_claims(const std::string& path);

/// The claims as a table for a terminal `width` columns wide, long cells wrapped, with a line of
/// counts below; ends in a newline. Below 60 columns each claim is a paragraph of its own. `color`
/// adds ANSI colours to the verdicts; the words are there in any case. With `criteria` the table
/// also shows source and criterion.
std::string claims_table(const std::vector<Claim>& claims, int width = 100, bool color = false,
                         bool criteria = false);

}  // namespace parsimony
