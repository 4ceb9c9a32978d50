// Steady-state training steps of the matrix experiments (forward, backward, update), matrix
// products, and the price of the tape itself. Names are what bench/peers/ compares.
#include <parsimony/deep_linear.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <vector>

#include <benchmark/benchmark.h>

namespace parsimony {
namespace {

void dmf_full(benchmark::State& state) {
  const index_t d = state.range(0);
  const Rng rng(1);
  const auto phi = low_rank_target(d, d, 3, rng.split("target"));
  DeepLinear<double> net({d, d, d, d}, {0.1}, rng);
  GradientDescent<double> opt(one_group(net.named_parameters()), 1e-5);
  for (auto step : state) {
    (void)step;
    backward(half_squared_error(net.product(), phi));
    opt.step();
  }
  const double flops = 12.0 * static_cast<double>(d * d * d);  // the six products
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void dmf_compressed(benchmark::State& state) {
  const index_t k = state.range(0);
  Rng rng(1);
  const auto target = rng.normal<double>({k, k});
  const auto frame = haar_orthogonal<double>(rng, 4 * k, k);
  CompressedLinear<double> net(frame, frame, 3, {0.1}, false);
  GradientDescent<double> opt(one_group(net.inner_parameters()), 1e-5);
  for (auto step : state) {
    (void)step;
    backward(half_squared_error(net.core(), target));
    opt.step();
  }
}

void completion_full(benchmark::State& state) {
  const index_t d = state.range(0);
  const Rng rng(1);
  const auto phi = low_rank_target(d, d, 5, rng.split("target"));
  const auto mask = random_index_set(d, d, 0.2, rng.split("mask")).mask();
  DeepLinear<double> net({d, d, d, d}, {0.1}, rng);
  GradientDescent<double> opt(one_group(net.named_parameters()), 1e-5);
  for (auto step : state) {
    (void)step;
    backward(masked_half_squared_error(net.product(), phi, mask));
    opt.step();
  }
}

void completion_compressed(benchmark::State& state) {
  const index_t d = state.range(0);
  const index_t rhat = state.range(1);
  Rng rng(1);
  const auto phi = low_rank_target(d, d, rhat, rng.split("target"));
  const auto omega = random_index_set(d, d, 0.2, rng.split("mask"));
  const auto observed = gather_entries(omega, phi);
  CompressedLinear<double> net(haar_orthogonal<double>(rng, d, 2 * rhat),
                               haar_orthogonal<double>(rng, d, 2 * rhat), 3, {1e-3}, true);
  GradientDescent<double> opt(
      {{net.inner_parameters(), 1.0, 0.0}, {net.outer_parameters(), 0.01, 0.0}}, 5e-3);
  for (auto step : state) {
    (void)step;
    backward(net.completion_loss(omega, observed));
    opt.step();
  }
  state.counters["entries"] = static_cast<double>(omega.size());
}

template <class T>
void gemm(benchmark::State& state) {
  const index_t d = state.range(0);
  Rng rng(1);
  const auto a = rng.normal<T>({d, d});
  const auto b = rng.normal<T>({d, d});
  for (auto step : state) {
    (void)step;
    benchmark::DoNotOptimize(matmul(a, b).data());
  }
  const double flops = 2.0 * static_cast<double>(d * d * d);
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

/// Forward and backward of a chain of one-element additions: all that is measured is the tape.
/// `per_op` is the time of one op, both ways.
void tape_chain(benchmark::State& state) {
  const index_t ops = state.range(0);
  const Var<double> one(Tensor<double>::scalar(1));
  Var<double> x(Tensor<double>::scalar(1), true);
  for (auto step : state) {
    (void)step;
    Var<double> y = x;
    for (index_t i = 0; i < ops; ++i) y = add(y, one);
    backward(y);
    x.zero_grad();
  }
  state.counters["per_op"] =
      benchmark::Counter(static_cast<double>(ops), benchmark::Counter::kIsIterationInvariantRate |
                                                       benchmark::Counter::kInvert);
}

/// The same additions on plain tensors, forward and once more for backward's sums: the kernels'
/// share of tape_chain.
void tape_kernels(benchmark::State& state) {
  const index_t ops = state.range(0);
  const auto one = Tensor<double>::scalar(1);
  for (auto step : state) {
    (void)step;
    Tensor<double> y = one;
    for (index_t i = 0; i < ops; ++i) y = add(y, one);
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["per_op"] =
      benchmark::Counter(static_cast<double>(ops), benchmark::Counter::kIsIterationInvariantRate |
                                                       benchmark::Counter::kInvert);
}

BENCHMARK(dmf_full)
    ->Name("dmf_step/full")
    ->Arg(30)
    ->Arg(100)
    ->Arg(300)
    ->Arg(1000)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(dmf_compressed)
    ->Name("dmf_step/compressed")
    ->Arg(6)
    ->Arg(20)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(completion_full)->Name("completion_step/full")->Arg(1000)->Unit(benchmark::kMicrosecond);
BENCHMARK(completion_compressed)
    ->Name("completion_step/compressed")
    ->Args({1000, 5})
    ->Args({1000, 10})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(gemm, double)->Name("gemm/f64")->Arg(1000)->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(gemm, float)->Name("gemm/f32")->Arg(1024)->Unit(benchmark::kMicrosecond);
BENCHMARK(tape_chain)->Name("tape/chain")->Arg(1000)->Unit(benchmark::kMicrosecond);
BENCHMARK(tape_kernels)->Name("tape/kernels")->Arg(1000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace parsimony
