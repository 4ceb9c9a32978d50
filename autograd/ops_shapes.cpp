// Ops that move entries without changing them; each pullback moves them back.
#include <parsimony/ops.hpp>

#include <numeric>

namespace parsimony {

namespace {

/// Zeros of `shape` with x in place of the elements of an axis that begin at `first`.
template <class T>
Tensor<T> embed(const Tensor<T>& x, const Shape& shape, int axis, index_t first) {
  Shape before = shape;
  before.set(axis, first);
  Shape after = shape;
  after.set(axis, shape[axis] - first - x.dim(axis));
  return concat<T>({Tensor<T>::zeros(before), x, Tensor<T>::zeros(after)}, axis);
}

}  // namespace

template <class T>
Var<T> reshape(const Var<T>& x, const Shape& shape) {
  return make_op("reshape", x.value().reshape(shape), {x},
                 [from = x.shape()](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return dy.reshape(from); });
                 });
}

template <class T>
Var<T> transpose(const Var<T>& x, const std::vector<int>& order) {
  Tensor<T> value = transpose(x.value(), order);
  // The empty order, a reversal, is its own inverse.
  std::vector<int> inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    inverse[static_cast<std::size_t>(x.shape().normalize(order[i]))] = static_cast<int>(i);
  }
  return make_op("transpose", std::move(value), {x},
                 [inverse](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return transpose(dy, inverse); });
                 });
}

template <class T>
Var<T> slice(const Var<T>& x, int axis, index_t first, index_t last) {
  return make_op(
      "slice", slice(x.value(), axis, first, last), {x},
      [from = x.shape(), axis, first](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] { return embed(dy, from, axis, first); });
      });
}

template <class T>
Var<T> concat(const std::vector<Var<T>>& parts, int axis) {
  std::vector<Tensor<T>> values;
  std::vector<index_t> ends;
  for (const Var<T>& part : parts) values.push_back(part.value());
  Tensor<T> value = concat(values, axis);
  for (const Tensor<T>& part : values) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + part.dim(axis));
  }
  return make_op("concat", std::move(value), parts.data(), parts.size(),
                 [ends, axis](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   for (std::size_t i = 0; i < ends.size(); ++i) {
                     d.add(i, [&] { return slice(dy, axis, i > 0 ? ends[i - 1] : 0, ends[i]); });
                   }
                 });
}

// The engine sums dy back to x's shape.
template <class T>
Var<T> broadcast_to(const Var<T>& x, const Shape& shape) {
  return make_op(
      "broadcast_to", broadcast_to(x.value(), shape), {x},
      [](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) { d.add(0, [&] { return dy; }); });
}

#define PARSIMONY_INSTANTIATE(T)                                     \
  template Var<T> reshape(const Var<T>&, const Shape&);              \
  template Var<T> transpose(const Var<T>&, const std::vector<int>&); \
  template Var<T> slice(const Var<T>&, int, index_t, index_t);       \
  template Var<T> concat(const std::vector<Var<T>>&, int);           \
  template Var<T> broadcast_to(const Var<T>&, const Shape&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
