// Threads of the kernels, matrix products and decompositions: one number for all, one OpenMP pool.
#pragma once

namespace parsimony {

/// Sets the threads to use (>= 1). Default: OpenMP's, that is OMP_NUM_THREADS or the cores given
/// to the process. Results are the same bits for the same count; most do not depend on it.
/// @throws ValueError if count < 1.
void set_num_threads(int count);

/// Threads that kernels called from this thread use.
int num_threads();

/// While alive, the kernels called from this thread use `count` threads; other threads keep theirs.
/// For work that runs several of itself side by side.
class ThreadLimit {
 public:
  /// @throws ValueError if count < 1.
  explicit ThreadLimit(int count);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int previous_;
};

}  // namespace parsimony
