// Attention of one token a sequence without the keys and values of the others.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/layers.hpp>

#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// The rows of a weight (heads · width, n) or entries of a bias by head: (heads, width, n or 1).
template <class T>
Var<T> by_head(const Var<T>& x, index_t heads) {
  return reshape(x, {heads, x.dim(0) / heads, x.rank() > 1 ? x.dim(1) : 1});
}

/// Σ of what is defined.
template <class T>
Var<T> sum_of(const Var<T>& a, const Var<T>& b) {
  if (!a.defined() || !b.defined()) return a.defined() ? a : b;
  return add(a, b);
}

/// q (heads, batch, width) times each head's rows of [weight | bias]: (heads, batch, in + 1).
template <class T>
Var<T> through_rows(const Var<T>& q, const LayerWeight<T>& w) {
  const index_t heads = q.dim(0);
  const Var<T> dense = sum_of(w.base, w.update.dense);
  Var<T> out;
  if (dense.defined()) out = matmul(q, by_head(dense, heads));
  if (w.update.left.defined()) {
    out = sum_of(out, matmul(matmul(q, by_head(w.update.left, heads)), w.update.right));
  }
  const Var<T> last = w.bias.defined() ? matmul(q, by_head(w.bias, heads))
                                       : Var<T>(Tensor<T>::zeros({heads, q.dim(1), 1}));
  return concat<T>({out, last}, 2);
}

/// c (heads, batch, in + 1) times each head's [weight | bias]ᵀ: (heads, batch, width).
template <class T>
Var<T> through_columns(const Var<T>& c, const LayerWeight<T>& w) {
  const index_t heads = c.dim(0);
  const index_t in = c.dim(2) - 1;
  const Var<T> rows = slice(c, 2, 0, in);
  const Var<T> dense = sum_of(w.base, w.update.dense);
  Var<T> out;
  if (dense.defined()) out = matmul(rows, by_head(dense, heads), false, true);
  if (w.update.left.defined()) {
    out = sum_of(out, matmul(matmul(rows, w.update.right, false, true),
                             by_head(w.update.left, heads), false, true));
  }
  if (!w.bias.defined()) return out;
  return add(out, matmul(slice(c, 2, in, in + 1), by_head(w.bias, heads), false, true));
}

}  // namespace

// With x' = (x, 1) and W' = (W, b), the score of token j in head h is q_h W'_h x'_j and the head's
// output W'_h Σ_j p_j x'_j: an attention whose keys and values are the x' themselves, which all
// heads share, between two products of one row a sequence and head.
template <class T>
std::optional<Var<T>> class_attention(const Var<T>& query, const Var<T>& x, const Linear<T>& key,
                                      const Linear<T>& value, index_t heads,
                                      const Tensor<std::uint8_t>& mask, double probability,
                                      Pass& pass) {
  const Shape& shape = x.shape();
  if (shape.rank() != 3 || heads < 1 || key.out() % heads != 0 || key.in() != shape[2] ||
      value.in() != shape[2] || value.out() != key.out() ||
      query.shape() != Shape{shape[0], 1, key.out()}) {
    throw ShapeError(fmt::format(
        "class_attention: expected x (batch, length, in), layers from in to {} heads of one width "
        "and a query (batch, 1, heads * width); got x {}, key ({}, {}), value ({}, {}), query {}",
        heads, shape.str(), key.out(), key.in(), value.out(), value.in(), query.shape().str()));
  }
  const auto key_weight = key.as_weight(pass);
  const auto value_weight = key_weight ? value.as_weight(pass) : std::nullopt;
  if (!value_weight) return std::nullopt;
  const index_t batch = shape[0];
  const index_t width = key.out() / heads;
  const index_t wide = shape[2] + 1;
  const Var<T> q = transpose(reshape(query, {batch, heads, width}), {1, 0, 2});
  // attention() divides by the root of the width that it sees.
  const double factor = std::sqrt(static_cast<double>(wide) / static_cast<double>(width));
  const Var<T> asking = transpose(scale(through_rows(q, *key_weight), factor), {1, 0, 2});
  const Var<T> seen = concat<T>({x, Var<T>(Tensor<T>::full({batch, shape[1], 1}, T(1)))}, 2);
  const Var<T> mixed = attention(reshape(asking, {batch, 1, heads * wide}), seen, seen,
                                 AttentionHeads(heads, 1, false), mask, probability, pass.next());
  const Var<T> c = transpose(reshape(mixed, {batch, heads, wide}), {1, 0, 2});
  const Var<T> out = through_columns(c, *value_weight);
  return reshape(transpose(out, {1, 0, 2}), {batch, 1, heads * width});
}

#define PARSIMONY_INSTANTIATE(T)                                                                 \
  template std::optional<Var<T>> class_attention(const Var<T>&, const Var<T>&, const Linear<T>&, \
                                                 const Linear<T>&, index_t,                      \
                                                 const Tensor<std::uint8_t>&, double, Pass&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
