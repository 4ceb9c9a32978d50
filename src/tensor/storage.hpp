// The buffer behind a tensor: xtensor's container over pooled memory, and a version count.
#pragma once

#include <parsimony/xtensor.hpp>

#include "tensor/pool.hpp"

namespace parsimony::detail {

template <class T>
struct Storage {
  explicit Storage(std::size_t n) : values(n) {}
  xt::uvector<T, PoolAllocator<T>> values;
  std::uint32_t version = 0;
};

}  // namespace parsimony::detail
