// Values without gradients: products, elementwise maps, shapes and reductions on plain tensors.
#include <parsimony/error.hpp>
#include <parsimony/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "kernels/gemm.hpp"
#include "kernels/residual.hpp"
#include "kernels/rows.hpp"
#include "tensor/elementwise.hpp"

namespace parsimony {

namespace {

Shape leading(const Shape& shape) {
  Shape out;
  for (int i = 0; i + 2 < shape.rank(); ++i) out.push_back(shape[i]);
  return out;
}

[[noreturn]] void throw_inner_sizes(const Shape& a, const Shape& b, bool trans_a, bool trans_b,
                                    index_t ka, index_t kb) {
  const char* hint = "";
  if (a[trans_a ? -2 : -1] == b[trans_b ? -2 : -1]) hint = "; did you mean trans_b?";
  if (a[trans_a ? -1 : -2] == kb) hint = "; did you mean trans_a?";
  throw ShapeError(fmt::format("matmul: inner sizes differ: {}{}·{}{}, {} ≠ {}{}", a.str(),
                               trans_a ? "ᵀ" : "", b.str(), trans_b ? "ᵀ" : "", ka, kb, hint));
}

}  // namespace

template <class T>
Tensor<T> matmul(const Tensor<T>& a, const Tensor<T>& b, bool trans_a, bool trans_b) {
  if (a.rank() < 2 || b.rank() < 2) {
    throw ShapeError(fmt::format("matmul: expected at least two axes on both sides; got {} and {}",
                                 a.shape().str(), b.shape().str()));
  }
  const index_t m = a.dim(trans_a ? -1 : -2);
  const index_t ka = a.dim(trans_a ? -2 : -1);
  const index_t kb = b.dim(trans_b ? -1 : -2);
  const index_t n = b.dim(trans_b ? -2 : -1);
  if (ka != kb) throw_inner_sizes(a.shape(), b.shape(), trans_a, trans_b, ka, kb);
  if (a.rank() == 2 && b.rank() == 2) {
    Tensor<T> out({m, n});
    if (ka == 0) {
      std::fill(out.mutable_data(), out.mutable_data() + out.size(), T(0));
    } else if (out.size() > 0) {
      kernels::gemm(trans_a, trans_b, m, n, ka, T(1), a.data(), a.dim(-1), b.data(), b.dim(-1),
                    T(0), out.mutable_data(), n);
    }
    return out;
  }
  const Shape lead_a = leading(a.shape());
  const Shape lead_b = leading(b.shape());
  if (a.rank() > 2 && b.rank() > 2 && lead_a != lead_b) {
    throw ShapeError(
        fmt::format("matmul: leading axes differ: {} and {}", a.shape().str(), b.shape().str()));
  }
  Shape shape = a.rank() > 2 ? lead_a : lead_b;
  const index_t batch = shape.size();
  shape.push_back(m);
  shape.push_back(n);
  Tensor<T> out(shape);
  if (out.size() == 0) return out;
  T* o = out.mutable_data();
  if (ka == 0) {
    std::fill(o, o + out.size(), T(0));
  } else if (b.rank() == 2 && !trans_a) {
    // Leading axes of a are more rows of one product.
    kernels::gemm(false, trans_b, batch * m, n, ka, T(1), a.data(), ka, b.data(), b.dim(-1), T(0),
                  o, n);
  } else {
    kernels::gemm_batched(trans_a, trans_b, batch, m, n, ka, a.data(), a.rank() > 2 ? m * ka : 0,
                          b.data(), b.rank() > 2 ? ka * n : 0, o);
  }
  return out;
}

template <class T>
Tensor<T> add(const Tensor<T>& a, const Tensor<T>& b) {
  return detail::map_broadcast("add", a, b, [](T x, T y) { return x + y; });
}

template <class T>
Tensor<T> sub(const Tensor<T>& a, const Tensor<T>& b) {
  return detail::map_broadcast("sub", a, b, [](T x, T y) { return x - y; });
}

template <class T>
Tensor<T> mul(const Tensor<T>& a, const Tensor<T>& b) {
  return detail::map_broadcast("mul", a, b, [](T x, T y) { return x * y; });
}

template <class T>
Tensor<T> div(const Tensor<T>& a, const Tensor<T>& b) {
  return detail::map_broadcast("div", a, b, [](T x, T y) { return x / y; });
}

template <class T>
Tensor<T> scale(const Tensor<T>& a, double factor) {
  const T f = static_cast<T>(factor);
  return detail::map(a, [f](T x) { return x * f; });
}

namespace {

/// Matrix transpose in blocks that stay in the first-level cache.
template <class T>
void transpose_matrix(const T* a, index_t rows, index_t cols, T* out) {
  constexpr index_t block = 32;
  kernels::parallel_for((rows + block - 1) / block, block * cols, [=](index_t first, index_t last) {
    for (index_t i0 = first * block; i0 < std::min(rows, last * block); i0 += block) {
      const index_t i1 = std::min(rows, i0 + block);
      for (index_t j0 = 0; j0 < cols; j0 += block) {
        const index_t j1 = std::min(cols, j0 + block);
        for (index_t j = j0; j < j1; ++j) {
          for (index_t i = i0; i < i1; ++i) out[j * rows + i] = a[i * cols + j];
        }
      }
    }
  });
}

}  // namespace

template <class T>
Tensor<T> transpose(const Tensor<T>& a, const std::vector<int>& order) {
  const int rank = a.rank();
  std::vector<int> axes(order);
  if (axes.empty()) {
    axes.resize(static_cast<std::size_t>(rank));
    std::iota(axes.rbegin(), axes.rend(), 0);
  }
  if (static_cast<int>(axes.size()) != rank) {
    throw ShapeError(fmt::format("transpose: expected {} axes for shape {}; got {}", rank,
                                 a.shape().str(), axes.size()));
  }
  std::vector<bool> seen(axes.size(), false);
  Shape shape;
  for (int& axis : axes) {
    axis = a.shape().normalize(axis);
    if (seen[static_cast<std::size_t>(axis)]) {
      throw ShapeError(fmt::format("transpose: axis {} is named twice", axis));
    }
    seen[static_cast<std::size_t>(axis)] = true;
    shape.push_back(a.dim(axis));
  }
  Tensor<T> out(shape);
  if (out.size() == 0) return out;
  T* o = out.mutable_data();
  const auto n_axes = static_cast<std::size_t>(rank);
  std::array<index_t, Shape::max_rank> strides{};  // of the source, in the order of the result
  for (std::size_t i = 0; i < n_axes; ++i) {
    index_t stride = 1;
    for (int axis = axes[i] + 1; axis < rank; ++axis) stride *= a.dim(axis);
    strides[i] = stride;
  }
  if (rank == 2 && axes[0] == 1) {
    transpose_matrix(a.data(), a.dim(0), a.dim(1), o);
    return out;
  }
  const index_t inner = rank == 0 ? 1 : shape[-1];
  const index_t inner_stride = rank == 0 ? 1 : strides[n_axes - 1];
  const T* x = a.data();
  kernels::parallel_for(out.size() / inner, inner, [&, o, x](index_t first, index_t last) {
    for (index_t r = first; r < last; ++r) {
      index_t rest = r;
      index_t offset = 0;
      for (int axis = rank - 2; axis >= 0; --axis) {
        offset += rest % shape[axis] * strides[static_cast<std::size_t>(axis)];
        rest /= shape[axis];
      }
      for (index_t i = 0; i < inner; ++i) o[r * inner + i] = x[offset + i * inner_stride];
    }
  });
  return out;
}

namespace {

/// A shape seen from one axis: outer x axis x inner.
struct AxisView {
  index_t outer = 1;
  index_t inner = 1;
};

AxisView view_axis(const Shape& shape, int axis) {
  AxisView view;
  for (int i = 0; i < axis; ++i) view.outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) view.inner *= shape[i];
  return view;
}

}  // namespace

template <class T>
Tensor<T> slice(const Tensor<T>& a, int axis, index_t first, index_t last) {
  axis = a.shape().normalize(axis);
  const index_t n = a.dim(axis);
  if (first < 0 || last < first || last > n) {
    throw ShapeError(fmt::format("slice: [{}, {}) is out of range for axis {} of shape {}", first,
                                 last, axis, a.shape().str()));
  }
  Shape shape = a.shape();
  shape.set(axis, last - first);
  Tensor<T> out(shape);
  const AxisView view = view_axis(a.shape(), axis);
  const index_t width = (last - first) * view.inner;
  T* o = out.mutable_data();
  for (index_t i = 0; i < view.outer; ++i) {
    std::copy_n(a.data() + i * n * view.inner + first * view.inner, width, o + i * width);
  }
  return out;
}

template <class T>
Tensor<T> concat(const std::vector<Tensor<T>>& parts, int axis) {
  if (parts.empty()) throw ShapeError("concat: expected at least one tensor; got none");
  axis = parts[0].shape().normalize(axis);
  Shape shape = parts[0].shape();
  index_t total = 0;
  for (const auto& part : parts) {
    Shape other = part.shape();
    if (other.rank() == shape.rank()) other.set(axis, shape[axis]);
    if (other != shape) {
      throw ShapeError(fmt::format("concat: shapes {} and {} differ outside axis {}",
                                   parts[0].shape().str(), part.shape().str(), axis));
    }
    total += part.dim(axis);
  }
  shape.set(axis, total);
  Tensor<T> out(shape);
  const AxisView view = view_axis(shape, axis);
  T* o = out.mutable_data();
  index_t at = 0;
  for (const auto& part : parts) {
    const index_t width = part.dim(axis) * view.inner;
    for (index_t i = 0; i < view.outer; ++i) {
      std::copy_n(part.data() + i * width, width, o + i * total * view.inner + at);
    }
    at += width;
  }
  return out;
}

template <class T>
Tensor<T> broadcast_to(const Tensor<T>& a, const Shape& shape) {
  if (a.shape() == shape) return a;
  if (broadcast_shape("broadcast_to", a.shape(), shape) != shape) {
    throw ShapeError(fmt::format("broadcast_to: shape {} cannot be repeated to {}", a.shape().str(),
                                 shape.str()));
  }
  return detail::map_broadcast("broadcast_to", a, Tensor<T>::zeros(shape),
                               [](T x, T) { return x; });
}

template <class T>
Tensor<T> sum_to(const Tensor<T>& a, const Shape& shape) {
  if (a.shape() == shape) return a;
  if (broadcast_shape("sum_to", a.shape(), shape) != a.shape()) {
    throw ShapeError(
        fmt::format("sum_to: shape {} does not broadcast to {}", shape.str(), a.shape().str()));
  }
  if (shape.size() == 1) return Tensor<T>::full(shape, static_cast<T>(sum_all(a)));
  // Runs of repeated axes, from the last one on, each one reduction of (outer, n, inner).
  Tensor<T> out = a;
  const auto repeated = [&](int axis) {
    const int own = axis - (a.rank() - shape.rank());
    return own < 0 || (shape[own] == 1 && a.dim(axis) != 1);
  };
  index_t inner = 1;
  for (int axis = a.rank() - 1; axis >= 0; --axis) {
    if (!repeated(axis)) {
      inner *= a.dim(axis);
      continue;
    }
    index_t n = a.dim(axis);
    for (; axis > 0 && repeated(axis - 1); --axis) n *= a.dim(axis - 1);
    index_t outer = 1;
    for (int i = 0; i < axis; ++i) outer *= a.dim(i);
    Tensor<T> sums({outer, inner});
    kernels::sum_axis(outer, n, inner, out.data(), sums.mutable_data());
    out = sums;
  }
  return out.reshape(shape);
}

template <class T>
double sum_all(const Tensor<T>& a) {
  const T* x = a.data();
  return kernels::blocked_sum(a.size(), [x](index_t first, index_t last) {
    double total = 0;
    for (index_t i = first; i < last; ++i) total += static_cast<double>(x[i]);
    return total;
  });
}

template <class T>
double dot(const Tensor<T>& a, const Tensor<T>& b) {
  if (a.size() != b.size()) {
    throw ShapeError(fmt::format("dot: sizes differ: {} and {}", a.shape().str(), b.shape().str()));
  }
  return kernels::dot(a.size(), a.data(), b.data());
}

template <class T>
double frobenius(const Tensor<T>& a) {
  return std::sqrt(dot(a, a));
}

template <class T>
double max_abs(const Tensor<T>& a) {
  double largest = 0;
  for (const T x : a) {
    const double magnitude = std::abs(static_cast<double>(x));
    if (std::isnan(magnitude)) return magnitude;
    largest = std::max(largest, magnitude);
  }
  return largest;
}

template <class T>
bool all_finite(const Tensor<T>& a) {
  // x - x is 0 for finite x and NaN otherwise; the sum keeps a NaN.
  const T* x = a.data();
  return kernels::blocked_sum(a.size(), [x](index_t first, index_t last) {
           T total = 0;
           for (index_t i = first; i < last; ++i) total += x[i] - x[i];
           return static_cast<double>(total);
         }) == 0.0;
}

#define PARSIMONY_INSTANTIATE(T)                                             \
  template Tensor<T> matmul(const Tensor<T>&, const Tensor<T>&, bool, bool); \
  template Tensor<T> add(const Tensor<T>&, const Tensor<T>&);                \
  template Tensor<T> sub(const Tensor<T>&, const Tensor<T>&);                \
  template Tensor<T> mul(const Tensor<T>&, const Tensor<T>&);                \
  template Tensor<T> div(const Tensor<T>&, const Tensor<T>&);                \
  template Tensor<T> scale(const Tensor<T>&, double);                        \
  template Tensor<T> transpose(const Tensor<T>&, const std::vector<int>&);   \
  template Tensor<T> slice(const Tensor<T>&, int, index_t, index_t);         \
  template Tensor<T> concat(const std::vector<Tensor<T>>&, int);             \
  template Tensor<T> broadcast_to(const Tensor<T>&, const Shape&);           \
  template Tensor<T> sum_to(const Tensor<T>&, const Shape&);                 \
  template double sum_all(const Tensor<T>&);                                 \
  template double dot(const Tensor<T>&, const Tensor<T>&);                   \
  template double frobenius(const Tensor<T>&);                               \
  template double max_abs(const Tensor<T>&);                                 \
  template bool all_finite(const Tensor<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
