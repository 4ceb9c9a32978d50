// What the third factor costs: trained numbers on BERT-base's shapes by counting, and on the model
// at hand the time of a training step and the memory of its tensors.
#include <parsimony/error.hpp>
#include <parsimony/memory.hpp>

#include <limits>

#include "rivals.hpp"
#include "step_trainer.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class Overhead : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"overhead",
            "what Deep LoRA costs over vanilla LoRA: parameters, time of a step, memory",
            "the overhead table (spec 2.13)",
            {{"smoke", 0.02}, {"quick", 0.1}, {"paper", 2}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"A2", "The adapters have the parameters that the paper's have on BERT-base",
         "spec 2.13, checklist A2",
         "rank 8, depth 3, the 74 matrices of bert-base-cased; the same count of the model at "
         "hand equals what its adapters hold",
         "vanilla 1,577,504; narrow 1,582,240; compressed 1,591,712; full width 195,087,360"},
        {"A9", "Narrow Deep LoRA costs hardly more than vanilla LoRA", "spec 2.13, checklist A9",
         "parameters on BERT-base at most +.31 %; shortest step at most +5 %",
         "+.3 %; 102 ms against 106 ms a step"},
        {"A9b", "Nor does it take more memory", "spec 2.13",
         "largest memory of tensors in a step at most +2 %", "12.526 GB against 12.648 GB, +1 %"}};
  }

  void declare(Config& c) const override {
    c.declare("model", std::string(),
              "a BERT's folder, or scratch:SIZE for fresh weights; empty: the shipped tiny-en");
    c.declare("targets", std::string("all-dense"), "layers with adapters");
    c.declare("rank", index_t{8}, "rank of the adapters");
    c.declare("batch", index_t{16}, "examples a step");
    c.declare("length", index_t{128}, "tokens of each");
    c.declare("repeats", index_t{40}, "steps timed of each method, in turn");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("batch", index_t{2});
      c.preset("length", index_t{16});
      c.preset("repeats", index_t{3});
    } else if (name == "paper") {
      c.preset("model", std::string("scratch:base"));
      c.preset("repeats", index_t{8});
    }
  }

  void run(Run& run) const override;
};

const std::vector<std::pair<std::string, std::string>> methods = {
    {"lora", "vanilla LoRA"},
    {"narrow", "Deep LoRA, narrow"},
    {"compressed", "Deep LoRA, compressed"}};

AdapterOptions adapter(const std::string& method, index_t rank) {
  AdapterOptions options;
  options.method = method == "lora" ? "lora" : "deep-lora";
  if (method != "lora") options.set("form", method);
  options.set("rank", rank);
  return options;
}

/// The 74 matrices of bert-base-cased that all-dense adapts.
std::vector<AdaptedShape> bert_base_shapes() {
  std::vector<AdaptedShape> shapes{{28996, 768, true}, {768, 768}};
  for (int layer = 0; layer < 12; ++layer) {
    shapes.insert(shapes.end(), 4, {768, 768});
    shapes.push_back({768, 3072});
    shapes.push_back({3072, 768});
  }
  return shapes;
}

index_t bert_base_count(const std::string& method) {
  return trained_numbers(adapter(method, 8), bert_base_shapes());
}

/// Counts and memory, one model at a time.
void measure_sizes(Stage& stage, const BaseModel& base, const Config& c) {
  for (const auto& [method, label] : methods) {
    const auto before = static_cast<double>(tensor_memory());
    StepTrainer trainer(base, adapter(method, c.integer("rank", 1, 1 << 20)), c);
    trainer.step();
    reset_peak_tensor_memory();
    trainer.step();
    const double memory = static_cast<double>(peak_tensor_memory()) - before;
    const auto parameters = static_cast<double>(trainer.model().parameter_count());
    stage.keep("memory." + method, memory);
    stage.keep("parameters." + method, parameters);
    const index_t counted = trained_numbers(adapter(method, c.integer("rank")),
                                            adapted_shapes(base, c.text("targets")));
    stage.keep("counted." + method, static_cast<double>(counted));
    stage.log(0,
              {{method + "_parameters", parameters}, {method + "_memory_mib", memory / 1048576.0}});
  }
}

/// The shortest step of every method; they take turns, so that what else the machine does meets all
/// of them. Kept as scalars: metrics.csv has what is the same at every run.
void measure_times(Stage& stage, const BaseModel& base, const Config& c) {
  std::vector<std::unique_ptr<StepTrainer>> trainers;
  std::vector<double> shortest(methods.size(), std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < methods.size(); ++i) {
    trainers.push_back(std::make_unique<StepTrainer>(
        base, adapter(methods[i].first, c.integer("rank", 1, 1 << 20)), c));
    trainers[i]->step();  // memory is mapped, caches are warm
    stage.track("shortest." + methods[i].first, shortest[i]);
  }
  const index_t repeats = c.integer("repeats", 1, 1 << 20);
  stage.loop(repeats, [&](index_t step) {
    if (step == repeats) return Stage::stop;
    for (std::size_t i = 0; i < trainers.size(); ++i) {
      shortest[i] = std::min(shortest[i], trainers[i]->step().wall);
    }
    return Stage::go_on;
  });
  for (std::size_t i = 0; i < methods.size(); ++i) {
    stage.keep("shortest." + methods[i].first, shortest[i]);
  }
}

std::string percent(double value, double base) { return number(100 * (value / base - 1)) + " %"; }

void Overhead::run(Run& run) const {
  const Config& c = run.config();
  const BaseModel base(c.text("model"));
  const Record& sizes = run.stage("sizes", [&](Stage& stage) { measure_sizes(stage, base, c); });
  const Record& times = run.stage("steps", [&](Stage& stage) { measure_times(stage, base, c); });

  std::vector<double> fastest, memory;
  for (const auto& [method, label] : methods) {
    fastest.push_back(times.scalar("shortest." + method));
    memory.push_back(sizes.scalar("memory." + method) / 1048576.0);
  }

  bool same = true;
  for (const auto& [method, label] : methods) {
    same = same && sizes.scalar("parameters." + method) == sizes.scalar("counted." + method);
  }
  const std::vector<std::pair<std::string, index_t>> published = {
      {"lora", 1577504}, {"narrow", 1582240}, {"compressed", 1591712}, {"full", 195087360}};
  std::string counts;
  for (const auto& [method, count] : published) {
    const index_t own = bert_base_count(method);
    same = same && own == count;
    counts += (counts.empty() ? "" : ", ") + method + " " + std::to_string(own);
  }
  run.claim("A2", same,
            counts + "; " + base.name() + ": " +
                std::to_string(static_cast<index_t>(sizes.scalar("parameters.lora"))) + ", " +
                std::to_string(static_cast<index_t>(sizes.scalar("parameters.narrow"))) + ", " +
                std::to_string(static_cast<index_t>(sizes.scalar("parameters.compressed"))));
  const auto base_vanilla = static_cast<double>(bert_base_count("lora"));
  const auto base_narrow = static_cast<double>(bert_base_count("narrow"));
  const std::string measured = "parameters +" + percent(base_narrow, base_vanilla) + "; " +
                               base.name() + ": " + number(fastest[0]) + " ms against " +
                               number(fastest[1]) + " ms, " + percent(fastest[1], fastest[0]) +
                               " (compressed " + number(fastest[2]) + " ms)";
  if (run.preset() == "smoke") {
    run.claim_not_run("A9", "preset smoke takes too short steps to judge; " + measured);
  } else {
    run.claim("A9", base_narrow <= 1.0031 * base_vanilla && fastest[1] <= 1.05 * fastest[0],
              measured);
  }
  run.claim("A9b", memory[1] <= 1.02 * memory[0],
            base.name() + ": " + number(memory[0]) + " MiB against " + number(memory[1]) +
                " MiB, " + percent(memory[1], memory[0]));
  run.array("memory_mib", as_matrix({memory}));
  run.array_note("methods", "lora,narrow,compressed");

  Figure f;
  f.name = "overhead";
  f.title = "Cost of a training step: " + base.name();
  f.caption = "Time of the shortest of " + std::to_string(times.last_step()) +
              " steps, and the largest memory of tensors in a step: batch " +
              std::to_string(c.integer("batch")) + " x " + std::to_string(c.integer("length")) +
              " tokens, rank " + std::to_string(c.integer("rank")) + ".";
  for (const bool right : {false, true}) {
    Panel& p = f.panel();
    p.y_label = right ? "memory, MiB" : "ms a step";
    p.legend = Panel::none;
    p.categories = {"vanilla", "narrow", "compressed"};
    p.bars("", {0, 1, 2}, right ? memory : fastest).color = right ? 1 : 0;
  }
  run.figure(f);
}

}  // namespace
PARSIMONY_EXPERIMENT(106, Overhead)
}  // namespace parsimony::lab
