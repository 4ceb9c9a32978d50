// Loops shared by the OpenMP threads, in fixed blocks so that results do not depend on how many
// threads there are.
#pragma once

#include <parsimony/threads.hpp>

#include <algorithm>
#include <cstdint>

#include <omp.h>

namespace parsimony::kernels {

/// Work below this many elementary steps is not worth waking a thread (about 20 µs of work).
inline constexpr std::int64_t parallel_threshold = 1 << 16;

/// While alive, BLAS and LAPACK calls of this thread use `count` threads: OpenBLAS built on OpenMP
/// follows OpenMP's setting, not its own.
class BlasThreads {
 public:
  explicit BlasThreads(int count) : previous_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~BlasThreads() { omp_set_num_threads(previous_); }
  BlasThreads(const BlasThreads&) = delete;
  BlasThreads& operator=(const BlasThreads&) = delete;

 private:
  int previous_;
};

/// f(first, last) over [0, n) in one contiguous range a thread; `cost` elementary steps an index.
template <class F>
void parallel_for(std::int64_t n, std::int64_t cost, F&& f) {
  const std::int64_t threads = num_threads();
  if (threads == 1 || n < 2 || n * cost < parallel_threshold || omp_in_parallel()) {
    if (n > 0) f(std::int64_t{0}, n);
    return;
  }
#pragma omp parallel num_threads(static_cast <int>(std::min(threads, n)))
  {
    const std::int64_t t = omp_get_thread_num();
    const std::int64_t count = omp_get_num_threads();
    const std::int64_t first = n * t / count;
    const std::int64_t last = n * (t + 1) / count;
    if (first < last) f(first, last);
  }
}

/// Σ of block(first, last) over blocks of a fixed size, added in order: the same bits for any
/// number of threads.
template <class F>
double blocked_sum(std::int64_t n, F&& block) {
  constexpr std::int64_t size = 4096;
  const std::int64_t blocks = (n + size - 1) / size;
  if (blocks <= 1) return n > 0 ? block(std::int64_t{0}, n) : 0.0;
  constexpr std::int64_t chunk = 1024;  // partial sums held on the stack
  double total = 0;
  for (std::int64_t b0 = 0; b0 < blocks; b0 += chunk) {
    const std::int64_t count = std::min(chunk, blocks - b0);
    double partial[chunk];
    parallel_for(count, size, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t begin = (b0 + b) * size;
        partial[b] = block(begin, std::min(n, begin + size));
      }
    });
    for (std::int64_t b = 0; b < count; ++b) total += partial[b];
  }
  return total;
}

}  // namespace parsimony::kernels
