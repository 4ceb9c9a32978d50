// An experiment: one file in experiments/ that registers itself by name, states its claims and its
// configuration, and runs. The command line, seeds, run folder, resume, figures and the entry in
// `parsimony list` come with it.
//
//   class MyExperiment : public Experiment { ... };
//   PARSIMONY_EXPERIMENT(20, MyExperiment)
#pragma once

#include <parsimony/config.hpp>
#include <parsimony/run.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace parsimony {

/// What an experiment sets out to show; `id` as in the paper's checklist where one fits.
struct ClaimStatement {
  std::string id;
  std::string statement;
  std::string source;     // section of the paper or of the checklist
  std::string criterion;  // what is compared with what
  std::string expected;   // the paper's value or the bound
};

struct ExperimentInfo {
  std::string name;                       // "dln-subspace"
  std::string summary;                    // one line
  std::string source;                     // what of the paper it reproduces, by content
  std::map<std::string, double> minutes;  // expected, by preset, on 2 cores
};

/// From seconds to hours.
inline constexpr std::array<const char*, 3> preset_names = {"smoke", "quick", "paper"};

class Experiment {
 public:
  virtual ~Experiment() = default;
  virtual ExperimentInfo info() const = 0;
  virtual std::vector<ClaimStatement> claims() const = 0;
  /// Declares every key with the default of preset quick.
  virtual void declare(Config& config) const = 0;
  /// Changes the defaults for "smoke" or "paper".
  virtual void preset(const std::string& name, Config& config) const = 0;
  virtual void run(Run& run) const = 0;
};

/// Every registered experiment, in the order of the paper.
std::vector<const Experiment*> experiments();
/// @throws ValueError with the nearest name.
const Experiment& find_experiment(const std::string& name);

struct RunOptions {
  std::string preset = "quick";
  std::vector<std::string> settings;  // "key=value"
  std::uint64_t seed = 0;
  std::string out = "results";
  /// What the run makes in its folder beside figures and the files of every run: removed when it
  /// begins afresh, so that nothing of an earlier run is taken for this one's.
  std::vector<std::string> makes;
  std::string data;  // "" = $PARSIMONY_DATA, then ./data
  bool resume = false;
  bool keep_checkpoint = false;
  bool quiet = false;
  /// Missing data is then thrown (after the folder is written) instead of only marked.
  bool require_data = false;
  double checkpoint_seconds = 20;
};

/// The configuration that a run with these options has. @throws ValueError on an unknown preset or
/// a bad setting: "--set gamma=abc: gamma: expected a number; got 'abc'".
Config resolve_config(const Experiment& experiment, const RunOptions& options);

/// Runs one experiment into OUT/NAME and writes every file of its run folder; returns its claims.
/// Without `resume` what an earlier run left there is removed first; a folder that no run made and
/// that holds something of those names is refused. Missing data marks its claims
/// "not run".
/// @throws ValueError on a bad setting (nothing is written), InputError on a corrupt checkpoint,
/// one of other settings, or a folder in use, NumericalError on divergence (the last good
/// checkpoint stays), IoError if the disk refuses (likewise), MissingData with `require_data`,
/// Interrupted after saving.
std::vector<Claim> run_experiment(const Experiment& experiment, const RunOptions& options);

namespace detail {
struct ExperimentRegistration {
  ExperimentRegistration(int order, std::unique_ptr<Experiment> experiment);
};
}  // namespace detail

/// `order` sorts `parsimony list`: 10 times the section of the paper.
#define PARSIMONY_EXPERIMENT(order, Type)                                   \
  namespace {                                                               \
  const ::parsimony::detail::ExperimentRegistration registration_of_##Type( \
      order, std::make_unique<Type>());                                     \
  }

}  // namespace parsimony
