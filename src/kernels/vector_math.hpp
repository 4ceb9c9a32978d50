// Transcendental functions over spans, y[i] = f(x[i]), with xsimd where it is installed. An entry's
// result does not depend on its place in the span, so neither on the number of threads. exp and erf
// are within two units in the last place, exp down to the subnormal numbers; a NaN stays one.
// x and y may be the same span.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

template <class T>
using SpanFunction = void (*)(std::int64_t n, const T* x, T* y);

template <class T>
void exp_span(std::int64_t n, const T* x, T* y);
template <class T>
void tanh_span(std::int64_t n, const T* x, T* y);
/// 1 / (1 + exp(-x))
template <class T>
void sigmoid_span(std::int64_t n, const T* x, T* y);
template <class T>
void erf_span(std::int64_t n, const T* x, T* y);
/// 2/√π exp(-x²)
template <class T>
void erf_slope_span(std::int64_t n, const T* x, T* y);
/// x Φ(x)
template <class T>
void gelu_span(std::int64_t n, const T* x, T* y);
/// y = x Φ(x) and its slope Φ(x) + x φ(x), which share most of the work.
template <class T>
void gelu_and_slope_span(std::int64_t n, const T* x, T* y, T* slope);

/// Elementary steps that one of these costs, for parallel_for.
inline constexpr std::int64_t transcendental_cost = 10;

}  // namespace parsimony::kernels
