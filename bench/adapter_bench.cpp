// One training step (forward, backward, AdamW) of a BERT "mini" under every adapter method, in
// steady state: batch 16 x 128 tokens, targets all-dense, rank 8, dropout 0.1, random weights.
// `min_cpu_ms` is the least processor time of a step, which other programs on the machine disturb
// least; compare methods by it within one run on one thread.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <ctime>
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

void adapter_step(benchmark::State& state, const std::string& method) {
  const Rng rng(1);
  Bert<float> model(BertConfig::sized("mini", vocabulary), BertHead::classifier,
                    rng.split("model"));
  AdapterOptions options{method};
  options.set("rank", index_t{8});
  attach_adapters<float>(model, "all-dense", options, rng.split("adapters"));
  AdamW<float> optimizer(trainable_groups<float>(model), 1e-5);
  const TokenBatch batch = random_batch(rng.split("batch"));
  const Tensor<std::int64_t> labels = Tensor<std::int64_t>::zeros({batch_size});
  std::uint64_t number = 0;
  const auto step = [&] {
    Pass pass(rng.split("dropout").split(number++));
    backward(cross_entropy(model.logits(batch, pass), labels));
    optimizer.step();
  };
  step();  // fills the pool of buffers
  double fastest = 1e300;
  for (auto unused : state) {
    (void)unused;
    const std::clock_t start = std::clock();
    step();
    fastest = std::min(fastest, 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  state.counters["min_cpu_ms"] = fastest;
  state.counters["parameters"] = static_cast<double>(model.parameter_count());
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
