// Reductions over all entries or over some axes, and their gradients: the upstream one repeated
// along the axes that went.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <array>
#include <cmath>

#include <fmt/format.h>

#include "kernels/rows.hpp"

namespace parsimony {

namespace {

/// A shape without some of its axes, and with them as 1.
struct Reduced {
  Shape kept;     // same rank, reduced axes of size 1
  Shape dropped;  // reduced axes left out
  index_t count = 1;
};

Reduced reduce_axes(const char* op, const Shape& shape, const std::vector<int>& axes) {
  std::array<bool, Shape::max_rank> gone{};
  for (const int axis : axes) {
    const int a = shape.normalize(axis);
    if (gone[static_cast<std::size_t>(a)]) {
      throw ShapeError(fmt::format("{}: axis {} is named twice", op, a));
    }
    gone[static_cast<std::size_t>(a)] = true;
  }
  Reduced out;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool reduced = gone[static_cast<std::size_t>(i)];
    out.kept.push_back(reduced ? 1 : shape[i]);
    if (reduced) {
      out.count *= shape[i];
    } else {
      out.dropped.push_back(shape[i]);
    }
  }
  return out;
}

/// factor Σ x over the axes.
template <class T>
Var<T> scaled_sum(const char* op, const Var<T>& x, const Reduced& to, double factor,
                  bool keep_dims) {
  Tensor<T> value = sum_to(x.value(), to.kept).reshape(keep_dims ? to.kept : to.dropped);
  if (factor != 1.0) value = scale(value, factor);
  return make_op(op, std::move(value), {x},
                 [from = x.shape(), kept = to.kept, factor](const Tensor<T>&, const Tensor<T>& dy,
                                                            Gradients<T>& d) {
                   d.add(0, [&] {
                     const Tensor<T> g = factor == 1.0 ? dy : scale(dy, factor);
                     return g.size() == 1 ? Tensor<T>::full(from, g.item())
                                          : broadcast_to(g.reshape(kept), from);
                   });
                 });
}

/// factor Σ x over all entries.
template <class T>
Var<T> scaled_sum(const char* op, const Var<T>& x, double factor) {
  return make_op(
      op, Tensor<T>::scalar(static_cast<T>(factor * sum_all(x.value()))), {x},
      [from = x.shape(), factor](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] {
          const double g = factor * static_cast<double>(dy.item());
          return Tensor<T>::full(from, static_cast<T>(g));
        });
      });
}

}  // namespace

template <class T>
Var<T> sum(const Var<T>& x) {
  return scaled_sum("sum", x, 1.0);
}

template <class T>
Var<T> sum(const Var<T>& x, const std::vector<int>& axes, bool keep_dims) {
  return scaled_sum("sum", x, reduce_axes("sum", x.shape(), axes), 1.0, keep_dims);
}

template <class T>
Var<T> mean(const Var<T>& x) {
  return scaled_sum("mean", x, 1.0 / static_cast<double>(x.value().size()));
}

template <class T>
Var<T> mean(const Var<T>& x, const std::vector<int>& axes, bool keep_dims) {
  const Reduced to = reduce_axes("mean", x.shape(), axes);
  return scaled_sum("mean", x, to, 1.0 / static_cast<double>(to.count), keep_dims);
}

template <class T>
Var<T> max(const Var<T>& x, int axis, bool keep_dims) {
  axis = x.shape().normalize(axis);
  const Reduced to = reduce_axes("max", x.shape(), {axis});
  const index_t n = x.dim(axis);
  const index_t size = to.kept.size();
  if (n == 0 && size > 0) {
    throw ShapeError(fmt::format("max: axis {} of shape {} has no entries", axis, x.shape().str()));
  }
  index_t inner = 1;
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.dim(i);
  Tensor<T> value(keep_dims ? to.kept : to.dropped);
  Tensor<std::int64_t> places(to.kept);  // of the largest entries in x's buffer
  T* best = value.mutable_data();
  std::int64_t* place = places.mutable_data();
  const T* entries = x.value().data();
  for (index_t i = 0; i < size; ++i) {
    const index_t start = i / inner * n * inner + i % inner;
    place[i] = start;
    for (index_t at = start; at < start + n * inner; at += inner) {
      const T current = entries[place[i]];
      if (entries[at] > current || (std::isnan(entries[at]) && !std::isnan(current))) place[i] = at;
    }
    best[i] = entries[place[i]];
  }
  return make_op(
      "max", std::move(value), {x},
      [from = x.shape(), places](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] {
          Tensor<T> dx = Tensor<T>::zeros(from);
          T* out = dx.mutable_data();
          for (index_t i = 0; i < dy.size(); ++i) out[places.data()[i]] = dy.data()[i];
          return dx;
        });
      });
}

template <class T>
Var<T> logsumexp(const Var<T>& x) {
  const Shape shape = reduce_axes("logsumexp", x.shape(), {-1}).dropped;
  const index_t rows = shape.size();
  Tensor<T> value(shape);
  kernels::logsumexp_rows(rows, x.dim(-1), x.value().data(), value.mutable_data());
  return make_op("logsumexp", std::move(value), {x},
                 [x = x.value()](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     Tensor<T> dx(x.shape());
                     kernels::logsumexp_rows_backward(y.size(), x.dim(-1), x.data(), y.data(),
                                                      dy.data(), dx.mutable_data());
                     return dx;
                   });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                      \
  template Var<T> sum(const Var<T>&);                                 \
  template Var<T> sum(const Var<T>&, const std::vector<int>&, bool);  \
  template Var<T> mean(const Var<T>&);                                \
  template Var<T> mean(const Var<T>&, const std::vector<int>&, bool); \
  template Var<T> max(const Var<T>&, int, bool);                      \
  template Var<T> logsumexp(const Var<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
