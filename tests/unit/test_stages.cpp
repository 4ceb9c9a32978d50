// Stages side by side: the same bits however many run at once, resume, failures, interruptions.
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/memory.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/threads.hpp>

#include <atomic>
#include <thread>

#include "cli/results.hpp"
#include "run/interrupt.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::TempFolder;
using parsimony::testing::without_seconds;

namespace {

class Group : public Experiment {
 public:
  explicit Group(std::function<void(Run&)> body) : body_(std::move(body)) {}
  ExperimentInfo info() const override { return {"group", "a group", "none", {}}; }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void declare(Config&) const override {}
  void preset(const std::string&, Config&) const override {}
  void run(Run& run) const override { body_(run); }

 private:
  std::function<void(Run&)> body_;
};

constexpr index_t steps = 40;

/// Training through the tape, so that threads meet in the tape, the pool and the kernels.
Run::Member training(std::uint64_t seed, const std::function<void(index_t)>& at_step = {}) {
  const std::string name = "seed" + std::to_string(seed);
  return {name, [=](Stage& stage) {
            const Rng rng(seed);
            const Tensor<float> x = rng.split("x").normal<float>({64, 48});
            Var<float> w(rng.split("w").normal<float>({48, 32}), true);
            AdamW<float> optimizer({{{{"w", w}}, 1.0, 0.0}}, 1e-2);
            stage.track<float>({{"w", w}});
            for (const auto& [key, tensor] : optimizer.state()) stage.track(key, tensor);
            stage.track("steps", optimizer.counter());
            stage.loop(steps, [&](index_t step) {
              if (at_step) at_step(step);
              const Var<float> y = tanh(matmul(Var<float>(x), w));
              const Var<float> loss = mean_squared_error(y, Tensor<float>::zeros(y.shape()));
              stage.log(step, {{"loss", stage.finite("loss", static_cast<double>(loss.item()))}});
              if (step == steps) return Stage::stop;
              backward(loss);
              optimizer.step();
              return Stage::go_on;
            });
            stage.keep("w", cast<double>(w.value()));
            stage.keep("threads", static_cast<double>(num_threads()));
          }};
}

RunOptions options_in(const std::string& out) {
  RunOptions options;
  options.out = out;
  options.quiet = true;
  options.checkpoint_seconds = 0;
  return options;
}

/// Runs six trainings on `threads` threads.
void run_six(const std::string& out, int threads, bool resume = false,
             const std::function<void(index_t)>& at_step = {}) {
  RunOptions options = options_in(out);
  options.resume = resume;
  set_num_threads(threads);
  run_experiment(Group([&](Run& run) {
                   std::vector<Run::Member> members;
                   for (std::uint64_t seed = 0; seed < 6; ++seed) {
                     members.push_back(training(seed, at_step));
                   }
                   const auto records = run.stages("trainings", members);
                   REQUIRE(records.size() == 6);
                   for (std::size_t i = 0; i < 6; ++i) {
                     run.array(members[i].name, records[i]->tensor("w"));
                     CHECK(records[i]->scalar("threads") == 1);
                   }
                 }),
                 options);
}

void check_same(const std::string& a, const std::string& b) {
  CHECK(without_seconds(read_file(a + "/group/metrics.csv")) ==
        without_seconds(read_file(b + "/group/metrics.csv")));
  CHECK(read_file(a + "/group/arrays.safetensors") == read_file(b + "/group/arrays.safetensors"));
}

/// Restores the thread count that other tests expect.
struct KeepThreads {
  int before = num_threads();
  ~KeepThreads() { set_num_threads(before); }
};

}  // namespace

TEST_CASE("stages: the same bits in the same order however many run side by side") {
  const KeepThreads keep;
  TempFolder one, four;
  run_six(one.path(), 1);
  run_six(four.path(), 4);
  check_same(one.path(), four.path());
  const std::string csv = read_file(four.path() + "/group/metrics.csv");
  std::size_t at = 0;
  for (int seed = 0; seed < 6; ++seed) {
    at = csv.find(",seed" + std::to_string(seed) + ",", at);
    REQUIRE(at != std::string::npos);
  }
}

TEST_CASE("stages: interrupted and resumed, the results are the same bits") {
  const KeepThreads keep;
  TempFolder whole;
  run_six(whole.path(), 2);
  for (const int stop_after : {1, 30, 100, 200}) {
    TempFolder out;
    std::atomic<int> visits{0};
    CHECK_THROWS_AS(run_six(out.path(), 3, false,
                            [&](index_t) {
                              if (++visits == stop_after) detail::set_interrupt_requested(true);
                            }),
                    Interrupted);
    detail::set_interrupt_requested(false);
    run_six(out.path(), 2, true);
    check_same(whole.path(), out.path());
  }
}

TEST_CASE("stages: a failure stops the others, which are saved, and is what is reported") {
  const KeepThreads keep;
  TempFolder out;
  set_num_threads(2);
  bool fail = true;
  const auto body = [&](Run& run) {
    std::vector<Run::Member> members{training(0)};
    members.push_back({"bad", [&](Stage& stage) {
                         stage.loop(10, [&](index_t step) {
                           if (fail && step == 3) stage.finite("loss", std::nan(""));
                           return Stage::go_on;
                         });
                       }});
    members.push_back(training(1));
    run.stages("some", members);
  };
  RunOptions options = options_in(out.path());
  try {
    run_experiment(Group(body), options);
    FAIL("expected a NumericalError");
  } catch (const NumericalError& error) {
    CHECK(error.step() == 3);
    CHECK_THAT(error.what(), contains("stage 'bad'"));
  }
  fail = false;
  options.resume = true;
  run_experiment(Group(body), options);
}

TEST_CASE("stages: misuse") {
  TempFolder out;
  run_experiment(
      Group([](Run& run) {
        const Run::Member empty{"a", [](Stage&) {}};
        CHECK_THROWS_AS(run.stages("twice", {empty, empty}), ValueError);
        CHECK_THROWS_AS(
            run.stages("nested", {{"b", [&](Stage&) { run.stage("c", [](Stage&) {}); }}}),
            ValueError);
        CHECK(run.stages("none", {}).empty());
      }),
      options_in(out.path()));
}

TEST_CASE("threads: a limit is its thread's own") {
  const KeepThreads keep;
  set_num_threads(3);
  {
    const ThreadLimit one(1);
    CHECK(num_threads() == 1);
    {
      const ThreadLimit two(2);
      CHECK(num_threads() == 2);
    }
    CHECK(num_threads() == 1);
    int elsewhere = 0;
    std::thread([&] { elsewhere = num_threads(); }).join();
    CHECK(elsewhere == 3);
  }
  CHECK(num_threads() == 3);
  CHECK_THROWS_AS(ThreadLimit(0), ValueError);
}

TEST_CASE("memory: what tensors hold, and the most that they held") {
  const std::size_t before = tensor_memory();
  {
    const Tensor<double> kept = Tensor<double>::zeros({1000});
    CHECK(tensor_memory() >= before + 8000);
    reset_peak_tensor_memory();
    { const Tensor<double> more = Tensor<double>::zeros({100000}); }
    CHECK(peak_tensor_memory() >= before + 808000);
    CHECK(tensor_memory() < before + 16000);
  }
  CHECK(tensor_memory() == before);
}
