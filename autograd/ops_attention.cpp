// What a transformer layer needs beyond products and norms: attention over heads, rotary positions,
// dropout, and the sublayer's end (dropout, residual, layer norm) in one pass. Attention: Vaswani
// et al. 2017; dropout: Srivastava et al. 2014; rotary positions: Su et al. 2021.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <cmath>

#include <fmt/format.h>

#include "kernels/attention.hpp"
#include "kernels/dropout.hpp"
#include "kernels/rotary.hpp"
#include "norm_eps.hpp"

namespace parsimony {

namespace {

/// The mask of a stream for x of shape (..., positions, entries), or of the places (which it points
/// to).
kernels::DropoutMask mask_of(const char* op, double probability, Rng rng, const Shape& shape,
                             const RowPlaces& places = {}) {
  if (!(probability >= 0.0 && probability < 1.0)) {
    throw ValueError(
        fmt::format("{}: expected a dropout probability in [0, 1); got {}", op, probability));
  }
  const bool some = places.rows.defined();
  if (some && (shape.rank() != 2 || shape[0] != places.rows.size() || places.length < 1)) {
    throw ShapeError(fmt::format("{}: expected x ({}, n), a row for each place; got {}", op,
                                 places.rows.size(), shape.str()));
  }
  const index_t period = some ? places.length : shape.rank() >= 2 ? shape[-2] : 1;
  return {rng.next_u64(), static_cast<std::uint32_t>(std::lround(probability * 65536.0)),
          period > 0 ? period : 1, some ? places.rows.data() : nullptr};
}

index_t rows_of(const Shape& shape) {
  index_t rows = 1;
  for (int i = 0; i + 1 < shape.rank(); ++i) rows *= shape[i];
  return rows;
}

}  // namespace

// y = keep x / P(keep): dx is the same function of dy.
template <class T>
Var<T> dropout(const Var<T>& x, double probability, const Rng& rng, const RowPlaces& places) {
  if (x.rank() == 0) throw ShapeError("dropout: expected at least one axis; got shape ()");
  const auto mask = mask_of("dropout", probability, rng, x.shape(), places);
  if (mask.threshold == 0) return x;
  const auto drop = [mask, places](const Tensor<T>& from) {
    Tensor<T> out(from.shape());
    kernels::dropout(rows_of(from.shape()), from.dim(-1), mask, from.data(), out.mutable_data());
    return out;
  };
  return make_op("dropout", drop(x.value()), {x},
                 [drop](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return drop(dy); });
                 });
}

// y = n w + b, n the normalised dropout(x) + residual: dw = Σ dy n, db = Σ dy, the rest in the
// kernel.
template <class T>
Var<T> dropout_add_layer_norm(const Var<T>& x, const Var<T>& residual, const Var<T>& weight,
                              const Var<T>& bias, double eps, double probability, const Rng& rng,
                              const RowPlaces& places) {
  const Shape& shape = x.shape();
  if (shape.rank() == 0 || residual.shape() != shape || weight.shape() != Shape{shape[-1]} ||
      bias.shape() != Shape{shape[-1]}) {
    throw ShapeError(
        fmt::format("dropout_add_layer_norm: expected x and residual (..., n), weight and bias "
                    "(n,); got {}, {}, {}, {}",
                    shape.str(), residual.shape().str(), weight.shape().str(), bias.shape().str()));
  }
  detail::require_norm_eps("dropout_add_layer_norm", eps);
  const auto mask = mask_of("dropout_add_layer_norm", probability, rng, shape, places);
  const index_t rows = rows_of(shape);
  const index_t cols = shape[-1];
  Tensor<T> y(shape);
  Tensor<T> normalized(shape);
  Tensor<T> rstd({rows});
  kernels::dropout_add_layer_norm(rows, cols, mask, x.value().data(), residual.value().data(),
                                  weight.value().data(), bias.value().data(), eps, y.mutable_data(),
                                  normalized.mutable_data(), rstd.mutable_data());
  const Var<T> inputs[] = {x, residual, weight, bias};
  return make_op("dropout_add_layer_norm", std::move(y), inputs, 4,
                 [rows, cols, mask, places, normalized, rstd, weight = weight.value()](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   Tensor<T> dx;
                   Tensor<T> dresidual;
                   // Without dropout both sides get the same gradient, so one buffer does.
                   if (d.needs(0)) dx = Tensor<T>(dy.shape());
                   if (d.needs(1))
                     dresidual = mask.threshold == 0 && dx.defined() ? dx : Tensor<T>(dy.shape());
                   if (d.needs(0) || d.needs(1)) {
                     kernels::dropout_add_layer_norm_backward(
                         rows, cols, mask, normalized.data(), rstd.data(), weight.data(), dy.data(),
                         dx.defined() ? dx.mutable_data() : nullptr,
                         dresidual.defined() ? dresidual.mutable_data() : nullptr);
                   }
                   d.add(0, [&] { return dx; });
                   d.add(1, [&] { return dresidual; });
                   d.add(2, [&] { return sum_to(mul(dy, normalized), Shape{cols}); });
                   d.add(3, [&] { return dy; });
                 });
}

template <class T>
Var<T> attention(const Var<T>& q, const Var<T>& k, const Var<T>& v, const AttentionHeads& heads,
                 const Tensor<std::uint8_t>& mask, double probability, const Rng& rng) {
  const Shape& shape = k.shape();
  const Shape& asking = q.shape();
  const index_t count = heads.queries;
  const index_t shared = heads.keys > 0 ? heads.keys : count;
  const index_t width = shape.rank() == 3 && shared > 0 ? shape[2] / shared : 0;
  const bool few = asking.rank() == 3 && shape.rank() == 3 && asking[1] < shape[1];
  if (shape.rank() != 3 || v.shape() != shape || asking.rank() != 3 || asking[0] != shape[0] ||
      asking[1] > shape[1] || count < 1 || count % shared != 0 || shape[2] != width * shared ||
      asking[2] != width * count ||
      (mask.defined() && (mask.shape() != Shape{shape[0], shape[1]} || (heads.causal && few)))) {
    throw ShapeError(fmt::format(
        "attention: expected k, v (batch, length, {} * width), q (batch, length or fewer, {} * "
        "width) and a mask (batch, length){}; got q {}, k {}, v {}, mask {}",
        shared, count, heads.causal ? ", none for fewer causal queries" : "", asking.str(),
        shape.str(), v.shape().str(), mask.defined() ? mask.shape().str() : "none"));
  }
  const auto drop = mask_of("attention", probability, rng, shape);
  kernels::AttentionShape s{shape[0], shape[1], count, width, asking[1]};
  s.mask = mask.defined() ? mask.data() : nullptr;
  s.kv_heads = shared;
  s.causal = heads.causal;
  Tensor<T> y(asking);
  Tensor<T> probabilities({s.batch, s.heads, s.queries, s.length});
  kernels::attention(s, drop, q.value().data(), k.value().data(), v.value().data(),
                     y.mutable_data(), probabilities.mutable_data());
  return make_op("attention", std::move(y), {q, k, v},
                 [s, mask, drop, probabilities, q = q.value(), k = k.value(), v = v.value()](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   Tensor<T> dq;
                   Tensor<T> dk;
                   Tensor<T> dv;
                   const auto open = [&](std::size_t i, const Tensor<T>& of, Tensor<T>& t) -> T* {
                     if (!d.needs(i)) return nullptr;
                     t = Tensor<T>(of.shape());
                     return t.mutable_data();
                   };
                   T* to_q = open(0, q, dq);
                   T* to_k = open(1, k, dk);
                   T* to_v = open(2, v, dv);
                   kernels::attention_backward(s, drop, q.data(), k.data(), v.data(),
                                               probabilities.data(), dy.data(), to_q, to_k, to_v);
                   d.add(0, [&] { return dq; });
                   d.add(1, [&] { return dk; });
                   d.add(2, [&] { return dv; });
                 });
}

// A rotation by the angles: the gradient is turned back.
template <class T>
Var<T> rope(const Var<T>& x, const Tensor<T>& cos, const Tensor<T>& sin, index_t first) {
  const Shape& shape = x.shape();
  const index_t half = cos.rank() == 2 ? cos.dim(1) : 0;
  if (shape.rank() != 3 || half < 1 || sin.shape() != cos.shape() || shape[2] % (2 * half) != 0 ||
      first < 0 || first + shape[1] > cos.dim(0)) {
    throw ShapeError(
        fmt::format("rope: expected x (batch, length, heads * 2 * half) and cos, sin (positions, "
                    "half) of at least {} + length positions; got {}, {}, {}",
                    first, shape.str(), cos.shape().str(), sin.shape().str()));
  }
  const auto turn = [cos, sin, first, half](const Tensor<T>& from, bool back) {
    Tensor<T> out(from.shape());
    kernels::rotate_halves(from.dim(0), from.dim(1), from.dim(2) / (2 * half), half,
                           cos.data() + first * half, sin.data() + first * half, back, from.data(),
                           out.mutable_data());
    return out;
  };
  return make_op("rope", turn(x.value(), false), {x},
                 [turn](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return turn(dy, true); });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                                                \
  template Var<T> dropout(const Var<T>&, double, const Rng&, const RowPlaces&);                 \
  template Var<T> dropout_add_layer_norm(const Var<T>&, const Var<T>&, const Var<T>&,           \
                                         const Var<T>&, double, double, const Rng&,             \
                                         const RowPlaces&);                                     \
  template Var<T> attention(const Var<T>&, const Var<T>&, const Var<T>&, const AttentionHeads&, \
                            const Tensor<std::uint8_t>&, double, const Rng&);                   \
  template Var<T> rope(const Var<T>&, const Tensor<T>&, const Tensor<T>&, index_t);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
