// What the third factor costs: trained numbers on BERT-base's shapes by counting, and on the model
// at hand the time of a training step and the memory of its tensors.
#include <parsimony/error.hpp>
#include <parsimony/memory.hpp>
#include <parsimony/optim.hpp>

#include <chrono>
#include <limits>

#include "lm_support.hpp"
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

constexpr index_t depth = 3;

/// Numbers that an adapter of a matrix (m, n) trains.
index_t adapter_size(const std::string& method, index_t m, index_t n, index_t rank) {
  if (method == "lora") return rank * (m + n);
  if (method == "narrow") return rank * (m + n) + (depth - 2) * rank * rank;
  if (method == "compressed") return rank * (m + n) + depth * rank * rank;
  const index_t width = std::min(m, n);
  return width * (m + n) + (depth - 2) * width * width;
}

/// The 74 matrices of bert-base-cased that all-dense adapts.
std::vector<std::pair<index_t, index_t>> bert_base_shapes() {
  std::vector<std::pair<index_t, index_t>> shapes{{28996, 768}, {768, 768}};
  for (int layer = 0; layer < 12; ++layer) {
    for (int i = 0; i < 4; ++i) shapes.emplace_back(768, 768);
    shapes.emplace_back(3072, 768);
    shapes.emplace_back(768, 3072);
  }
  return shapes;
}

index_t bert_base_count(const std::string& method) {
  index_t total = 0;
  for (const auto& [m, n] : bert_base_shapes()) total += adapter_size(method, m, n, 8);
  return total;
}

/// A model with adapters that trains on one batch of random tokens.
class Trainer {
 public:
  Trainer(const BaseModel& base, const std::string& method, const Config& c) : rng_(0) {
    TextTask task;
    task.metric = "pearson";
    model_ = base.classifier(task);
    const index_t batch = c.integer("batch", 1, 1 << 20);
    const index_t length = c.integer("length", 8, base.config().max_position_embeddings);
    tokens_.ids = Tensor<std::int64_t>({batch, length});
    tokens_.type_ids = Tensor<std::int64_t>::zeros({batch, length});
    Rng draw = rng_.split("tokens");
    std::int64_t* ids = tokens_.ids.mutable_data();
    for (index_t i = 0; i < batch * length; ++i) ids[i] = draw.below(base.config().vocab_size);
    AdapterOptions options;
    options.method = method == "lora" ? "lora" : "deep-lora";
    if (method != "lora") options.set("form", method);
    options.set("rank", c.integer("rank", 1, 1 << 20));
    const std::string& targets = c.text("targets");
    const auto gradients =
        probe_gradients<float>(*model_, targets, options, rng_.split("probe"), [&] {
          Pass pass;
          return loss(pass);
        });
    attach_adapters<float>(*model_, targets, options, rng_.split("adapters"), gradients);
    optimizer_ = std::make_unique<AdamW<float>>(trainable_groups(*model_), 1e-4, 0.9, 0.999, 1e-6);
  }

  /// One update with dropout. @return milliseconds
  double step() {
    const auto began = std::chrono::steady_clock::now();
    Pass pass(rng_.split(static_cast<std::uint64_t>(steps_++)));
    backward(loss(pass));
    optimizer_->step();
    return 1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }

  Model<float>& model() { return *model_; }

 private:
  Var<float> loss(Pass& pass) const {
    const Var<float> out = model_->logits(tokens_, pass);
    return mean_squared_error(out, Tensor<float>::ones(out.shape()));
  }

  Rng rng_;
  std::unique_ptr<Model<float>> model_;
  TokenBatch tokens_;
  std::unique_ptr<AdamW<float>> optimizer_;
  index_t steps_ = 0;
};

/// Counts and memory, one model at a time.
void measure_sizes(Stage& stage, const BaseModel& base, const Config& c) {
  for (const auto& [method, label] : methods) {
    const auto before = static_cast<double>(tensor_memory());
    Trainer trainer(base, method, c);
    trainer.step();
    reset_peak_tensor_memory();
    trainer.step();
    const double memory = static_cast<double>(peak_tensor_memory()) - before;
    const auto parameters = static_cast<double>(trainer.model().parameter_count());
    stage.keep("memory." + method, memory);
    stage.keep("parameters." + method, parameters);
    index_t counted = 0;
    for (const auto& [name, adapter] : adapters_of(trainer.model())) {
      const Shape& shape = adapter->shape();
      counted += adapter_size(method, shape[0], shape[1], c.integer("rank"));
    }
    stage.keep("counted." + method, static_cast<double>(counted));
    stage.log(0,
              {{method + "_parameters", parameters}, {method + "_memory_mib", memory / 1048576.0}});
  }
}

/// The shortest step of every method; they take turns, so that what else the machine does meets all
/// of them. Kept as scalars: metrics.csv has what is the same at every run.
void measure_times(Stage& stage, const BaseModel& base, const Config& c) {
  std::vector<std::unique_ptr<Trainer>> trainers;
  std::vector<double> shortest(methods.size(), std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < methods.size(); ++i) {
    trainers.push_back(std::make_unique<Trainer>(base, methods[i].first, c));
    trainers[i]->step();  // memory is mapped, caches are warm
    stage.track("shortest." + methods[i].first, shortest[i]);
  }
  const index_t repeats = c.integer("repeats", 1, 1 << 20);
  stage.loop(repeats, [&](index_t step) {
    if (step == repeats) return Stage::stop;
    for (std::size_t i = 0; i < trainers.size(); ++i) {
      shortest[i] = std::min(shortest[i], trainers[i]->step());
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
