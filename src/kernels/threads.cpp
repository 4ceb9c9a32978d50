// The kernels' own thread count. OpenMP's global setting is left to the program that embeds us.
#include <parsimony/error.hpp>
#include <parsimony/threads.hpp>

#include <omp.h>

#include <atomic>
#include <string>

namespace parsimony {

namespace {

std::atomic<int>& count_in_use() {
  static std::atomic<int> count{omp_get_max_threads()};
  return count;
}

}  // namespace

void set_num_threads(int count) {
  if (count < 1) {
    throw ValueError("set_num_threads: expected at least 1; got " + std::to_string(count));
  }
  count_in_use() = count;
}

int num_threads() { return count_in_use().load(std::memory_order_relaxed); }

}  // namespace parsimony
