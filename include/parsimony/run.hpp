// A run: its folder, its stages, its log. A stage is one training loop (a variant, a seed, a
// width); it can be killed at any moment and resumed, and what it recorded is what figures and
// claims are computed from.
//
//   const Record& r = run.stage("original", [&](Stage& stage) {
//     DeepLinear<double> net(...);
//     stage.track(net.named_parameters());          // written back in place on resume
//     stage.loop(max_steps, [&](index_t step) {     // progress, clock, checkpoints, Ctrl-C
//       auto loss = half_squared_error(net.product(), phi);
//       if (step % check == 0) {
//         stage.log(step, {{"train_loss", stage.finite("train_loss", loss.item())}});
//         if (loss.item() < tol) return Stage::stop;
//       }
//       backward(loss);
//       opt.step();
//       return Stage::go_on;
//     });
//     stage.keep("product", net.product().value());  // after the loop: kept with the stage
//   });
//   r.series("train_loss"); r.steps(); r.seconds(); r.tensor("product"); r.scalar("...");
#pragma once

#include <parsimony/claims.hpp>
#include <parsimony/config.hpp>
#include <parsimony/error.hpp>
#include <parsimony/figure.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/tensor.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

template <class T>
class Var;

/// What a stage recorded: rows of (step, seconds, values by name), tensors and scalars.
class Record {
 public:
  struct Row {
    index_t step = 0;
    double seconds = 0;
    std::vector<double> values;  // by columns(); NaN where a row has none
  };
  const std::vector<std::string>& columns() const { return columns_; }
  const std::vector<Row>& rows() const { return rows_; }
  /// One column over the rows that have it. @throws ValueError if there is no such column.
  std::vector<double> series(const std::string& column) const;
  /// Steps and seconds of the rows that have the column.
  std::vector<double> steps(const std::string& column) const;
  std::vector<double> seconds(const std::string& column) const;
  /// Last value of a column.
  double last(const std::string& column) const;
  const Tensor<double>& tensor(const std::string& name) const;
  bool has_tensor(const std::string& name) const { return tensors_.count(name) != 0; }
  const std::map<std::string, Tensor<double>>& tensors() const { return tensors_; }
  double scalar(const std::string& name) const;
  bool has_scalar(const std::string& name) const { return scalars_.count(name) != 0; }
  /// Steps done and seconds spent in the loop.
  index_t last_step() const { return last_step_; }
  double total_seconds() const { return total_seconds_; }

 private:
  friend class Stage;
  friend class Run;
  std::vector<std::string> columns_;
  std::vector<Row> rows_;
  std::map<std::string, Tensor<double>> tensors_;
  std::map<std::string, double> scalars_;
  index_t last_step_ = 0;
  double total_seconds_ = 0;
};

class Stage {
 public:
  static constexpr bool go_on = true;
  static constexpr bool stop = false;

  /// State that must survive a kill: restored in place when the loop begins (what is computed
  /// before it sees initial values, also on resume). Handles are kept; their buffers are read at
  /// checkpoints. A state that is not finite is never saved over one that is.
  void track(const std::string& name, const Tensor<double>& tensor);
  void track(const std::string& name, const Tensor<float>& tensor);
  template <class T>
  void track(const std::vector<std::pair<std::string, Var<T>>>& parameters);
  void track(const std::string& name, double& scalar);
  void track(const std::string& name, Rng& rng);

  /// Calls body(step) for step = first.. until it returns `stop` or `max_steps` calls are done (a
  /// resumed stage goes on where its checkpoint stood). body(max_steps) is called once more, so
  /// that a loss can be checked after the last update: test `step == max_steps` or return stop.
  /// One loop a stage.
  void loop(index_t max_steps, const std::function<bool(index_t)>& body);

  /// How many steps the loop will take if it stops before max_steps as it should: what the time
  /// left is reckoned from. Call it before the loop.
  void expect(index_t steps);

  /// Appends a row. Values may be NaN; use finite() for those that must not be.
  void log(index_t step, const std::vector<std::pair<std::string, double>>& values);
  /// The value itself. @throws NumericalError with the step if it is NaN or infinite.
  double finite(const std::string& name, double value) const;
  /// Runs f with the stage's clock stopped: for measurements that are not part of the method.
  void off_clock(const std::function<void()>& f);

  /// Stores a copy of an array, or a number, with the stage; survives resume.
  void keep(const std::string& name, const Tensor<double>& tensor);
  void keep(const std::string& name, double scalar);

  index_t step() const;
  double seconds() const;

 private:
  friend class Run;
  struct Impl;
  explicit Stage(Impl& impl) : impl_(impl) {}
  Impl& impl_;
};

class Run {
 public:
  const Config& config() const;
  /// The stream of the run's seed.
  Rng rng() const;
  std::uint64_t seed() const;
  /// "smoke", "quick" or "paper".
  const std::string& preset() const;
  /// OUT/NAME
  const std::string& folder() const;
  /// The folder that --data named, "" if none: what loaders of data sets ask for.
  const std::string& data_folder() const;
  /// Path of a data file: looked up in --data, then $PARSIMONY_DATA, then ./data.
  /// @throws MissingData naming the file, where it was looked for and where to get it.
  std::string data_file(const std::string& relative, const std::string& where_to_get_it) const;

  /// Runs a stage, or returns what it recorded if a resumed run had finished it. Stage names are
  /// unique in a run and become the `series` of its rows in metrics.csv. The record lives as long
  /// as the run. @throws Interrupted, between stages too.
  const Record& stage(const std::string& name, const std::function<void(Stage&)>& body);

  /// One of several stages that do not depend on each other.
  struct Member {
    std::string name;
    std::function<void(Stage&)> body;
  };
  /// Runs stages side by side, as many at a time as there are threads, each on one thread: a
  /// stage's numbers do not depend on how many run beside it, and the rows in metrics.csv come in
  /// the order given here. Each resumes on its own. Bodies must not share what they change, nor use
  /// the run. If one fails, the others save and stop, and its error is thrown (of several, the
  /// first in order). @throws as stage().
  std::vector<const Record*> stages(const std::string& label, const std::vector<Member>& members);

  /// A tensor for arrays.safetensors, or a note for its metadata. The handle is kept: a tensor that
  /// changes before the run ends (a weight in training) is refused then.
  void array(const std::string& name, const Tensor<double>& tensor);
  void array(const std::string& name, const Tensor<float>& tensor);
  void array(const std::string& name, const Tensor<std::uint8_t>& tensor);
  void array(const std::string& name, const Tensor<std::int64_t>& tensor);
  void array_note(const std::string& key, const std::string& value);

  void figure(const Figure& figure);
  /// Records the outcome of a claim that the experiment stated. @throws ValueError on an id it did
  /// not state.
  void claim(const std::string& id, bool holds, const std::string& measured);
  /// The claim cannot be judged at this preset or without data; says why.
  void claim_not_run(const std::string& id, const std::string& why);
  /// A line for the user on stderr (above the progress line).
  void say(const std::string& line) const;

 private:
  friend class Runner;
  struct Impl;
  explicit Run(std::unique_ptr<Impl> impl);

 public:
  ~Run();

 private:
  std::unique_ptr<Impl> impl_;
};

/// Ctrl-C and SIGTERM ask the running stage to save and stop (it throws Interrupted).
void install_interrupt_handler();
/// Signals end the program again, where nobody asks interrupt_requested() any more.
void remove_interrupt_handler();
bool interrupt_requested();

}  // namespace parsimony
