// How much memory the tensors of this process hold. Exact and the same at every run, which the
// process's own size is not: allocators keep what they got.
#pragma once

#include <cstddef>

namespace parsimony {

/// Bytes of the buffers that tensors hold now, rounded up to the blocks they live in.
std::size_t tensor_memory();
/// The most that they held at once since the start, or the last reset.
std::size_t peak_tensor_memory();
void reset_peak_tensor_memory();

}  // namespace parsimony
