// One training step (forward, backward, AdamW) of a BERT "mini" under every adapter method, in
// steady state: batch 16 x 128 tokens, targets all-dense, rank 8, dropout 0.1, random weights.
// `vs_lora` compares the least processor time of some steps with that of as many LoRA steps taken
// in turn with them, which other programs on the machine disturb least; it means something on one
// thread.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

namespace parsimony {
namespace {

constexpr index_t batch_size = 16;
constexpr index_t length = 128;
constexpr index_t vocabulary = 30522;

TokenBatch random_batch(Rng rng) {
  TokenBatch batch;
  batch.ids = Tensor<std::int64_t>({batch_size, length});
  std::int64_t* ids = batch.ids.mutable_data();
  for (index_t i = 0; i < batch.ids.size(); ++i) ids[i] = rng.below(vocabulary);
  batch.type_ids = Tensor<std::int64_t>::zeros({batch_size, length});
  return batch;
}

/// A model with adapters, and its training.
class Training {
 public:
  explicit Training(const std::string& method)
      : model_(BertConfig::sized("mini", vocabulary), BertHead::classifier, rng_.split("model")),
        batch_(random_batch(rng_.split("batch"))),
        labels_(Tensor<std::int64_t>::zeros({batch_size})) {
    AdapterOptions options{method};
    options.set("rank", index_t{8});
    attach_adapters<float>(model_, "all-dense", options, rng_.split("adapters"));
    optimizer_ = std::make_unique<AdamW<float>>(trainable_groups<float>(model_), 1e-5);
  }
  /// Milliseconds of processor time.
  double step() {
    const std::clock_t start = std::clock();
    Pass pass(rng_.split("dropout").split(steps_++));
    backward(cross_entropy(model_.logits(batch_, pass), labels_));
    optimizer_->step();
    return 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  }
  index_t parameters() const { return model_.parameter_count(); }

 private:
  Rng rng_{1};
  Bert<float> model_;
  TokenBatch batch_;
  Tensor<std::int64_t> labels_;
  std::unique_ptr<AdamW<float>> optimizer_;
  std::uint64_t steps_ = 0;
};

void adapter_step(benchmark::State& state, const std::string& method) {
  constexpr int rounds = 5;
  Training training(method);
  Training lora("lora");
  double fastest = 1e300;
  double fastest_lora = 1e300;
  for (int i = 0; i < rounds; ++i) {
    fastest_lora = std::min(fastest_lora, lora.step());
    fastest = std::min(fastest, training.step());
  }
  for (auto unused : state) {
    (void)unused;
    training.step();
  }
  state.counters["min_cpu_ms"] = fastest;
  state.counters["vs_lora"] = fastest / fastest_lora;
  state.counters["parameters"] = static_cast<double>(training.parameters());
}

const bool registered = [] {
  for (const std::string& method : adapter_methods()) {
    benchmark::RegisterBenchmark(("adapter_step/" + method + "/mini").c_str(),
                                 [method](benchmark::State& state) { adapter_step(state, method); })
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace parsimony
