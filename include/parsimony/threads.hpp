// Threads of the kernels, matrix products and decompositions: one number for all, one OpenMP pool.
#pragma once

namespace parsimony {

/// Sets the threads to use (>= 1). Default: OpenMP's, that is OMP_NUM_THREADS or the cores given
/// to the process. Results are the same bits for the same count; most do not depend on it.
/// @throws ValueError if count < 1.
void set_num_threads(int count);

/// Threads in use.
int num_threads();

}  // namespace parsimony
