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

thread_local int limit = 0;  // of this thread; 0: none

void require_some(const char* who, int count) {
  if (count < 1) {
    throw ValueError(std::string(who) + ": expected at least 1; got " + std::to_string(count));
  }
}

}  // namespace

void set_num_threads(int count) {
  require_some("set_num_threads", count);
  count_in_use() = count;
}

int num_threads() { return limit > 0 ? limit : count_in_use().load(std::memory_order_relaxed); }

ThreadLimit::ThreadLimit(int count) : previous_(limit) {
  require_some("ThreadLimit", count);
  limit = count;
}
ThreadLimit::~ThreadLimit() { limit = previous_; }

}  // namespace parsimony
