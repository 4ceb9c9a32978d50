// Rows picked by index, and the transpose: rows added at indices. `width` entries a row.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// out[i] = table[ids[i]]; the ids are known to be in range.
template <class T>
void gather_rows(std::int64_t count, std::int64_t width, const std::int64_t* ids, const T* table,
                 T* out);

/// out[ids[i]] += x[i]. Threads share the columns, so that repeated ids add up in one order.
template <class T>
void scatter_add_rows(std::int64_t count, std::int64_t width, const std::int64_t* ids, const T* x,
                      T* out);

}  // namespace parsimony::kernels
