#include "kernels/optimizer_steps.hpp"

#include <cmath>

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

template <class T>
void gradient_step(std::int64_t n, T* w, const T* g, double rate, double weight_decay) {
  const T keep = static_cast<T>(1.0 - rate * weight_decay);
  const T eta = static_cast<T>(rate);
  parallel_for(n, 1, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) w[i] = keep * w[i] - eta * g[i];
  });
}

template <class T>
void momentum_step(std::int64_t n, T* w, const T* g, T* v, double rate, double weight_decay,
                   double momentum) {
  const T eta = static_cast<T>(rate);
  const T lambda = static_cast<T>(weight_decay);
  const T mu = static_cast<T>(momentum);
  parallel_for(n, 1, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      v[i] = mu * v[i] + g[i] + lambda * w[i];
      w[i] -= eta * v[i];
    }
  });
}

template <class T>
void rms_prop_step(std::int64_t n, T* w, const T* g, T* v, double rate, double weight_decay,
                   double alpha, double eps) {
  const T eta = static_cast<T>(rate);
  const T lambda = static_cast<T>(weight_decay);
  const T a = static_cast<T>(alpha);
  const T b = static_cast<T>(1.0 - alpha);
  const T e = static_cast<T>(eps);
  parallel_for(n, 8, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const T gi = g[i] + lambda * w[i];
      v[i] = a * v[i] + b * gi * gi;
      w[i] -= eta * gi / (std::sqrt(v[i]) + e);
    }
  });
}

template <class T>
void adam_step(std::int64_t n, T* w, const T* g, T* m, T* v, const AdamStep& s) {
  const T keep = static_cast<T>(s.decoupled ? 1.0 - s.rate * s.weight_decay : 1.0);
  const T lambda = static_cast<T>(s.decoupled ? 0.0 : s.weight_decay);
  const T b1 = static_cast<T>(s.beta1);
  const T c1 = static_cast<T>(1.0 - s.beta1);
  const T b2 = static_cast<T>(s.beta2);
  const T c2 = static_cast<T>(1.0 - s.beta2);
  const T rate = static_cast<T>(s.rate / s.correction1);
  const T root = static_cast<T>(1.0 / std::sqrt(s.correction2));
  const T eps = static_cast<T>(s.eps);
  parallel_for(n, 8, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const T gi = g[i] + lambda * w[i];
      m[i] = b1 * m[i] + c1 * gi;
      v[i] = b2 * v[i] + c2 * gi * gi;
      w[i] = keep * w[i] - rate * m[i] / (std::sqrt(v[i]) * root + eps);
    }
  });
}

#define PARSIMONY_INSTANTIATE(T)                                                               \
  template void gradient_step(std::int64_t, T*, const T*, double, double);                     \
  template void momentum_step(std::int64_t, T*, const T*, T*, double, double, double);         \
  template void rms_prop_step(std::int64_t, T*, const T*, T*, double, double, double, double); \
  template void adam_step(std::int64_t, T*, const T*, T*, T*, const AdamStep&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony::kernels
