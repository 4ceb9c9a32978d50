#include "kernels/gather.hpp"

#include <algorithm>

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

template <class T>
void gather_rows(std::int64_t count, std::int64_t width, const std::int64_t* ids, const T* table,
                 T* out) {
  parallel_for(count, width, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      std::copy_n(table + ids[i] * width, width, out + i * width);
    }
  });
}

template <class T>
void scatter_add_rows(std::int64_t count, std::int64_t width, const std::int64_t* ids, const T* x,
                      T* out) {
  parallel_for(width, count, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = 0; i < count; ++i) {
      const T* from = x + i * width;
      T* to = out + ids[i] * width;
      for (std::int64_t j = first; j < last; ++j) to[j] += from[j];
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                            \
  template void gather_rows(std::int64_t, std::int64_t, const std::int64_t*, const T*, T*); \
  template void scatter_add_rows(std::int64_t, std::int64_t, const std::int64_t*, const T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
