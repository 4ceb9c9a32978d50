// What a training step may cost beyond its kernels: at most three heap allocations an op, none that
// reaches the kernel, and no page faults once the buffers are warm. Its own program, because it
// replaces the global operator new to count.
#include <parsimony/deep_linear.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

#include <malloc.h>
#include <sys/resource.h>

#include "support/catch.hpp"

namespace {
std::atomic<long> allocations{0};
}

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* block = std::malloc(bytes)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

namespace {

using namespace parsimony;

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST_CASE("an op allocates at most three times, forward and backward together") {
  const Var<double> one(Tensor<double>::ones({50, 50}));
  Var<double> x(Tensor<double>::ones({50, 50}), true);
  const auto chain = [&](int ops) {
    Var<double> y = x;
    for (int i = 0; i < ops; ++i) y = mul(y, one);
    backward(y, one.value());
    x.zero_grad();
  };
  chain(1000);  // warms the pool
  const long before = allocations;
  chain(1000);
  const long per_thousand = allocations - before;
  // Two for the forward pass (node and buffer handle), one for the gradient's handle.
  REQUIRE(per_thousand <= 3 * 1000 + 50);
  REQUIRE(per_thousand >= 1000);
}

TEST_CASE("a steady training step neither maps memory nor faults") {
  const index_t d = 400;  // 1.28 MB a matrix: far above glibc's mmap threshold
  const Rng rng(1);
  const auto phi = low_rank_target(d, d, 3, rng.split("target"));
  DeepLinear<double> net({d, d, d, d}, {0.1}, rng);
  GradientDescent<double> opt(one_group(net.named_parameters()), 1e-5);
  const auto step = [&] {
    backward(half_squared_error(net.product(), phi));
    opt.step();
  };
  for (int i = 0; i < 20; ++i) step();
  const auto mapped = mallinfo2().hblks;
  // One matrix alone is 312 pages; a step that mapped its temporaries would fault thousands of
  // times in every round. The kernel also faults on pages long in use (it ages, moves and merges
  // them), so the quietest of five rounds counts.
  long fewest = std::numeric_limits<long>::max();
  for (int round = 0; round < 5; ++round) {
    const long before = page_faults();
    for (int i = 0; i < 20; ++i) step();
    fewest = std::min(fewest, page_faults() - before);
  }
  REQUIRE(fewest < 312);
  REQUIRE(mallinfo2().hblks == mapped);
}

}  // namespace
