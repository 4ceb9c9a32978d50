// Buffers for tensors: 64-byte aligned blocks from size-classed free lists, so that steady-state
// training neither maps nor unmaps memory (glibc returns blocks over its mmap threshold to the
// kernel at every free, and a fresh page costs more than most kernels).
#pragma once

#include <cstddef>

namespace parsimony::detail {

void* pool_allocate(std::size_t bytes);
void pool_release(void* block, std::size_t bytes) noexcept;
/// Bytes of the blocks handed out and not released, for leak tests.
std::size_t pool_bytes_in_use();
/// The most that was in use at once since the last reset.
std::size_t pool_peak_bytes();
void pool_reset_peak();

/// Allocator over the pool, for xtensor's containers. Values stay uninitialised.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(pool_allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { pool_release(p, n * sizeof(T)); }
  template <class U>
  bool operator==(const PoolAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const PoolAllocator<U>&) const {
    return false;
  }
};

}  // namespace parsimony::detail
