#include "grad/op_table.hpp"

#include <cmath>
#include <numeric>

namespace parsimony::testing {

namespace {

Tensor<double> draw_one(Rng& rng, const Input& input, double scale) {
  const double spread = input.draw == Draw::normal ? scale : 1.0;
  Tensor<double> out = rng.normal<double>(input.shape, spread);
  if (input.draw == Draw::normal) return out;
  const std::vector<index_t> order = rng.permutation(out.size());
  double* x = out.mutable_data();
  for (index_t i = 0; i < out.size(); ++i) {
    const double magnitude = 0.5 + rng.uniform();
    switch (input.draw) {
      case Draw::nonzero:
        x[i] = scale * (x[i] < 0 ? -magnitude : magnitude);
        break;
      case Draw::positive:
        x[i] = scale * magnitude;
        break;
      default:
        x[i] = scale * 0.25 *
               (static_cast<double>(order[static_cast<std::size_t>(i)]) -
                static_cast<double>(out.size() / 2));
    }
  }
  return out;
}

Tensor<std::uint8_t> mask(const Shape& shape) {
  Tensor<std::uint8_t> out(shape);
  for (index_t i = 0; i < out.size(); ++i) out.mutable_data()[i] = i % 3 != 1;
  return out;
}

Tensor<std::int64_t> ids(const Shape& shape, std::vector<std::int64_t> values) {
  return Tensor<std::int64_t>(shape, values);
}

/// A fixed target: 0.3, -0.1, -0.5, 0.3, ...
template <class T>
Tensor<T> target(const Shape& shape) {
  Tensor<T> out(shape);
  for (index_t i = 0; i < out.size(); ++i) {
    out.mutable_data()[i] = static_cast<T>(0.3 - 0.4 * static_cast<double>(i % 3));
  }
  return out;
}

template <class X>
using Scalar = typename std::decay_t<decltype(std::declval<X>()[0].value())>::value_type;

std::vector<OpRow> rows;

template <class F>
void row(const std::string& name, std::vector<Input> inputs, F f) {
  rows.push_back({name, std::move(inputs), f, f});
}

/// A binary op over the shapes that broadcasting has to get right.
template <class F>
void broadcast_rows(const std::string& name, Draw left, Draw right, F f) {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{3, 4}, {3, 4}}, {{2, 3, 4}, {4}}, {{4}, {2, 3, 4}}, {{3, 1}, {2, 1, 4}}, {{2, 3}, {}},
      {{}, {2, 3}},     {{}, {}},         {{1}, {5}},       {{0, 3}, {1, 3}},    {{2, 0}, {}}};
  for (const auto& [a, b] : shapes) {
    row(name + " " + a.str() + " " + b.str(), {{a, left}, {b, right}}, f);
  }
}

/// A unary op over a matrix, rank 0 and an empty axis.
template <class F>
void unary_rows(const std::string& name, Draw draw, F f) {
  for (const Shape& shape : {Shape{3, 5}, Shape{}, Shape{2, 0}}) {
    row(name + " " + shape.str(), {{shape, draw}}, f);
  }
}

void elementwise() {
  broadcast_rows("add", Draw::normal, Draw::normal, [](auto& x) { return add(x[0], x[1]); });
  broadcast_rows("sub", Draw::normal, Draw::normal, [](auto& x) { return sub(x[0], x[1]); });
  broadcast_rows("mul", Draw::normal, Draw::normal, [](auto& x) { return mul(x[0], x[1]); });
  broadcast_rows("div", Draw::normal, Draw::nonzero, [](auto& x) { return div(x[0], x[1]); });
  broadcast_rows("where", Draw::normal, Draw::normal, [](auto& x) {
    return where(mask(broadcast_shape("row", x[0].shape(), x[1].shape())), x[0], x[1]);
  });
  row("where, the condition broadcast", {{{2, 3}}, {{3}}}, [](auto& x) {
    return where(mask({4, 1, 3}), x[0], x[1]);
  });
  row("operators", {{{2, 3}}, {{2, 3}, Draw::nonzero}},
      [](auto& x) { return -(x[0] + x[1]) * x[0] / x[1] - x[0]; });
  unary_rows("neg", Draw::normal, [](auto& x) { return neg(x[0]); });
  unary_rows("scale", Draw::normal, [](auto& x) { return scale(x[0], -2.5); });
  unary_rows("shift", Draw::normal, [](auto& x) { return shift(x[0], 1.5); });
  unary_rows("pow 3", Draw::normal, [](auto& x) { return pow(x[0], 3.0); });
  unary_rows("pow -1.5", Draw::positive, [](auto& x) { return pow(x[0], -1.5); });
  unary_rows("pow 0", Draw::normal, [](auto& x) { return pow(x[0], 0.0); });
  unary_rows("pow 1", Draw::normal, [](auto& x) { return pow(x[0], 1.0); });
  unary_rows("square", Draw::normal, [](auto& x) { return square(x[0]); });
  unary_rows("sqrt", Draw::positive, [](auto& x) { return sqrt(x[0]); });
  unary_rows("exp", Draw::normal, [](auto& x) { return exp(x[0]); });
  unary_rows("log", Draw::positive, [](auto& x) { return log(x[0]); });
  unary_rows("abs", Draw::nonzero, [](auto& x) { return abs(x[0]); });
  unary_rows("tanh", Draw::normal, [](auto& x) { return tanh(x[0]); });
  unary_rows("sigmoid", Draw::normal, [](auto& x) { return sigmoid(x[0]); });
  unary_rows("relu", Draw::nonzero, [](auto& x) { return relu(x[0]); });
  unary_rows("gelu", Draw::normal, [](auto& x) { return gelu(x[0]); });
  unary_rows("gelu_tanh", Draw::normal, [](auto& x) { return gelu_tanh(x[0]); });
  for (const Shape& shape : {Shape{3, 5}, Shape{}, Shape{2, 0}}) {
    // Around a point that is not 0, where the derivative by `up` vanishes.
    row("swiglu " + shape.str(), {{shape}, {shape}},
        [](auto& x) { return swiglu(shift(x[0], 0.7), shift(x[1], -0.4)); });
  }
  unary_rows("erf", Draw::normal, [](auto& x) { return erf(x[0]); });
}

void shapes() {
  row("reshape", {{{2, 6}}}, [](auto& x) { return reshape(x[0], {3, 4}); });
  row("reshape to rank 0", {{{1, 1}}}, [](auto& x) { return reshape(x[0], {}); });
  row("reshape, empty", {{{0, 3}}}, [](auto& x) { return reshape(x[0], {3, 0, 2}); });
  row("transpose", {{{3, 5}}}, [](auto& x) { return transpose(x[0]); });
  row("transpose of rank 3", {{{2, 3, 4}}}, [](auto& x) { return transpose(x[0]); });
  row("transpose 1 2 0", {{{2, 3, 4}}}, [](auto& x) { return transpose(x[0], {1, 2, 0}); });
  row("transpose -1 0 -2", {{{2, 3, 4}}}, [](auto& x) { return transpose(x[0], {-1, 0, -2}); });
  row("transpose of rank 0", {{{}}}, [](auto& x) { return transpose(x[0]); });
  row("transpose, empty", {{{2, 0, 4}}}, [](auto& x) { return transpose(x[0], {2, 0, 1}); });
  row("slice, first axis", {{{5, 3}}}, [](auto& x) { return slice(x[0], 0, 1, 4); });
  row("slice, middle axis", {{{2, 5, 3}}}, [](auto& x) { return slice(x[0], -2, 2, 5); });
  row("slice, last axis", {{{2, 5}}}, [](auto& x) { return slice(x[0], -1, 0, 2); });
  row("slice, nothing", {{{2, 5}}}, [](auto& x) { return slice(x[0], 1, 3, 3); });
  row("concat", {{{2, 1, 3}}, {{2, 4, 3}}, {{2, 2, 3}}}, [](auto& x) { return concat(x, 1); });
  row("concat, last axis", {{{2, 1}}, {{2, 3}}}, [](auto& x) { return concat(x, -1); });
  row("concat of five", {{{1}}, {{2}}, {{0}}, {{3}}, {{1}}}, [](auto& x) { return concat(x, 0); });
  row("concat of one twice", {{{2, 3}}}, [](auto& x) {
    return concat<Scalar<decltype(x)>>({x[0], x[0]}, 0);
  });
  row("broadcast_to", {{{3, 1}}}, [](auto& x) { return broadcast_to(x[0], {2, 3, 4}); });
  row("broadcast_to from rank 0", {{{}}}, [](auto& x) { return broadcast_to(x[0], {2, 3}); });
  row("broadcast_to, empty", {{{1, 3}}}, [](auto& x) { return broadcast_to(x[0], {0, 3}); });
}

void reductions() {
  unary_rows("sum", Draw::normal, [](auto& x) { return sum(x[0]); });
  row("sum 1", {{{2, 3, 4}}}, [](auto& x) { return sum(x[0], {1}); });
  row("sum -1 0", {{{2, 3, 4}}}, [](auto& x) { return sum(x[0], {-1, 0}); });
  row("sum 0 1 kept", {{{2, 3, 4}}}, [](auto& x) { return sum(x[0], {0, 1}, true); });
  row("sum over no axis", {{{2, 3}}}, [](auto& x) { return sum(x[0], std::vector<int>{}); });
  row("sum over all axes", {{{2, 3}}}, [](auto& x) { return sum(x[0], {0, 1}); });
  row("sum over an empty axis", {{{0, 3}}}, [](auto& x) { return sum(x[0], {0}); });
  row("mean", {{{3, 4}}}, [](auto& x) { return mean(x[0]); });
  row("mean of rank 0", {{{}}}, [](auto& x) { return mean(x[0]); });
  row("mean -2", {{{2, 3, 4}}}, [](auto& x) { return mean(x[0], {-2}); });
  row("mean 0 2 kept", {{{2, 3, 4}}}, [](auto& x) { return mean(x[0], {0, 2}, true); });
  row("mean beside an empty axis", {{{0, 3}}}, [](auto& x) { return mean(x[0], {1}); });
  row("max -1", {{{3, 5}, Draw::distinct}}, [](auto& x) { return max(x[0], -1); });
  row("max 1 kept", {{{2, 5, 3}, Draw::distinct}}, [](auto& x) { return max(x[0], 1, true); });
  row("max 0", {{{4}, Draw::distinct}}, [](auto& x) { return max(x[0], 0); });
  row("max beside an empty axis", {{{0, 3}}}, [](auto& x) { return max(x[0], 1); });
  row("logsumexp", {{{2, 3, 4}}}, [](auto& x) { return logsumexp(x[0]); });
  row("logsumexp of a vector", {{{300}}}, [](auto& x) { return logsumexp(x[0]); });
  row("logsumexp of no rows", {{{0, 3}}}, [](auto& x) { return logsumexp(x[0]); });
}

void products() {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const std::string flags = std::string(ta ? " Aᵀ" : " A") + (tb ? "Bᵀ" : "B");
      const auto product = [ta, tb](auto& x) { return matmul(x[0], x[1], ta, tb); };
      const auto side = [](bool t, index_t m, index_t n) { return t ? Shape{n, m} : Shape{m, n}; };
      const auto batch = [](index_t lead, const Shape& s) { return Shape{lead, s[0], s[1]}; };
      const Shape a = side(ta, 3, 4);
      const Shape b = side(tb, 4, 5);
      row("matmul" + flags, {{a}, {b}}, product);
      row("matmul batched" + flags, {{batch(2, a)}, {batch(2, b)}}, product);
      row("matmul batch by matrix" + flags, {{batch(2, a)}, {b}}, product);
      row("matmul matrix by batch" + flags, {{a}, {batch(2, b)}}, product);
      row("matmul with inner size 0" + flags, {{side(ta, 3, 0)}, {side(tb, 0, 5)}}, product);
      row("matmul batched, inner size 0" + flags, {{batch(2, side(ta, 3, 0))}, {side(tb, 0, 5)}},
          product);
      row("matmul with no columns" + flags, {{batch(2, a)}, {side(tb, 4, 0)}}, product);
      row("matmul of an empty batch" + flags, {{batch(0, a)}, {b}}, product);
    }
  }
  row("matmul with two leading axes", {{{2, 3, 2, 4}}, {{2, 3, 4, 2}}},
      [](auto& x) { return matmul(x[0], x[1]); });
  row("matmul of a matrix with itself", {{{3, 3}}}, [](auto& x) { return matmul(x[0], x[0]); });
  row("matmul A Aᵀ", {{{3, 4}}}, [](auto& x) { return matmul(x[0], x[0], false, true); });
  const IndexSet omega(4, 3, {{0, 2}, {3, 0}, {0, 0}, {2, 1}, {2, 2}});
  row("sampled_matmul", {{{4, 2}}, {{3, 2}}},
      [omega](auto& x) { return sampled_matmul(omega, x[0], x[1]); });
  for (const index_t k : {2, 3, 10, 20, 26, 41}) {  // widths with and without kernels of their own
    row("sampled_half_squared_error " + std::to_string(k), {{{4, k}}, {{3, k}}}, [omega](auto& x) {
      return sampled_half_squared_error(omega, x[0], x[1], target<Scalar<decltype(x)>>({5}));
    });
  }
  const IndexSet nothing(4, 3, {});
  row("sampled_matmul on no entries", {{{4, 2}}, {{3, 2}}},
      [nothing](auto& x) { return sampled_matmul(nothing, x[0], x[1]); });
}

void rows_and_gather() {
  for (const Shape& shape : {Shape{2, 3, 5}, Shape{7}, Shape{0, 4}, Shape{3, 0}, Shape{2, 1}}) {
    row("softmax " + shape.str(), {{shape}}, [](auto& x) { return softmax(x[0]); });
    row("log_softmax " + shape.str(), {{shape}}, [](auto& x) { return log_softmax(x[0]); });
  }
  for (const Shape& shape : {Shape{2, 3, 6}, Shape{20}, Shape{0, 4}, Shape{3, 0}}) {
    const Shape last{shape[-1]};
    row("layer_norm " + shape.str(), {{shape}, {last}, {last}},
        [](auto& x) { return layer_norm(x[0], x[1], x[2], 1e-5); });
    row("rms_norm " + shape.str(), {{shape}, {last}},
        [](auto& x) { return rms_norm(x[0], x[1], 1e-6); });
  }
  const auto repeated = ids({2, 3}, {4, 0, 4, 5, 4, 0});
  row("gather_rows", {{{6, 3}}}, [=](auto& x) { return gather_rows(x[0], repeated); });
  row("gather_rows of a vector", {{{6}}}, [=](auto& x) { return gather_rows(x[0], repeated); });
  row("gather_rows, one id", {{{6, 2, 2}}},
      [](auto& x) { return gather_rows(x[0], Tensor<std::int64_t>::scalar(2)); });
  row("gather_rows, no ids", {{{6, 2}}}, [](auto& x) { return gather_rows(x[0], ids({0}, {})); });
  row("scatter_add_rows", {{{2, 3, 2}}},
      [=](auto& x) { return scatter_add_rows(x[0], repeated, 6); });
  row("scatter_add_rows of numbers", {{{2, 3}}},
      [=](auto& x) { return scatter_add_rows(x[0], repeated, 7); });
}

/// Padding at the end of one sequence, a hole in another.
Tensor<std::uint8_t> key_mask() {
  return Tensor<std::uint8_t>({3, 4}, {1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0});
}

void transformer_layers() {
  const Rng rng(5);
  row("linear", {{{2, 3, 4}}, {{5, 4}}, {{5}}}, [](auto& x) { return linear(x[0], x[1], x[2]); });
  row("linear of one row, no bias", {{{4}}, {{5, 4}}}, [](auto& x) { return linear(x[0], x[1]); });
  row("linear, no rows", {{{0, 4}}, {{5, 4}}, {{5}}},
      [](auto& x) { return linear(x[0], x[1], x[2]); });
  // Few rows go through the factors, many see W + left right.
  for (const index_t count : {2, 40}) {
    row("low_rank_linear " + std::to_string(count),
        {{{count, 4}}, {{5, 4}}, {{5}}, {{5, 2}}, {{2, 4}}},
        [](auto& x) { return low_rank_linear(x[0], x[1], x[2], x[3], x[4]); });
    row("low_rank_linear, no bias " + std::to_string(count),
        {{{count, 4}}, {{5, 4}}, {{5, 1}}, {{1, 4}}}, [](auto& x) {
          return low_rank_linear(x[0], x[1], Var<Scalar<decltype(x)>>(), x[2], x[3]);
        });
  }
  // More columns than a vector has lanes, more than one group of eight ranks; a rank beyond the
  // kernels' on a weight large enough to be updated.
  row("low_rank_linear, wide", {{{30, 20}}, {{19, 20}}, {{19}}, {{19, 9}}, {{9, 20}}},
      [](auto& x) { return low_rank_linear(x[0], x[1], x[2], x[3], x[4]); });
  row("low_rank_linear, rank 33", {{{60, 4}}, {{5, 4}}, {{5}}, {{5, 33}}, {{33, 4}}},
      [](auto& x) { return low_rank_linear(x[0], x[1], x[2], x[3], x[4]); });
  // Around values that are not 0: derivatives of products vanish near it, and the gain's comes from
  // the output less the bias.
  for (const index_t rank : {2, 33}) {
    row("scaled_low_rank_linear, rank " + std::to_string(rank),
        {{{6, 4}}, {{5, 4}}, {{5}}, {{5, rank}}, {{rank, 4}}, {{5}}}, [](auto& x) {
          using T = Scalar<decltype(x)>;
          const Var<T> weight(Rng(6).normal<T>({5, 4}));
          const Var<T> gain(Tensor<T>({5}, {1, -2, 1.5, 1, 0.5}));
          return scaled_low_rank_linear(x[0], x[1] + weight, x[2], x[3] + 1.0, x[4] - 1.0,
                                        x[5] + gain);
        });
  }
  row("scaled_low_rank_linear, no bias, gains of 0", {{{2, 3, 4}}, {{5, 4}}, {{5, 1}}, {{1, 4}}},
      [](auto& x) {
        using T = Scalar<decltype(x)>;
        const Var<T> gain(Tensor<T>({5}, {1, -2, 0, 1, 0}));
        return scaled_low_rank_linear(x[0], x[1], Var<T>(), x[2], x[3], gain);
      });
  for (const double p : {0.0, 0.3}) {
    const std::string name = p == 0 ? "" : ", dropout";
    // Around a point that is not 0: scores are products, so near 0 their derivatives vanish.
    row("attention" + name, {{{3, 4, 6}}, {{3, 4, 6}}, {{3, 4, 6}}}, [=](auto& x) {
      const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({3, 4, 6}));
      return attention(x[0] + around, x[1] - around, x[2], 2, key_mask(), p, rng);
    });
    row("attention, leading queries" + name, {{{3, 2, 6}}, {{3, 4, 6}}, {{3, 4, 6}}}, [=](auto& x) {
      const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({3, 4, 6}));
      return attention(x[0] + slice(around, 1, 0, 2), x[1] - around, x[2], 2, key_mask(), p, rng);
    });
    row("attention, causal" + name, {{{3, 4, 6}}, {{3, 4, 6}}, {{3, 4, 6}}}, [=](auto& x) {
      const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({3, 4, 6}));
      return attention(x[0] + around, x[1] - around, x[2], {2, 2, true}, key_mask(), p, rng);
    });
    row("attention, shared keys" + name, {{{3, 4, 12}}, {{3, 4, 6}}, {{3, 4, 6}}}, [=](auto& x) {
      const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({3, 4, 12}));
      return attention(x[0] + around, x[1] - slice(around, 2, 0, 6), x[2], {4, 2, false},
                       key_mask(), p, rng);
    });
    row("attention, one query of heads that share keys" + name,
        {{{3, 1, 12}}, {{3, 4, 6}}, {{3, 4, 6}}}, [=](auto& x) {
          const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({3, 4, 12}));
          return attention(x[0] + slice(around, 1, 0, 1), x[1] - slice(around, 2, 0, 6), x[2],
                           {4, 2, false}, key_mask(), p, rng);
        });
    // More rows than are computed together, fewer queries than tokens.
    row("attention, causal, last queries" + name, {{{1, 70, 4}}, {{1, 73, 2}}, {{1, 73, 2}}},
        [=](auto& x) {
          const Var<Scalar<decltype(x)>> around(Rng(6).normal<Scalar<decltype(x)>>({1, 73, 4}));
          return attention(x[0] + slice(around, 1, 0, 70), x[1] - slice(around, 2, 0, 2), x[2],
                           {2, 1, true}, Tensor<std::uint8_t>(), p, rng);
        });
    row("attention without a mask" + name, {{{1, 5, 3}}},
        [=](auto& x) { return attention(x[0], x[0], x[0], 1, Tensor<std::uint8_t>(), p, rng); });
    row("dropout_add_layer_norm" + name, {{{2, 3, 6}}, {{2, 3, 6}}, {{6}}, {{6}}},
        [=](auto& x) { return dropout_add_layer_norm(x[0], x[1], x[2], x[3], 1e-5, p, rng); });
    row("dropout " + std::to_string(p), {{{2, 3, 200}}},
        [=](auto& x) { return dropout(x[0], p, rng); });
    const RowPlaces some{Tensor<std::int64_t>({3}, {0, 3, 5}), 3};
    row("dropout_add_layer_norm of some rows" + name, {{{3, 6}}, {{3, 6}}, {{6}}, {{6}}},
        [=](auto& x) {
          return dropout_add_layer_norm(x[0], x[1], x[2], x[3], 1e-5, p, rng, some);
        });
    row("dropout of some rows " + std::to_string(p), {{{3, 200}}},
        [=](auto& x) { return dropout(x[0], p, rng, some); });
  }
  for (const index_t first : {0, 3}) {
    row("rope from " + std::to_string(first), {{{2, 3, 8}}}, [=](auto& x) {
      using T = Scalar<decltype(x)>;
      const Tensor<double> angle = Rng(7).normal<double>({6, 2});
      Tensor<T> cos({6, 2});
      Tensor<T> sin({6, 2});
      for (index_t i = 0; i < 12; ++i) {
        cos.mutable_data()[i] = static_cast<T>(std::cos(angle.data()[i]));
        sin.mutable_data()[i] = static_cast<T>(std::sin(angle.data()[i]));
      }
      return rope(x[0], cos, sin, first);
    });
  }
  row("attention, no tokens", {{{2, 0, 4}}},
      [=](auto& x) { return attention(x[0], x[0], x[0], 2, Tensor<std::uint8_t>(), 0.1, rng); });
}

void random_matrices() {
  // Rows and columns that fill tiles and that do not; ids that repeat.
  row("random_combination", {{{5}}},
      [](auto& x) { return random_combination(x[0], Tensor<std::int64_t>(), 19, 11, Rng(2)); });
  row("random_combination at ids", {{{3}}}, [](auto& x) {
    return random_combination(x[0], ids({2, 3}, {7, 0, 7, 18, 1, 2}), 19, 8, Rng(2));
  });
}

void losses() {
  row("half_squared_error", {{{3, 4}}}, [](auto& x) {
    return half_squared_error(x[0], target<Scalar<decltype(x)>>({3, 4}));
  });
  row("masked_half_squared_error", {{{3, 4}}}, [](auto& x) {
    return masked_half_squared_error(x[0], target<Scalar<decltype(x)>>({3, 4}), mask({3, 4}));
  });
  row("mean_squared_error", {{{3, 4}}}, [](auto& x) {
    return mean_squared_error(x[0], target<Scalar<decltype(x)>>({3, 4}));
  });
  row("cross_entropy", {{{6, 5}}}, [](auto& x) {
    return cross_entropy(x[0], ids({6}, {1, 0, 4, 4, 2, 1}));
  });
  row("cross_entropy with ignored rows", {{{2, 3, 5}}}, [](auto& x) {
    return cross_entropy(x[0], ids({2, 3}, {1, -100, 4, -100, 2, 1}));
  });
  row("cross_entropy of one row", {{{5}}},
      [](auto& x) { return cross_entropy(x[0], Tensor<std::int64_t>::scalar(3)); });
  // The upstream gradient of a loss is not always 1.
  row("a weighted sum of losses", {{{2, 3}}}, [](auto& x) {
    const auto t = target<Scalar<decltype(x)>>({2, 3});
    return add(scale(half_squared_error(x[0], t), 3.0), scale(mean_squared_error(x[0], t), -0.5));
  });
}

void fan_out() {
  row("a value used twice", {{{3, 3}}}, [](auto& x) { return mul(tanh(x[0]), exp(x[0])); });
  row("the same argument twice", {{{3}}}, [](auto& x) { return mul(x[0], x[0]); });
  row("add of a value with itself", {{{3}}}, [](auto& x) {
    const auto y = exp(x[0]);
    return add(y, y);
  });
  row("a diamond with a broadcast arm", {{{3}}, {{2, 3}}}, [](auto& x) {
    const auto y = tanh(x[0]);
    return sub(mul(y, x[1]), add(y, softmax(mul(x[1], y))));
  });
}

}  // namespace

std::vector<Tensor<double>> OpRow::draw(Rng rng, double scale) const {
  std::vector<Tensor<double>> out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Rng own = rng.split(i);
    out.push_back(draw_one(own, inputs[i], scale));
  }
  return out;
}

const std::vector<OpRow>& op_table() {
  if (rows.empty()) {
    elementwise();
    shapes();
    reductions();
    products();
    rows_and_gather();
    transformer_layers();
    random_matrices();
    losses();
    fan_out();
  }
  return rows;
}

}  // namespace parsimony::testing
