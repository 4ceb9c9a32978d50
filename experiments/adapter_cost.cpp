// What each adapter method costs: the time of a training step, memory, trained numbers and saved
// bytes, beside vanilla LoRA of the same rank.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/memory.hpp>
#include <parsimony/threads.hpp>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "rivals.hpp"
#include "step_trainer.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class AdapterCost : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"adapter-cost",
            "time of a step, memory, trained numbers and saved bytes of every method over LoRA's",
            "the overhead table (spec 2.13), for every adapter method",
            {{"smoke", 0.03}, {"quick", 0.25}, {"paper", 10}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"AC1", "A step takes hardly longer than vanilla LoRA's of the same rank", "spec 2.13",
         "shortest step, in processor time of one thread, at most 1.10 x vanilla LoRA's that took "
         "turns with it; each method, NOLA apart",
         "Deep LoRA 106 ms against 102 ms"},
        {"AC2", "NOLA makes its bases again in every pass and still costs little", "methods 3.2",
         "the same, at most 1.5 x, with the default 128 bases",
         "two passes over k r (m + n) random numbers"},
        {"AC3", "A saved NOLA adapter is its coefficients and a seed", "methods 3.4",
         "bytes of its folder at most 4 x coefficients + 1 KiB", "a file of 2k numbers and a seed"},
        {"AC4", "NOLA never holds its bases: its memory is LoRA's", "methods 3.2",
         "largest memory of tensors in a step at most 1.05 x vanilla LoRA's",
         "no activation-sized memory"},
        {"AC5", "LoRA-XS, VeRA and NOLA train and save a fraction of LoRA's numbers",
         "methods 3, 4, 9", "each at most half of vanilla LoRA's numbers at the same rank",
         "r², r + m and 2k against r(m + n)"}};
  }

  void declare(Config& c) const override {
    c.declare("model", std::string("scratch:mini"),
              "a BERT's folder, or scratch:SIZE for fresh weights; empty: the shipped tiny-en");
    c.declare("targets", std::string("all-dense"),
              "layers with adapters (VeRA and MoRA leave the embedding out)");
    c.declare("rank", index_t{8}, "rank of the adapters");
    c.declare("batch", index_t{4}, "examples a step");
    c.declare("length", index_t{128}, "tokens of each");
    c.declare("repeats", index_t{4}, "steps timed of each method, in turn with vanilla LoRA's");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("model", std::string("scratch:tiny"));
      c.preset("targets", std::string("query-value"));
      c.preset("batch", index_t{2});
      c.preset("length", index_t{16});
      c.preset("repeats", index_t{2});
    } else if (name == "paper") {
      c.preset("model", std::string("scratch:base"));
      c.preset("batch", index_t{8});
      c.preset("repeats", index_t{5});
    }
  }

  void run(Run& run) const override;
};

std::vector<RivalMethod> methods_of(const Config& c) {
  return rival_methods(c.integer("rank", 1, 1 << 20));
}

/// Methods that are measured beside one vanilla LoRA: few, so that few models are held at a time.
constexpr std::size_t group_size = 3;

/// Memory of the second step (the optimiser's state is there), numbers and saved bytes of each of a
/// group's methods; then the shortest steps of all, in turn with vanilla LoRA's.
void measure(Stage& stage, const BaseModel& base, const Config& c, std::vector<RivalMethod> group,
             const std::string& folder) {
  const ThreadLimit one(1);
  group.insert(group.begin(), methods_of(c).front());
  std::vector<std::unique_ptr<StepTrainer>> trainers;
  std::vector<double> shortest(group.size(), std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < group.size(); ++i) {
    const std::string& name = group[i].name;
    const auto before = static_cast<double>(tensor_memory());
    trainers.push_back(std::make_unique<StepTrainer>(base, group[i].options, c));
    trainers[i]->step();
    reset_peak_tensor_memory();
    trainers[i]->step();
    stage.keep("memory." + name, static_cast<double>(peak_tensor_memory()) - before);
    stage.keep("numbers." + name, static_cast<double>(trainers[i]->model().parameter_count()));
    FinetuneOptions o;
    o.method = group[i].options.method;
    o.adapter = group[i].options;
    o.targets = c.text("targets");
    const SavedAdapters saved(trainers[i]->model(), o, folder + "/" + name);
    stage.keep("bytes." + name, static_cast<double>(saved.bytes()));
    stage.track("shortest." + name, shortest[i]);
  }
  const index_t repeats = c.integer("repeats", 1, 1 << 20);
  stage.loop(repeats, [&](index_t step) {
    if (step == repeats) return Stage::stop;
    for (std::size_t i = 0; i < trainers.size(); ++i) {
      shortest[i] = std::min(shortest[i], trainers[i]->step().processor);
    }
    return Stage::go_on;
  });
  for (std::size_t i = 0; i < group.size(); ++i) {
    stage.keep("shortest." + group[i].name, shortest[i]);
  }
}

struct Cost {
  RivalMethod method;
  double step = 0, ratio = 1;           // ms, over vanilla LoRA's
  double memory = 0, memory_ratio = 1;  // MiB
  double numbers = 0, bytes = 0;
};

void write_table(const std::string& path, const std::vector<Cost>& costs) {
  CsvWriter csv(path, {"method", "step_ms", "step_over_lora", "memory_mib", "memory_over_lora",
                       "trained_numbers", "saved_bytes"});
  for (const Cost& m : costs) {
    csv.row({m.method.label, m.step, m.ratio, m.memory, m.memory_ratio, m.numbers, m.bytes});
  }
  csv.finish();
}

void draw(Run& run, const BaseModel& base, const std::vector<Cost>& costs) {
  const Config& c = run.config();
  Figure f;
  f.name = "cost";
  f.title = "Cost of every adapter method: " + base.name();
  f.caption =
      "Rank " + std::to_string(c.integer("rank")) + ", " + c.text("targets") + ", batch " +
      std::to_string(c.integer("batch")) + " x " + std::to_string(c.integer("length")) +
      " tokens. Time: shortest of " + std::to_string(c.integer("repeats")) +
      " steps in processor time of one thread over vanilla LoRA's, taken in turn; the line is the "
      "bound of 1.10. Memory: the most that tensors hold in a step, over vanilla LoRA's. Numbers "
      "and bytes of the saved folder on log axes.";
  const std::vector<std::pair<std::string, double Cost::*>> panels = {
      {"time of a step, over LoRA's", &Cost::ratio},
      {"memory of a step, over LoRA's", &Cost::memory_ratio},
      {"trained numbers", &Cost::numbers},
      {"bytes saved", &Cost::bytes}};
  for (const auto& [label, what] : panels) {
    Panel& p = f.panel();
    p.y_label = label;
    p.legend = Panel::none;
    p.log_y = what == &Cost::numbers || what == &Cost::bytes;
    std::vector<double> x, y;
    for (const Cost& m : costs) {
      p.categories.push_back(m.method.label);
      x.push_back(static_cast<double>(x.size()));
      y.push_back(m.*what);
    }
    if (p.log_y) {
      p.points("", x, y).color = static_cast<int>(f.panels.size()) - 1;
    } else {
      p.bars("", x, y).color = static_cast<int>(f.panels.size()) - 1;
    }
    if (what == &Cost::ratio) p.horizontal(1.1);
  }
  run.figure(f);
}

void AdapterCost::run(Run& run) const {
  const Config& c = run.config();
  const BaseModel base(c.text("model"));
  const std::string folder = run.folder() + "/saved";
  std::vector<Cost> costs;
  const auto cost_of = [](const Record& record, const RivalMethod& method) {
    const auto scalar = [&](const char* what) { return record.scalar(what + method.name); };
    const double vanilla = record.scalar("shortest.vanilla");
    const double memory = record.scalar("memory.vanilla");
    return Cost{method,
                scalar("shortest."),
                scalar("shortest.") / vanilla,
                scalar("memory.") / 1048576.0,
                scalar("memory.") / memory,
                scalar("numbers."),
                scalar("bytes.")};
  };
  const std::vector<RivalMethod> methods = methods_of(c);
  for (std::size_t first = 1; first < methods.size(); first += group_size) {
    const std::vector<RivalMethod> group(
        methods.begin() + static_cast<long>(first),
        methods.begin() + static_cast<long>(std::min(methods.size(), first + group_size)));
    const Record& record = run.stage("with " + group.front().name,
                                     [&](Stage& stage) { measure(stage, base, c, group, folder); });
    if (costs.empty()) costs.push_back(cost_of(record, methods.front()));
    for (const RivalMethod& method : group) costs.push_back(cost_of(record, method));
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);

  bool quick = true, few = true;
  std::string ratios, counts;
  const auto named = [&](const std::string& name) -> const Cost& {
    return *std::find_if(costs.begin(), costs.end(),
                         [&](const Cost& m) { return m.method.name == name; });
  };
  for (const Cost& m : costs) {
    if (&m != &costs.front()) ratios += ", " + m.method.name + " " + number(m.ratio);
    if (m.method.name != "nola") quick = quick && m.ratio <= 1.1;
  }
  for (const std::string name : {"lora-xs", "vera", "nola"}) {
    const double numbers = named(name).numbers;
    few = few && numbers <= 0.5 * costs.front().numbers;
    counts += ", " + name + " " + number(numbers);
  }
  const Cost& nola = named("nola");
  const std::string vanilla = base.name() + ": vanilla " + number(costs.front().step) + " ms";
  if (run.preset() == "smoke") {
    const std::string why = "preset smoke takes too short steps to judge; ";
    run.claim_not_run("AC1", why + vanilla + ratios);
    run.claim_not_run("AC2", why + number(nola.ratio));
    run.claim_not_run("AC4", why + number(nola.memory_ratio));
  } else {
    run.claim("AC1", quick, vanilla + ratios);
    run.claim("AC2", nola.ratio <= 1.5, base.name() + ": " + number(nola.ratio));
    run.claim("AC4", nola.memory_ratio <= 1.05,
              base.name() + ": " + number(nola.memory) + " MiB against " +
                  number(costs.front().memory) + " MiB");
  }
  run.claim("AC3", nola.bytes <= 4 * nola.numbers + 1024,
            number(nola.bytes) + " bytes, " + number(nola.numbers) + " coefficients");
  run.claim("AC5", few, base.name() + ": vanilla " + number(costs.front().numbers) + counts);
  std::vector<double> memory, numbers, bytes;
  std::string names;
  for (const Cost& m : costs) {
    memory.push_back(m.memory);
    numbers.push_back(m.numbers);
    bytes.push_back(m.bytes);
    names += (names.empty() ? "" : ",") + m.method.name;
  }
  run.array("memory_mib", as_matrix({memory}));
  run.array("trained_numbers", as_matrix({numbers}));
  run.array("saved_bytes", as_matrix({bytes}));
  run.array_note("methods", names);
  write_table(run.folder() + "/table.csv", costs);
  draw(run, base, costs);
}

}  // namespace
PARSIMONY_EXPERIMENT(113, AdapterCost)
}  // namespace parsimony::lab
