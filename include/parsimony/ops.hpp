// Differentiable ops on Var<T>. Shapes follow NumPy; errors are ShapeError naming the op.
// Each op's value and pullback stand side by side in autograd/ops_*.cpp, and each has a row in the
// gradient table (tests/grad).
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>
#include <parsimony/variable.hpp>

#include <vector>

namespace parsimony {

// --- Elementwise, with NumPy broadcasting ------------------------------------------------------
template <class T>
Var<T> add(const Var<T>& a, const Var<T>& b);
template <class T>
Var<T> sub(const Var<T>& a, const Var<T>& b);
template <class T>
Var<T> mul(const Var<T>& a, const Var<T>& b);
template <class T>
Var<T> div(const Var<T>& a, const Var<T>& b);
/// Entries of a where condition is nonzero, else of b. All of one broadcast shape.
template <class T>
Var<T> where(const Tensor<std::uint8_t>& condition, const Var<T>& a, const Var<T>& b);
template <class T>
Var<T> neg(const Var<T>& x);
/// factor * x
template <class T>
Var<T> scale(const Var<T>& x, double factor);
/// x + constant
template <class T>
Var<T> shift(const Var<T>& x, double constant);
template <class T>
Var<T> pow(const Var<T>& x, double exponent);
template <class T>
Var<T> square(const Var<T>& x);
template <class T>
Var<T> sqrt(const Var<T>& x);
template <class T>
Var<T> exp(const Var<T>& x);
template <class T>
Var<T> log(const Var<T>& x);
/// |x|; the gradient at 0 is 0.
template <class T>
Var<T> abs(const Var<T>& x);
template <class T>
Var<T> tanh(const Var<T>& x);
template <class T>
Var<T> sigmoid(const Var<T>& x);
/// max(x, 0); the gradient at 0 is 0.
template <class T>
Var<T> relu(const Var<T>& x);
/// x Φ(x), with the error function.
template <class T>
Var<T> gelu(const Var<T>& x);
/// x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): "gelu_new".
template <class T>
Var<T> gelu_tanh(const Var<T>& x);
/// gate sigmoid(gate) up, of equal shapes (Shazeer 2020).
template <class T>
Var<T> swiglu(const Var<T>& gate, const Var<T>& up);
template <class T>
Var<T> erf(const Var<T>& x);

// --- Shapes ------------------------------------------------------------------------------------
template <class T>
Var<T> reshape(const Var<T>& x, const Shape& shape);
/// Axes in a new order; empty reverses them.
template <class T>
Var<T> transpose(const Var<T>& x, const std::vector<int>& order = {});
/// Elements [first, last) of an axis.
template <class T>
Var<T> slice(const Var<T>& x, int axis, index_t first, index_t last);
template <class T>
Var<T> concat(const std::vector<Var<T>>& parts, int axis);
template <class T>
Var<T> broadcast_to(const Var<T>& x, const Shape& shape);

// --- Reductions --------------------------------------------------------------------------------
/// Sum over all entries, rank 0.
template <class T>
Var<T> sum(const Var<T>& x);
template <class T>
Var<T> sum(const Var<T>& x, const std::vector<int>& axes, bool keep_dims = false);
template <class T>
Var<T> mean(const Var<T>& x);
template <class T>
Var<T> mean(const Var<T>& x, const std::vector<int>& axes, bool keep_dims = false);
/// Largest entry along an axis; the gradient goes to the first of equal ones.
template <class T>
Var<T> max(const Var<T>& x, int axis, bool keep_dims = false);
/// log Σ exp(x) along the last axis, computed stably; the axis is dropped.
template <class T>
Var<T> logsumexp(const Var<T>& x);

// --- Products ----------------------------------------------------------------------------------
/// op(a)·op(b) over the last two axes, no copy for the transposes; leading axes must be equal or
/// belong to one side only.
template <class T>
Var<T> matmul(const Var<T>& a, const Var<T>& b, bool trans_a = false, bool trans_b = false);
/// x Wᵀ + b for x (..., in), weight (out, in), bias (out) or undefined.
template <class T>
Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias = Var<T>());
/// x (W + left right)ᵀ + b with left (out, r), right (r, in): a layer and its low-rank update.
/// Where there are many rows, W + left right is formed (and again in backward, not kept); where
/// there are few, the rows go through the factors. No dense gradient is formed unless W trains.
template <class T>
Var<T> low_rank_linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                       const Var<T>& left, const Var<T>& right);
/// x (diag(gain) (W + left right))ᵀ + b with gain (out): low_rank_linear with its outputs scaled
/// before the bias. W + left right is always formed.
template <class T>
Var<T> scaled_low_rank_linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                              const Var<T>& left, const Var<T>& right, const Var<T>& gain);
/// Entries on Ω of a bᵀ, a (rows, k), b (cols, k); O(|Ω| k), no dense matrix.
template <class T>
Var<T> sampled_matmul(const IndexSet& omega, const Var<T>& a, const Var<T>& b);

// --- Rows (the last axis) ----------------------------------------------------------------------
template <class T>
Var<T> softmax(const Var<T>& x);
template <class T>
Var<T> log_softmax(const Var<T>& x);
/// (x - mean) / sqrt(var + eps) * weight + bias; weight and bias (last axis). @throws ValueError
/// unless eps >= 0, as the other norms do.
template <class T>
Var<T> layer_norm(const Var<T>& x, const Var<T>& weight, const Var<T>& bias, double eps);
/// x / sqrt(mean(x²) + eps) * weight
template <class T>
Var<T> rms_norm(const Var<T>& x, const Var<T>& weight, double eps);

// --- Transformer layers ------------------------------------------------------------------------
// Dropout draws from `rng` (which stays as it is: give each call a stream of its own) with the
// probability rounded to a multiple of 2^-16. What is dropped at position s of sequence b depends
// on b, s and the stream, not on the length that sequences are padded to.

/// Where the rows of an x (rows, n) lie in (batch, length, n), of which it has these alone: what
/// dropout goes by. Not defined: x has all its axes.
struct RowPlaces {
  Tensor<std::int64_t> rows;  // of batch · length
  index_t length = 1;
};
/// x with entries set to 0 with the given probability, the others divided by the probability to
/// stay. @throws ValueError unless it is in [0, 1); ShapeError where the places are not of x's
/// rows.
template <class T>
Var<T> dropout(const Var<T>& x, double probability, const Rng& rng, const RowPlaces& places = {});
/// layer_norm(dropout(x) + residual, weight, bias, eps) in one pass over memory.
template <class T>
Var<T> dropout_add_layer_norm(const Var<T>& x, const Var<T>& residual, const Var<T>& weight,
                              const Var<T>& bias, double eps, double probability, const Rng& rng,
                              const RowPlaces& places = {});
/// Heads of an attention; a number alone means as many of queries as of keys, seeing every key.
struct AttentionHeads {
  AttentionHeads(index_t heads) : queries(heads), keys(heads) {}  // NOLINT: a number is meant
  AttentionHeads(index_t query_heads, index_t key_heads, bool is_causal)
      : queries(query_heads), keys(key_heads), causal(is_causal) {}
  index_t queries;
  /// Heads of keys and values, each serving queries / keys consecutive heads of queries.
  index_t keys;
  /// A token sees itself and those before it.
  bool causal = false;
};
/// dropout(softmax(q kᵀ / √width)) v for each head; k, v (batch, length, heads.keys * width), q
/// (batch, length, heads.queries * width) or only some rows of each sequence: the leading ones or,
/// where `causal`, the last ones. mask (batch, length) with 0 where a key is padding, or undefined.
/// Rows past the last unmasked key of their sequence, and rows that see no key, come out as 0. Some
/// rows come out as they would among all of them.
template <class T>
Var<T> attention(const Var<T>& q, const Var<T>& k, const Var<T>& v, const AttentionHeads& heads,
                 const Tensor<std::uint8_t>& mask, double probability, const Rng& rng);
/// x (batch, length, heads * 2 * half) with each pair (t, t + half) of a head at position first + i
/// turned by the angle whose cosine and sine are row first + i, column t of the tables (positions,
/// half): rotary positions in Hugging Face's layout.
template <class T>
Var<T> rope(const Var<T>& x, const Tensor<T>& cos, const Tensor<T>& sin, index_t first = 0);

// --- Gather ------------------------------------------------------------------------------------
/// Rows of table (n, ...) at the ids, shape ids.shape() + (...); repeated ids add up in backward.
template <class T>
Var<T> gather_rows(const Var<T>& table, const Tensor<std::int64_t>& ids);
/// Zeros of n rows with rows of x added at the ids; the transpose of gather_rows.
template <class T>
Var<T> scatter_add_rows(const Var<T>& x, const Tensor<std::int64_t>& ids, index_t n);

// --- Random matrices ---------------------------------------------------------------------------
/// Σ_i c_i R_i for coefficients (k) and random matrices R_i (rows, cols), entries uniform on (-1,
/// 1), that are functions of rng.split(i) and the place alone; or the rows of it at the ids, shape
/// ids.shape() + (cols), where ids are defined. The R_i are made as they are added, forward and
/// backward, and never kept. @throws ValueError on an id outside [0, rows).
template <class T>
Var<T> random_combination(const Var<T>& coefficients, const Tensor<std::int64_t>& ids, index_t rows,
                          index_t cols, const Rng& rng);

// --- Losses (rank 0) ---------------------------------------------------------------------------
/// 0.5 ||x - target||_F². The loss of the paper's theory (its code divides by the entries).
template <class T>
Var<T> half_squared_error(const Var<T>& x, const Tensor<T>& target);
/// 0.5 ||mask .* (x - target)||_F² with a 0/1 mask of x's shape.
template <class T>
Var<T> masked_half_squared_error(const Var<T>& x, const Tensor<T>& target,
                                 const Tensor<std::uint8_t>& mask);
/// 0.5 Σ_Ω (<a_row, b_col> - target)², target (|Ω|): half_squared_error of sampled_matmul, in one
/// pass over Ω that leaves the gradient of a behind. The loss of matrix completion.
template <class T>
Var<T> sampled_half_squared_error(const IndexSet& omega, const Var<T>& a, const Var<T>& b,
                                  const Tensor<T>& target);
/// mean((x - target)²)
template <class T>
Var<T> mean_squared_error(const Var<T>& x, const Tensor<T>& target);
/// Mean over rows of -log softmax(logits)[label]; rows whose label is `ignore` do not count.
template <class T>
Var<T> cross_entropy(const Var<T>& logits, const Tensor<std::int64_t>& labels,
                     index_t ignore = -100);

// --- Operators ---------------------------------------------------------------------------------
template <class T>
Var<T> operator+(const Var<T>& a, const Var<T>& b) {
  return add(a, b);
}
template <class T>
Var<T> operator-(const Var<T>& a, const Var<T>& b) {
  return sub(a, b);
}
template <class T>
Var<T> operator*(const Var<T>& a, const Var<T>& b) {
  return mul(a, b);
}
template <class T>
Var<T> operator/(const Var<T>& a, const Var<T>& b) {
  return div(a, b);
}
template <class T>
Var<T> operator-(const Var<T>& x) {
  return neg(x);
}

template <class T>
Var<T> operator*(const Var<T>& x, double factor) {
  return scale(x, factor);
}
template <class T>
Var<T> operator*(double factor, const Var<T>& x) {
  return scale(x, factor);
}
template <class T>
Var<T> operator/(const Var<T>& x, double divisor) {
  return scale(x, 1.0 / divisor);
}
template <class T>
Var<T> operator+(const Var<T>& x, double constant) {
  return shift(x, constant);
}
template <class T>
Var<T> operator+(double constant, const Var<T>& x) {
  return shift(x, constant);
}
template <class T>
Var<T> operator-(const Var<T>& x, double constant) {
  return shift(x, -constant);
}
template <class T>
Var<T> operator-(double constant, const Var<T>& x) {
  return shift(neg(x), constant);
}

}  // namespace parsimony
