#include "kernels/rotary.hpp"

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

template <class T>
void rotate_halves(std::int64_t batch, std::int64_t length, std::int64_t heads, std::int64_t half,
                   const T* cos, const T* sin, bool back, const T* x, T* y) {
  const T sign = back ? T(-1) : T(1);
  const std::int64_t row = heads * 2 * half;
  parallel_for(batch * length, row, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* c = cos + r % length * half;
      const T* s = sin + r % length * half;
      for (std::int64_t h = 0; h < heads; ++h) {
        const T* from = x + r * row + h * 2 * half;
        T* to = y + r * row + h * 2 * half;
        for (std::int64_t t = 0; t < half; ++t) {
          to[t] = from[t] * c[t] - from[t + half] * (sign * s[t]);
          to[t + half] = from[t + half] * c[t] + from[t] * (sign * s[t]);
        }
      }
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                                \
  template void rotate_halves(std::int64_t, std::int64_t, std::int64_t, std::int64_t, const T*, \
                              const T*, bool, const T*, T*);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
