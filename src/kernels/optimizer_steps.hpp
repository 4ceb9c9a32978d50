// One fused pass over parameter, gradient and moments for each optimiser's update.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// w ← (1 - ηλ) w - η g
template <class T>
void gradient_step(std::int64_t n, T* w, const T* g, double rate, double weight_decay);

/// v ← μv + g + λw, w ← w - ηv
template <class T>
void momentum_step(std::int64_t n, T* w, const T* g, T* v, double rate, double weight_decay,
                   double momentum);

/// g ← g + λw, v ← αv + (1-α)g², w ← w - η g / (√v + eps)
template <class T>
void rms_prop_step(std::int64_t n, T* w, const T* g, T* v, double rate, double weight_decay,
                   double alpha, double eps);

struct AdamStep {
  double rate, weight_decay, beta1, beta2, eps;
  double correction1, correction2;  // 1 - beta^t
  bool decoupled;
};

template <class T>
void adam_step(std::int64_t n, T* w, const T* g, T* m, T* v, const AdamStep& s);

}  // namespace parsimony::kernels
