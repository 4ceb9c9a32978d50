#include "tensor/pool.hpp"

#include <parsimony/memory.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace parsimony::detail {

namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t cache_limit = std::size_t{4} << 30;  // bytes kept for reuse

/// Size classes: 64 bytes, then four steps to each doubling (at most 25 % slack, usually 12 %).
struct SizeClass {
  std::size_t index;
  std::size_t bytes;
};

SizeClass size_class(std::size_t bytes) {
  if (bytes <= 64) return {0, 64};
  const auto top = static_cast<std::size_t>(63 - __builtin_clzll(bytes - 1));  // 2^top < bytes
  const std::size_t step = std::size_t{1} << (top - 2);
  const std::size_t steps = (bytes - 1 - (std::size_t{1} << top)) / step + 1;  // 1..4
  const std::size_t rounded = (std::size_t{1} << top) + steps * step;
  return {(top - 6) * 4 + steps, rounded};
}

struct Pool {
  std::mutex mutex;
  std::array<std::vector<void*>, 4 * 58 + 1> free_blocks;
  std::size_t cached = 0;
  std::size_t in_use = 0;
  std::size_t peak = 0;

  void take(std::size_t bytes) {
    in_use += bytes;
    peak = std::max(peak, in_use);
  }
};

/// Never destroyed: tensors in static storage may outlive any static pool.
Pool& pool() {
  static auto* instance = new Pool;
  return *instance;
}

void* system_allocate(std::size_t bytes) {
  const std::size_t align = bytes >= 2 * huge_page ? huge_page : alignment;
  const std::size_t rounded = (bytes + align - 1) / align * align;
  void* block = std::aligned_alloc(align, rounded);
  if (block == nullptr) throw std::bad_alloc();
#ifdef __linux__
  if (align == huge_page) madvise(block, rounded, MADV_HUGEPAGE);
#endif
  return block;
}

}  // namespace

void* pool_allocate(std::size_t bytes) {
  const SizeClass size = size_class(bytes);
  Pool& p = pool();
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    auto& blocks = p.free_blocks[size.index];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      p.cached -= size.bytes;
      p.take(size.bytes);
      return block;
    }
  }
  void* block = system_allocate(size.bytes);
  const std::lock_guard<std::mutex> lock(p.mutex);
  p.take(size.bytes);
  return block;
}

void pool_release(void* block, std::size_t bytes) noexcept {
  if (block == nullptr) return;
  const SizeClass size = size_class(bytes);
  Pool& p = pool();
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.in_use -= size.bytes;
    if (p.cached + size.bytes <= cache_limit) {
      try {
        p.free_blocks[size.index].push_back(block);
        p.cached += size.bytes;
        return;
      } catch (const std::bad_alloc&) {  // the list cannot grow: give the block back instead
      }
    }
  }
  std::free(block);
}

std::size_t pool_bytes_in_use() {
  const std::lock_guard<std::mutex> lock(pool().mutex);
  return pool().in_use;
}

std::size_t pool_peak_bytes() {
  const std::lock_guard<std::mutex> lock(pool().mutex);
  return pool().peak;
}

void pool_reset_peak() {
  const std::lock_guard<std::mutex> lock(pool().mutex);
  pool().peak = pool().in_use;
}

}  // namespace parsimony::detail

namespace parsimony {

std::size_t tensor_memory() { return detail::pool_bytes_in_use(); }
std::size_t peak_tensor_memory() { return detail::pool_peak_bytes(); }
void reset_peak_tensor_memory() { detail::pool_reset_peak(); }

}  // namespace parsimony
