// The command line with experiments made for its tests: one whose every bit depends on all steps
// before, one that diverges, one that needs data, one without stages.
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>

#include <chrono>
#include <thread>

#include "cli/command.hpp"

namespace parsimony {
namespace {

class Chaos : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"probe-chaos", "a chaotic recursion", "none", {{"smoke", 0.01}, {"quick", 0.02}}};
  }
  std::vector<ClaimStatement> claims() const override {
    return {{"P1", "the state stays in (0, 1)", "none", "all states", "true"},
            {"P2", "what the setting says", "none", "the setting", "true"}};
  }
  void declare(Config& config) const override {
    config.declare("steps", index_t{2000}, "steps of a stage");
    config.declare("stages", index_t{3}, "stages");
    config.declare("size", index_t{100}, "numbers of state");
    config.declare("pause", index_t{0}, "microseconds to sleep each step");
    config.declare("rate", 3.99, "of the logistic map");
    config.declare("second", true, "whether P2 holds");
  }
  void preset(const std::string& name, Config& config) const override {
    config.preset("steps", index_t{name == "smoke" ? 50 : 100000});
  }
  void run(Run& run) const override {
    const index_t steps = run.config().integer("steps", 0, 1000000);
    const double rate = run.config().real("rate", 0, 4);
    const std::chrono::microseconds pause(run.config().integer("pause", 0, 1000000));
    for (index_t i = 0; i < run.config().integer("stages", 1, 100); ++i) {
      const std::string name = "stage " + std::to_string(i);
      const Record& record = run.stage(name, [&](Stage& stage) {
        Rng rng = run.rng().split(name);
        Tensor<double> x = rng.uniform<double>({run.config().integer("size", 1, 100000000)});
        double sum = 0;
        stage.track("x", x);
        stage.track("rng", rng);
        stage.track("sum", sum);
        stage.loop(steps, [&](index_t step) {
          if (pause.count() > 0) std::this_thread::sleep_for(pause);
          const index_t at = rng.below(x.size());
          double& value = x.mutable_data()[at];
          value = rate * value * (1 - value);
          sum = 0.5 * sum + value;
          if (step % 7 == 0) stage.log(step, {{"value", value}, {"sum", sum}});
          return Stage::go_on;
        });
        stage.keep("x", x);
        stage.keep("sum", sum);
      });
      run.array("x." + std::to_string(i), record.tensor("x"));
      run.array("sum." + std::to_string(i), Tensor<double>::scalar(record.scalar("sum")));
    }
    run.claim("P1", true, "0.5");
    run.claim("P2", run.config().flag("second"), "as set");
  }
};
PARSIMONY_EXPERIMENT(1, Chaos)

class Diverging : public Experiment {
 public:
  ExperimentInfo info() const override { return {"probe-diverge", "grows", "none", {}}; }
  std::vector<ClaimStatement> claims() const override { return {{"D1", "it grows", "", "", ""}}; }
  void declare(Config& config) const override { config.declare("factor", 1e100, "growth a step"); }
  void preset(const std::string&, Config&) const override {}
  void run(Run& run) const override {
    run.stage("growth", [&](Stage& stage) {
      Tensor<double> x = Tensor<double>::ones({1});
      stage.track("x", x);
      stage.loop(10, [&](index_t step) {
        stage.log(step, {{"train_loss", stage.finite("train_loss", x.item())}});
        x.mutable_data()[0] *= run.config().real("factor");
        return Stage::go_on;
      });
    });
    run.claim("D1", true, "it did");
  }
};
PARSIMONY_EXPERIMENT(2, Diverging)

class NeedsData : public Experiment {
 public:
  ExperimentInfo info() const override { return {"probe-data", "reads a file", "none", {}}; }
  std::vector<ClaimStatement> claims() const override {
    return {{"F1", "it is there", "", "", ""}};
  }
  void declare(Config&) const override {}
  void preset(const std::string&, Config&) const override {}
  void run(Run& run) const override {
    run.data_file("probe/file.txt", "write one yourself");
    run.claim("F1", true, "found");
  }
};
PARSIMONY_EXPERIMENT(3, NeedsData)

}  // namespace
}  // namespace parsimony

int main(int argc, char** argv) { return parsimony::cli::main(argc, argv); }
