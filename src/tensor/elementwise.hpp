// Elementwise maps over tensors: contiguous loops where the shapes allow, NumPy broadcasting by
// strides elsewhere. The functor is a template argument, so that the compiler vectorises the loop.
#pragma once

#include <parsimony/tensor.hpp>

#include <array>

#include "kernels/parallel.hpp"

namespace parsimony::detail {

/// out[i] = f(a[i]); `cost` is f's price in additions.
template <class T, class F>
Tensor<T> map(const Tensor<T>& a, F f, index_t cost = 1) {
  Tensor<T> out(a.shape());
  T* o = out.mutable_data();
  const T* x = a.data();
  kernels::parallel_for(a.size(), cost, [=](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) o[i] = f(x[i]);
  });
  return out;
}

/// out[i] = f(a[i], b[i]) for equal shapes.
template <class T, class F>
Tensor<T> map_same(const Tensor<T>& a, const Tensor<T>& b, F f, index_t cost = 1) {
  Tensor<T> out(a.shape());
  T* o = out.mutable_data();
  const T* x = a.data();
  const T* y = b.data();
  kernels::parallel_for(a.size(), cost, [=](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) o[i] = f(x[i], y[i]);
  });
  return out;
}

/// Strides of `shape` read as `out`: 0 where an axis is repeated.
inline std::array<index_t, Shape::max_rank> broadcast_strides(const Shape& shape,
                                                              const Shape& out) {
  std::array<index_t, Shape::max_rank> strides{};
  index_t stride = 1;
  for (int i = 1; i <= shape.rank(); ++i) {
    const index_t n = shape[-i];
    strides[static_cast<std::size_t>(out.rank() - i)] = n == 1 ? 0 : stride;
    stride *= n;
  }
  return strides;
}

/// out = f(a, b) with NumPy broadcasting. The last axis is a plain loop with stride 0 or 1.
template <class T, class F>
Tensor<T> map_broadcast(const char* op, const Tensor<T>& a, const Tensor<T>& b, F f) {
  if (a.shape() == b.shape()) return map_same(a, b, f);
  const Shape shape = broadcast_shape(op, a.shape(), b.shape());
  Tensor<T> out(shape);
  if (out.size() == 0) return out;
  const auto sa = broadcast_strides(a.shape(), shape);
  const auto sb = broadcast_strides(b.shape(), shape);
  const int last_axis = shape.rank() - 1;
  const index_t inner = shape[-1];
  const index_t outer = out.size() / inner;
  const index_t ia = sa[static_cast<std::size_t>(last_axis)];
  const index_t ib = sb[static_cast<std::size_t>(last_axis)];
  T* o = out.mutable_data();
  const T* x = a.data();
  const T* y = b.data();
  kernels::parallel_for(outer, inner, [&, o, x, y](index_t first, index_t last) {
    for (index_t r = first; r < last; ++r) {
      index_t rest = r;
      index_t oa = 0;
      index_t ob = 0;
      for (int axis = last_axis - 1; axis >= 0; --axis) {
        const index_t at = rest % shape[axis];
        rest /= shape[axis];
        oa += at * sa[static_cast<std::size_t>(axis)];
        ob += at * sb[static_cast<std::size_t>(axis)];
      }
      T* row = o + r * inner;
      const T* xa = x + oa;
      const T* yb = y + ob;
      if (ia == 1 && ib == 1) {
        for (index_t i = 0; i < inner; ++i) row[i] = f(xa[i], yb[i]);
      } else if (ia == 1) {
        const T constant = yb[0];
        for (index_t i = 0; i < inner; ++i) row[i] = f(xa[i], constant);
      } else if (ib == 1) {
        const T constant = xa[0];
        for (index_t i = 0; i < inner; ++i) row[i] = f(constant, yb[i]);
      } else {
        const T constant = f(xa[0], yb[0]);
        for (index_t i = 0; i < inner; ++i) row[i] = constant;
      }
    }
  });
  return out;
}

}  // namespace parsimony::detail
