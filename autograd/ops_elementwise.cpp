// Elementwise ops with NumPy broadcasting: the value, then what flows back. Pullbacks return
// gradients of the op's full shape; the engine sums them to the input's.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <cmath>

#include "kernels/vector_math.hpp"
#include "tensor/elementwise.hpp"

namespace parsimony {

using detail::map;
using detail::map_broadcast;
using detail::map_same;

namespace {

/// A span function over the whole tensor.
template <class T>
Tensor<T> map_span(const Tensor<T>& x, kernels::SpanFunction<T> f) {
  Tensor<T> out(x.shape());
  T* o = out.mutable_data();
  const T* in = x.data();
  kernels::parallel_for(x.size(), kernels::transcendental_cost, [=](index_t first, index_t last) {
    f(last - first, in + first, o + first);
  });
  return out;
}

/// dx = factor(x) dy for an op whose slope is computed from its input.
template <class T, class Slope>
Var<T> from_input(const char* op, const Var<T>& x, Tensor<T> value, Slope slope) {
  return make_op(
      op, std::move(value), {x},
      [x = x.value(), slope](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] { return map_same(x, dy, [slope](T v, T g) { return slope(v) * g; }); });
      });
}

/// dx = factor(y) dy for an op whose slope is computed from its value.
template <class T, class Slope>
Var<T> from_value(const char* op, const Var<T>& x, Tensor<T> value, Slope slope) {
  return make_op(
      op, std::move(value), {x}, [slope](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] { return map_same(y, dy, [slope](T v, T g) { return slope(v) * g; }); });
      });
}

/// dx = slope(x) dy for span functions of the input.
template <class T>
Var<T> from_spans(const char* op, const Var<T>& x, kernels::SpanFunction<T> value,
                  kernels::SpanFunction<T> slope) {
  return make_op(op, map_span(x.value(), value), {x},
                 [x = x.value(), slope](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return mul(map_span(x, slope), dy); });
                 });
}

}  // namespace

template <class T>
Var<T> add(const Var<T>& a, const Var<T>& b) {
  return make_op("add", add(a.value(), b.value()), {a, b},
                 [](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return dy; });
                   d.add(1, [&] { return dy; });
                 });
}

template <class T>
Var<T> sub(const Var<T>& a, const Var<T>& b) {
  return make_op("sub", sub(a.value(), b.value()), {a, b},
                 [](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return dy; });
                   d.add(1, [&] { return map(dy, [](T g) { return -g; }); });
                 });
}

template <class T>
Var<T> mul(const Var<T>& a, const Var<T>& b) {
  return make_op(
      "mul", mul(a.value(), b.value()), {a, b},
      [a = a.value(), b = b.value()](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        d.add(0, [&] { return mul(dy, b); });
        d.add(1, [&] { return mul(dy, a); });
      });
}

// y = a / b: da = dy / b, db = -dy y / b.
template <class T>
Var<T> div(const Var<T>& a, const Var<T>& b) {
  return make_op("div", div(a.value(), b.value()), {a, b},
                 [b = b.value()](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return div(dy, b); });
                   d.add(1, [&] {
                     const Tensor<T> product = map_same(dy, y, [](T g, T v) { return -g * v; });
                     return div(product, b);
                   });
                 });
}

template <class T>
Var<T> where(const Tensor<std::uint8_t>& condition, const Var<T>& a, const Var<T>& b) {
  const Shape shape =
      broadcast_shape("where", condition.shape(), broadcast_shape("where", a.shape(), b.shape()));
  const Tensor<std::uint8_t> mask = map_broadcast("where", condition, Tensor<std::uint8_t>(shape),
                                                  [](std::uint8_t c, std::uint8_t) { return c; });
  const auto select = [](const Tensor<std::uint8_t>& m, const Tensor<T>& yes, const Tensor<T>& no) {
    Tensor<T> out(m.shape());
    T* o = out.mutable_data();
    for (index_t i = 0; i < out.size(); ++i) o[i] = m.data()[i] ? yes.data()[i] : no.data()[i];
    return out;
  };
  return make_op("where",
                 select(mask, broadcast_to(a.value(), shape), broadcast_to(b.value(), shape)),
                 {a, b}, [mask, select](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return select(mask, dy, Tensor<T>::zeros(dy.shape())); });
                   d.add(1, [&] { return select(mask, Tensor<T>::zeros(dy.shape()), dy); });
                 });
}

template <class T>
Var<T> neg(const Var<T>& x) {
  return make_op("neg", map(x.value(), [](T v) { return -v; }), {x},
                 [](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return map(dy, [](T g) { return -g; }); });
                 });
}

template <class T>
Var<T> scale(const Var<T>& x, double factor) {
  return make_op("scale", scale(x.value(), factor), {x},
                 [factor](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return scale(dy, factor); });
                 });
}

template <class T>
Var<T> shift(const Var<T>& x, double constant) {
  const T c = static_cast<T>(constant);
  return make_op(
      "shift", map(x.value(), [c](T v) { return v + c; }), {x},
      [](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) { d.add(0, [&] { return dy; }); });
}

template <class T>
Var<T> pow(const Var<T>& x, double exponent) {
  const T p = static_cast<T>(exponent);
  return from_input(
      "pow", x,
      map(
          x.value(), [p](T v) { return std::pow(v, p); }, kernels::transcendental_cost),
      // x⁰ is constant, at 0 too, where p x^(p-1) would be 0·∞.
      [p](T v) { return p == T(0) ? T(0) : p * std::pow(v, p - T(1)); });
}

template <class T>
Var<T> square(const Var<T>& x) {
  return from_input("square", x, map(x.value(), [](T v) { return v * v; }),
                    [](T v) { return T(2) * v; });
}

template <class T>
Var<T> sqrt(const Var<T>& x) {
  return from_value("sqrt", x, map(x.value(), [](T v) { return std::sqrt(v); }),
                    [](T y) { return T(0.5) / y; });
}

template <class T>
Var<T> exp(const Var<T>& x) {
  return from_value("exp", x, map_span<T>(x.value(), kernels::exp_span), [](T y) { return y; });
}

template <class T>
Var<T> log(const Var<T>& x) {
  return from_input("log", x,
                    map(
                        x.value(), [](T v) { return std::log(v); }, kernels::transcendental_cost),
                    [](T v) { return T(1) / v; });
}

template <class T>
Var<T> abs(const Var<T>& x) {
  return from_input("abs", x, map(x.value(), [](T v) { return std::abs(v); }), [](T v) {
    return v > 0 ? T(1) : v < 0 ? T(-1) : T(0);
  });
}

template <class T>
Var<T> tanh(const Var<T>& x) {
  return from_value("tanh", x, map_span<T>(x.value(), kernels::tanh_span),
                    [](T y) { return T(1) - y * y; });
}

template <class T>
Var<T> sigmoid(const Var<T>& x) {
  return from_value("sigmoid", x, map_span<T>(x.value(), kernels::sigmoid_span),
                    [](T y) { return y * (T(1) - y); });
}

template <class T>
Var<T> relu(const Var<T>& x) {
  // A NaN stays one: it is not below 0.
  return from_value("relu", x, map(x.value(), [](T v) { return v < 0 ? T(0) : v; }),
                    [](T y) { return y > 0 ? T(1) : T(0); });
}

// The slope is formed beside the value and kept in place of x: backward is one product.
template <class T>
Var<T> gelu(const Var<T>& x) {
  Tensor<T> y(x.shape());
  Tensor<T> slope;
  T* out = y.mutable_data();
  T* s = nullptr;
  if (grad_enabled() && x.requires_grad()) {
    slope = Tensor<T>(x.shape());
    s = slope.mutable_data();
  }
  kernels::parallel_for(y.size(), kernels::transcendental_cost,
                        [=, in = x.value().data()](index_t first, index_t last) {
                          if (s == nullptr) {
                            kernels::gelu_span(last - first, in + first, out + first);
                          } else {
                            kernels::gelu_and_slope_span(last - first, in + first, out + first,
                                                         s + first);
                          }
                        });
  return make_op("gelu", std::move(y), {x},
                 [slope](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return mul(slope, dy); });
                 });
}

// With u = √(2/π) (x + c x³), t = tanh u: y' = (1 + t)/2 + x/2 (1 - t²) u'.
template <class T>
Var<T> gelu_tanh(const Var<T>& x) {
  constexpr T c = T(0.044715);
  const T root = static_cast<T>(std::sqrt(2.0 / M_PI));
  const Tensor<T> u = map(x.value(), [=](T v) { return root * (v + c * v * v * v); });
  const Tensor<T> t = map_span<T>(u, kernels::tanh_span);
  Tensor<T> y = map_same(x.value(), t, [](T v, T s) { return T(0.5) * v * (T(1) + s); });
  return make_op("gelu_tanh", std::move(y), {x},
                 [x = x.value(), t, root](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     const Tensor<T> slope = map_same(x, t, [root](T v, T s) {
                       return T(0.5) *
                              (T(1) + s + v * (T(1) - s * s) * root * (T(1) + 3 * c * v * v));
                     });
                     return mul(slope, dy);
                   });
                 });
}

// s = sigmoid(g): y = g s u, dg = dy u s (1 + g (1 - s)), du = dy g s.
template <class T>
Var<T> swiglu(const Var<T>& gate, const Var<T>& up) {
  if (gate.shape() != up.shape()) {
    throw ShapeError("swiglu: expected gate and up of one shape; got " + gate.shape().str() +
                     " and " + up.shape().str());
  }
  const Tensor<T> s = map_span<T>(gate.value(), kernels::sigmoid_span);
  const Tensor<T> silu = mul(gate.value(), s);
  return make_op("swiglu", mul(silu, up.value()), {gate, up},
                 [gate = gate.value(), up = up.value(), s, silu](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     const Tensor<T> slope =
                         map_same(gate, s, [](T g, T v) { return v * (T(1) + g * (T(1) - v)); });
                     return mul(mul(slope, up), dy);
                   });
                   d.add(1, [&] { return mul(silu, dy); });
                 });
}

template <class T>
Var<T> erf(const Var<T>& x) {
  return from_spans<T>("erf", x, kernels::erf_span, kernels::erf_slope_span);
}

#define PARSIMONY_INSTANTIATE(T)                                                    \
  template Var<T> add(const Var<T>&, const Var<T>&);                                \
  template Var<T> sub(const Var<T>&, const Var<T>&);                                \
  template Var<T> mul(const Var<T>&, const Var<T>&);                                \
  template Var<T> div(const Var<T>&, const Var<T>&);                                \
  template Var<T> where(const Tensor<std::uint8_t>&, const Var<T>&, const Var<T>&); \
  template Var<T> neg(const Var<T>&);                                               \
  template Var<T> scale(const Var<T>&, double);                                     \
  template Var<T> shift(const Var<T>&, double);                                     \
  template Var<T> pow(const Var<T>&, double);                                       \
  template Var<T> square(const Var<T>&);                                            \
  template Var<T> sqrt(const Var<T>&);                                              \
  template Var<T> exp(const Var<T>&);                                               \
  template Var<T> log(const Var<T>&);                                               \
  template Var<T> abs(const Var<T>&);                                               \
  template Var<T> tanh(const Var<T>&);                                              \
  template Var<T> sigmoid(const Var<T>&);                                           \
  template Var<T> relu(const Var<T>&);                                              \
  template Var<T> gelu(const Var<T>&);                                              \
  template Var<T> gelu_tanh(const Var<T>&);                                         \
  template Var<T> swiglu(const Var<T>&, const Var<T>&);                             \
  template Var<T> erf(const Var<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
