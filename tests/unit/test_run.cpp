// Runs: stages, records, checkpoints, resume, run folders. A small experiment stands in for the
// real ones; kills are tested by the command line's tests.
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/safetensors.hpp>
#include <parsimony/variable.hpp>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include <unistd.h>

#include "cli/results.hpp"
#include "run/interrupt.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::TempFolder;
using parsimony::testing::without_seconds;
namespace fs = std::filesystem;

namespace {

/// An experiment whose body the test gives.
class Sample : public Experiment {
 public:
  explicit Sample(std::function<void(Run&)> body) : body_(std::move(body)) {}
  ExperimentInfo info() const override { return {"sample", "a sample", "none", {{"quick", 0.1}}}; }
  std::vector<ClaimStatement> claims() const override {
    return {{"S1", "it works", "here", "compared", "1"}, {"S2", "it also works", "here", "c", "2"}};
  }
  void declare(Config& config) const override {
    config.declare("steps", index_t{200}, "steps");
    config.declare("gamma", 0.01, "step size");
  }
  void preset(const std::string& name, Config& config) const override {
    config.preset("steps", index_t{name == "smoke" ? 20 : 2000});
  }
  void run(Run& run) const override { body_(run); }

 private:
  std::function<void(Run&)> body_;
};

/// A chaotic recursion, so that any lost bit shows, on every kind of tracked state.
/// Asks to stop at the first visit of `stop_at`.
void chaotic(Run& run, index_t stop_at = -1) {
  for (const char* name : {"first", "second/odd name"}) {
    const Record& r = run.stage(name, [&](Stage& stage) {
      Tensor<double> x = run.rng().split(name).uniform<double>({3});
      Tensor<float> y = Tensor<float>::full({2}, 0.3F);
      Var<double> w(Tensor<double>::full({2, 2}, 0.7), true);
      double scalar = 0.4;
      Rng rng = run.rng().split("noise");
      stage.track("x", x);
      stage.track("y", y);
      stage.track<double>({{"w", w}});
      stage.track("scalar", scalar);
      stage.track("rng", rng);
      stage.keep("w.t0", w.value());
      bool stopped = false;
      stage.loop(run.config().integer("steps"), [&](index_t step) {
        if (step == stop_at && !stopped && std::string(name) != "first") {
          stopped = true;
          detail::set_interrupt_requested(true);
        }
        for (index_t i = 0; i < 3; ++i) {
          double& v = x.mutable_data()[i];
          v = 3.99 * v * (1 - v) * (0.99 + 0.01 * rng.uniform());
        }
        for (int i = 0; i < 2; ++i) y.mutable_data()[i] = 3.9F * y.data()[i] * (1 - y.data()[i]);
        for (int i = 0; i < 4; ++i) w.mutable_data()[i] = 0.5 * w.value().data()[i] + 0.1 * scalar;
        scalar = 3.97 * scalar * (1 - scalar) + 1e-3 * rng.normal() * 0;
        if (step % 10 == 0) stage.log(step, {{"x", x.data()[0]}, {"scalar", scalar}});
        if (step % 20 == 0) stage.log(step, {{"y", y.data()[1]}});
        return Stage::go_on;
      });
      stage.keep("x", x);
      stage.keep("w", w.value());
      stage.keep("scalar", scalar);
    });
    run.array(std::string(name) + ".x", r.tensor("x"));
    run.array(std::string(name) + ".w", r.tensor("w"));
    run.array(std::string(name) + ".w.t0", r.tensor("w.t0"));
    run.array(std::string(name) + ".scalar", Tensor<double>::scalar(r.scalar("scalar")));
  }
  run.array_note("note", "a note");
  run.claim("S1", true, "1.0");
  run.claim_not_run("S2", "not at this size");
}

RunOptions quiet_options(const std::string& out) {
  RunOptions options;
  options.out = out;
  options.quiet = true;
  return options;
}

void check_same_results(const std::string& a, const std::string& b) {
  CHECK(without_seconds(read_file(a + "/sample/metrics.csv")) ==
        without_seconds(read_file(b + "/sample/metrics.csv")));
  CHECK(read_file(a + "/sample/arrays.safetensors") == read_file(b + "/sample/arrays.safetensors"));
  CHECK(read_file(a + "/sample/config.json") == read_file(b + "/sample/config.json"));
  CHECK(read_file(a + "/sample/claims.json") == read_file(b + "/sample/claims.json"));
}

void flip_bit(const std::string& path, std::size_t from_end) {
  std::string bytes = read_file(path);
  REQUIRE(from_end < bytes.size());
  bytes[bytes.size() - 1 - from_end] = static_cast<char>(bytes[bytes.size() - 1 - from_end] ^ 4);
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("run: the folder of a finished run") {
  TempFolder out;
  const auto claims =
      run_experiment(Sample([](Run& run) { chaotic(run); }), quiet_options(out.path()));
  REQUIRE(claims.size() == 2);
  CHECK(claims[0].verdict == Claim::holds);
  CHECK(claims[0].statement == "it works");
  CHECK(claims[1].verdict == Claim::not_run);
  CHECK(claims[1].measured == "not at this size");
  const std::string folder = out.path() + "/sample";
  CHECK(read_file(folder + "/config.json") ==
        "{\n  \"experiment\": \"sample\",\n  \"preset\": \"quick\",\n  \"seed\": 0,\n"
        "  \"steps\": 200,\n  \"gamma\": 0.01\n}\n");
  CHECK_THAT(read_file(folder + "/environment.json"), contains("\"compiler\""));
  std::istringstream metrics(read_file(folder + "/metrics.csv"));
  std::string line;
  std::getline(metrics, line);
  CHECK(line == "step,seconds,series,x,scalar,y");
  std::getline(metrics, line);
  CHECK(line.substr(0, 2) == "0,");
  CHECK_THAT(line, contains(",first,0."));
  CHECK(line.substr(line.size() - 4) == ",nan");
  const TensorMap arrays = load_safetensors(folder + "/arrays.safetensors");
  CHECK(arrays.metadata.at("note") == "a note");
  CHECK(arrays.get<double>("first.w.t0").at({0, 0}) == 0.7);  // not the trained value
  CHECK(arrays.get<double>("first.w").at({0, 0}) != 0.7);
  CHECK_FALSE(fs::exists(folder + "/checkpoint"));
  CHECK_FALSE(fs::exists(folder + "/.lock"));
}

TEST_CASE("run: stopped at any step and resumed, the results are the same bits") {
  TempFolder whole;
  run_experiment(Sample([](Run& run) { chaotic(run); }), quiet_options(whole.path()));
  for (const index_t stop_at : {0, 1, 57, 199, 200}) {
    TempFolder out;
    RunOptions options = quiet_options(out.path());
    bool interrupted = false;
    try {
      run_experiment(Sample([&](Run& run) { chaotic(run, stop_at); }), options);
    } catch (const Interrupted& stop) {
      interrupted = true;
      CHECK_THAT(stop.what(), contains("second/odd name"));
    }
    detail::set_interrupt_requested(false);
    CHECK(interrupted == (stop_at < 200));  // after the last step there is nothing to stop
    CHECK(fs::exists(out.path() + "/sample/metrics.csv"));
    options.resume = true;
    run_experiment(Sample([&](Run& run) { chaotic(run); }), options);
    check_same_results(whole.path(), out.path());
  }
}

TEST_CASE("run: a finished run is reused on resume, replaced without it") {
  TempFolder out;
  int runs = 0;
  const Sample sample([&](Run& run) {
    ++runs;
    chaotic(run);
  });
  RunOptions options = quiet_options(out.path());
  run_experiment(sample, options);
  const std::string folder = out.path() + "/sample";
  std::ofstream(folder + "/old.gp") << "# figure\n";
  std::ofstream(folder + "/old.csv") << "x\n";
  std::ofstream(folder + "/notes.csv") << "mine\n";
  options.resume = true;
  const auto claims = run_experiment(sample, options);
  CHECK(runs == 1);
  REQUIRE(claims.size() == 2);
  CHECK(claims[0].measured == "1.0");
  options.resume = false;
  run_experiment(sample, options);
  CHECK(runs == 2);
  CHECK_FALSE(fs::exists(folder + "/old.gp"));
  CHECK_FALSE(fs::exists(folder + "/old.csv"));
  CHECK(fs::exists(folder + "/notes.csv"));
}

TEST_CASE("run: resume under other settings is refused by key") {
  TempFolder out;
  RunOptions options = quiet_options(out.path());
  options.keep_checkpoint = true;
  const Sample sample([](Run& run) { chaotic(run); });
  run_experiment(sample, options);
  options.resume = true;
  RunOptions other = options;
  other.settings = {"gamma=0.5"};
  CHECK_THROWS_WITH(run_experiment(sample, other), contains("gamma was 0.01 and is now 0.5"));
  CHECK_THROWS_AS(run_experiment(sample, other), InputError);
  other = options;
  other.seed = 7;
  CHECK_THROWS_WITH(run_experiment(sample, other), contains("seed was 0 and is now 7"));
  other = options;
  other.preset = "smoke";
  CHECK_THROWS_WITH(run_experiment(sample, other), contains("preset was \"quick\""));
  // The checkpoint itself knows, too.
  fs::remove(out.path() + "/sample/claims.json");
  std::string config = read_file(out.path() + "/sample/config.json");
  config.replace(config.find("0.01"), 4, "0.02");
  std::ofstream(out.path() + "/sample/config.json") << config;
  other = options;
  other.settings = {"gamma=0.02"};
  CHECK_THROWS_WITH(run_experiment(sample, other), contains("gamma was 0.01 and is now 0.02"));
}

TEST_CASE("run: a checkpoint with any bit flipped is refused") {
  TempFolder out;
  RunOptions options = quiet_options(out.path());
  options.keep_checkpoint = true;
  const Sample sample([](Run& run) { chaotic(run); });
  run_experiment(sample, options);
  fs::remove(out.path() + "/sample/claims.json");
  options.resume = true;
  const std::string path = out.path() + "/sample/checkpoint/first.safetensors";
  const std::string good = read_file(path);
  for (std::size_t at = 0; at < good.size(); at += 1 + good.size() / 97) {
    flip_bit(path, at);
    CHECK_THROWS_AS(run_experiment(sample, options), InputError);
    std::ofstream(path, std::ios::binary) << good;
  }
  flip_bit(path, 3);
  CHECK_THROWS_WITH(run_experiment(sample, options),
                    contains(path) && contains("checksum") && contains("without --resume"));
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, good.size() / 2, good.size() - 1}) {
    std::ofstream(path, std::ios::binary) << good.substr(0, size);
    CHECK_THROWS_WITH(run_experiment(sample, options), contains(path));
  }
  fs::remove(path);  // what the message advises
  CHECK_NOTHROW(run_experiment(sample, options));
}

TEST_CASE("run: two runs in one folder") {
  TempFolder out;
  const Sample sample([&](Run& run) {
    run.stage("only", [&](Stage&) {
      CHECK_THROWS_WITH(
          run_experiment(Sample([](Run& inner) { chaotic(inner); }), quiet_options(out.path())),
          contains(out.path() + "/sample") && contains("process"));
      CHECK_THROWS_AS(
          run_experiment(Sample([](Run& inner) { chaotic(inner); }), quiet_options(out.path())),
          InputError);
    });
    run.claim("S1", false, "0");
    run.claim("S2", true, "2");
  });
  CHECK_NOTHROW(run_experiment(sample, quiet_options(out.path())));
}

TEST_CASE("run: divergence names quantity, stage and step and keeps the last good state") {
  TempFolder out;
  const auto body = [](Run& run, bool without_step) {
    run.stage("steep", [&](Stage& stage) {
      Tensor<double> x = Tensor<double>::ones({1});
      stage.track("x", x);
      stage.loop(100, [&](index_t step) {
        stage.log(step, {{"x", x.item()}});
        if (without_step && step == 7) throw NumericalError("svd: no convergence");
        stage.finite("loss", x.item());
        x.mutable_data()[0] *= 1e200;
        return Stage::go_on;
      });
    });
  };
  RunOptions options = quiet_options(out.path());
  options.checkpoint_seconds = 0;
  try {
    run_experiment(Sample([&](Run& run) { body(run, false); }), options);
    FAIL("no error");
  } catch (const NumericalError& error) {
    CHECK(std::string(error.what()) == "loss became infinite in stage 'steep' at step 2");
    CHECK(error.step() == 2);
  }
  const std::string folder = out.path() + "/sample";
  CHECK(fs::exists(folder + "/metrics.csv"));
  CHECK(fs::exists(folder + "/config.json"));
  CHECK_FALSE(fs::exists(folder + "/claims.json"));
  const TensorMap saved = load_safetensors(folder + "/checkpoint/steep.safetensors");
  CHECK(std::isfinite(saved.get<double>("tracked.x").data()[0]));
  CHECK_THROWS_WITH(run_experiment(Sample([&](Run& run) {
                                     run.stage("s", [](Stage& stage) {
                                       stage.loop(9, [](index_t step) -> bool {
                                         if (step == 7) throw NumericalError("svd: no convergence");
                                         return Stage::go_on;
                                       });
                                     });
                                   }),
                                   options),
                    "svd: no convergence (stage 's', step 7)");
}

TEST_CASE("run: missing data marks what has no outcome") {
  TempFolder out;
  const Sample sample([](Run& run) {
    run.claim("S1", true, "1");
    run.data_file("no/such-file", "get it from the shop");
  });
  RunOptions options = quiet_options(out.path());
  options.data = out.path();
  const auto claims = run_experiment(sample, options);
  CHECK(claims[0].verdict == Claim::holds);
  CHECK(claims[1].verdict == Claim::not_run);
  CHECK_THAT(claims[1].measured, contains("no/such-file") && contains("get it from the shop"));
  options.require_data = true;
  CHECK_THROWS_AS(run_experiment(sample, options), MissingData);
  CHECK(fs::exists(out.path() + "/sample/claims.json"));
}

TEST_CASE("run: data is looked up in --data, then the environment") {
  TempFolder out, given, variable;
  std::ofstream(variable.path() + "/a.txt") << "a";
  std::ofstream(variable.path() + "/b.txt") << "b";
  std::ofstream(given.path() + "/a.txt") << "a";
  const char* before = std::getenv("PARSIMONY_DATA");
  const std::string kept = before != nullptr ? before : "";
  setenv("PARSIMONY_DATA", variable.path().c_str(), 1);
  RunOptions options = quiet_options(out.path());
  options.data = given.path();
  run_experiment(Sample([&](Run& run) {
                   CHECK(run.data_file("a.txt", "") == given.path() + "/a.txt");
                   CHECK(run.data_file("b.txt", "") == variable.path() + "/b.txt");
                   run.claim("S1", true, "");
                   run.claim("S2", true, "");
                 }),
                 options);
  if (before != nullptr) {
    setenv("PARSIMONY_DATA", kept.c_str(), 1);
  } else {
    unsetenv("PARSIMONY_DATA");
  }
}

TEST_CASE("run: a bad setting leaves nothing behind") {
  TempFolder out;
  const Sample sample([](Run& run) {
    run.config().integer("steps", 1, 10);
    chaotic(run);
  });
  RunOptions options = quiet_options(out.path());
  options.settings = {"gamma=abc"};
  CHECK_THROWS_WITH(run_experiment(sample, options),
                    "--set gamma=abc: gamma: expected a number; got 'abc'");
  options.settings = {"gama=1"};
  CHECK_THROWS_WITH(run_experiment(sample, options),
                    "--set gama=1: unknown key 'gama'; did you mean 'gamma'?");
  options.settings = {"gamma"};
  CHECK_THROWS_WITH(run_experiment(sample, options), "--set: expected key=value; got 'gamma'");
  options.settings = {};
  options.preset = "papr";
  CHECK_THROWS_WITH(run_experiment(sample, options), contains("did you mean 'paper'?"));
  options.preset = "quick";
  CHECK_THROWS_WITH(run_experiment(sample, options), "steps: expected 1..10; got 200");
  CHECK(fs::is_empty(out.path()));
}

TEST_CASE("run: claims must be stated and get an outcome; arrays must not change") {
  TempFolder out;
  CHECK_THROWS_WITH(run_experiment(Sample([](Run& run) { run.claim("S9", true, ""); }),
                                   quiet_options(out.path())),
                    contains("claim 'S9' is not among those stated: S1, S2"));
  CHECK_THROWS_WITH(run_experiment(Sample([](Run& run) { run.claim("S1", true, ""); }),
                                   quiet_options(out.path())),
                    contains("claim 'S2' was stated but got no outcome"));
  CHECK_FALSE(fs::exists(out.path() + "/sample/claims.json"));
  CHECK_THROWS_WITH(run_experiment(Sample([](Run& run) {
                                     Tensor<double> x = Tensor<double>::ones({2});
                                     run.array("x", x);
                                     x.mutable_data()[0] = 2;
                                   }),
                                   quiet_options(out.path())),
                    contains("array 'x' was changed"));
}

TEST_CASE("run: a folder that cannot be made") {
  TempFolder out;
  std::ofstream(out.path() + "/file") << "x";
  CHECK_THROWS_AS(run_experiment(Sample([](Run& run) { chaotic(run); }),
                                 quiet_options(out.path() + "/file/below")),
                  InputError);
}

TEST_CASE("stage: clock, records and misuse") {
  TempFolder out;
  const Sample sample([](Run& run) {
    const Record& r = run.stage("a", [](Stage& stage) {
      stage.loop(3, [&](index_t step) {
        stage.off_clock([] { usleep(20000); });
        stage.log(step, {{"v", static_cast<double>(step)}});
        if (step == 1) stage.log(step, {{"w", 5.0}});
        return step == 2 ? Stage::stop : Stage::go_on;
      });
      CHECK_THROWS_AS(stage.loop(1, [](index_t) { return Stage::stop; }), ValueError);
      Tensor<double> x = Tensor<double>::ones({1});
      CHECK_THROWS_AS(stage.track("late", x), ValueError);
    });
    CHECK(r.last_step() == 2);
    CHECK(r.total_seconds() < 0.02);
    CHECK(r.series("v") == std::vector<double>{0, 1, 2});
    CHECK(r.steps("w") == std::vector<double>{1});
    CHECK(r.last("w") == 5.0);
    CHECK(r.seconds("v").size() == 3);
    CHECK_THROWS_WITH(r.series("z"), contains("no column 'z'; there are: v, w"));
    CHECK_THROWS_AS(r.tensor("t"), ValueError);
    CHECK_FALSE(r.has_scalar("s"));
    CHECK_THROWS_WITH(run.stage("a", [](Stage&) {}), contains("run twice"));
    run.stage("b", [](Stage& stage) {
      double x = 0;
      stage.track("x", x);
      CHECK_THROWS_WITH(stage.track("x", x), contains("tracked twice"));
      CHECK_THROWS_AS(stage.finite("q", std::nan("")), NumericalError);
      CHECK_THROWS_AS(stage.loop(-1, [](index_t) { return true; }), ValueError);
      index_t calls = 0;
      stage.loop(0, [&](index_t) { return ++calls, Stage::go_on; });
      CHECK(calls == 1);
    });
    run.claim("S1", true, "");
    run.claim("S2", true, "");
  });
  run_experiment(sample, quiet_options(out.path()));
}

TEST_CASE("stage: the loop costs next to nothing a step") {
  TempFolder out;
  double seconds = 0;
  run_experiment(Sample([&](Run& run) {
                   seconds = run.stage("empty",
                                       [](Stage& stage) {
                                         stage.loop(1000000, [](index_t) { return Stage::go_on; });
                                       })
                                 .total_seconds();
                   run.claim("S1", true, "");
                   run.claim("S2", true, "");
                 }),
                 quiet_options(out.path()));
  CHECK(seconds < 0.5);  // 0.5 microseconds a step, sanitizers and a busy machine included
}
