// Forward pass of two layers of BERT-base's size, dense and with layers factored at half the
// weights: batch 16 of 128 tokens, last hidden states. What a compressed folder computes, with
// random values.
#include <parsimony/bert.hpp>
#include <parsimony/factored.hpp>

#include <string>

#include <benchmark/benchmark.h>

namespace parsimony {
namespace {

constexpr index_t batch_size = 16;
constexpr index_t length = 128;

/// `kept`: share of the weights of all groups together; with `values_dense` the value projections
/// stay and the others keep less, as bolaco does.
void compressed_forward(benchmark::State& state, double kept, bool values_dense) {
  BertConfig config = BertConfig::sized("base", 1000);
  config.num_hidden_layers = 2;
  const Rng rng(1);
  Bert<float> model(config, BertHead::none, rng.split("model"));
  const auto layers = compressible_layers(model);
  double total = 0;
  double dense = 0;
  for (const auto& l : layers) {
    const auto size = static_cast<double>(l.layer->in() * l.layer->out());
    total += size;
    if (values_dense && l.group == "v") dense += size;
  }
  const double share = (kept * total - dense) / (total - dense);
  for (const auto& l : layers) {
    if (kept == 1 || (values_dense && l.group == "v")) continue;
    const index_t rank = rank_for_share(share, l.layer->in(), l.layer->out());
    Rng draws = rng.split(l.name);
    l.layer->factor(Var<float>(draws.normal<float>({rank, l.layer->in()}, 0.02)),
                    Var<float>(draws.normal<float>({l.layer->out(), rank}, 0.02)),
                    Var<float>(Tensor<float>::zeros({l.layer->out()})));
  }
  TokenBatch batch{Tensor<std::int64_t>({batch_size, length}),
                   Tensor<std::int64_t>::zeros({batch_size, length}), Tensor<std::uint8_t>()};
  for (index_t i = 0; i < batch.ids.size(); ++i) batch.ids.mutable_data()[i] = i * 7 % 1000;
  const NoGrad no_grad;
  const auto forward = [&] {
    Pass pass;
    benchmark::DoNotOptimize(model.hidden(batch, pass).value().data());
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
  const auto add = [](const std::string& name, double kept, bool values_dense) {
    benchmark::RegisterBenchmark(
        ("compressed_forward/" + name).c_str(),
        [=](benchmark::State& state) { compressed_forward(state, kept, values_dense); })
        ->Unit(benchmark::kMicrosecond);
  };
  add("dense", 1, false);
  add("half", 0.5, true);
  add("half-all", 0.5, false);
  add("tenth-all", 0.1, false);
  return true;
}();

}  // namespace
}  // namespace parsimony
