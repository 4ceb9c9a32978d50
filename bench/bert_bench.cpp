// Steady-state training steps of BERT with adapters and in full, and its forward pass: batch 16 of
// 128 tokens without padding, dropout 0.1, AdamW, random weights. Names are what bench/peers/
// compares.
#include <parsimony/adapter.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

namespace parsimony {
namespace {

constexpr index_t batch_size = 16;
constexpr index_t length = 128;
constexpr index_t vocabulary = 30522;

struct Batch {
  TokenBatch tokens;
  Tensor<std::int64_t> labels;
};

Batch random_batch(const Rng& rng) {
  Batch batch;
  Tensor<std::int64_t> ids({batch_size, length});
  const auto draws = rng.split("ids").uniform<double>({batch_size, length}, 0, vocabulary);
  for (index_t i = 0; i < ids.size(); ++i) {
    ids.mutable_data()[i] = static_cast<std::int64_t>(draws.data()[i]);
  }
  batch.tokens = {ids, Tensor<std::int64_t>::zeros({batch_size, length}),
                  Tensor<std::uint8_t>::ones({batch_size, length})};
  batch.labels = Tensor<std::int64_t>({batch_size});
  for (index_t i = 0; i < batch_size; ++i) batch.labels.mutable_data()[i] = i % 2;
  return batch;
}

std::unique_ptr<Bert<float>> random_bert(const std::string& size) {
  return std::make_unique<Bert<float>>(BertConfig::sized(size, vocabulary), BertHead::classifier,
                                       Rng(1).split("model"));
}

/// `method`: "full", or an adapter's name, then of rank 8 on all dense layers.
void bert_step(benchmark::State& state, const std::string& method, const std::string& size) {
  const Rng rng(1);
  const auto model = random_bert(size);
  if (method != "full") {
    attach_adapters<float>(*model, "all-dense", AdapterOptions{method}.set("rank", 8),
                           rng.split("adapters"));
  }
  AdamW<float> opt(trainable_groups<float>(*model), 1e-4);
  const Batch batch = random_batch(rng);
  std::uint64_t count = 0;
  const auto step = [&] {
    Pass pass(rng.split("dropout").split(count++));
    backward(cross_entropy(model->logits(batch.tokens, pass), batch.labels));
    opt.step();
  };
  step();  // fills the memory pool
  for (auto timed : state) {
    (void)timed;
    step();
  }
  state.counters["tokens/s"] =
      benchmark::Counter(batch_size * length, benchmark::Counter::kIsIterationInvariantRate);
}

void bert_forward(benchmark::State& state, const std::string& size) {
  const auto model = random_bert(size);
  const Batch batch = random_batch(Rng(1));
  const NoGrad no_grad;
  const auto forward = [&] {
    Pass evaluation;
    benchmark::DoNotOptimize(model->logits(batch.tokens, evaluation).value().data());
  };
  forward();
  for (auto timed : state) {
    (void)timed;
    forward();
  }
  state.counters["tokens/s"] =
      benchmark::Counter(batch_size * length, benchmark::Counter::kIsIterationInvariantRate);
}

[[maybe_unused]] const bool registered = [] {
  for (const std::string size : {"tiny", "mini", "small", "base"}) {
    for (const std::string method : {"lora", "deep-lora", "full"}) {
      benchmark::RegisterBenchmark(("bert_step/" + method + "/" + size).c_str(),
                                   [=](benchmark::State& state) { bert_step(state, method, size); })
          ->Unit(benchmark::kMicrosecond);
    }
    benchmark::RegisterBenchmark(("bert_forward/" + size).c_str(), [=](benchmark::State& state) {
      bert_forward(state, size);
    })->Unit(benchmark::kMicrosecond);
  }
  return true;
}();

}  // namespace
}  // namespace parsimony
