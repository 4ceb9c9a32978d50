// Affine maps of rows, plain and with a low-rank update of a (usually frozen) weight.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "kernels/gemm.hpp"
#include "kernels/low_rank.hpp"
#include "kernels/parallel.hpp"

namespace parsimony {

namespace {

struct Sizes {
  index_t rows, in, out;
};

template <class T>
Sizes sizes_of(const char* op, const Var<T>& x, const Var<T>& weight, const Var<T>& bias) {
  const Shape& xs = x.shape();
  const Shape& ws = weight.shape();
  if (xs.rank() < 1 || ws.rank() != 2 || xs[-1] != ws[1] ||
      (bias.defined() && bias.shape() != Shape{ws[0]})) {
    throw ShapeError(
        fmt::format("{}: expected x (..., in), weight (out, in), bias (out,); got {}, {}, {}", op,
                    xs.str(), ws.str(), bias.defined() ? bias.shape().str() : "no bias"));
  }
  index_t rows = 1;
  for (int i = 0; i + 1 < xs.rank(); ++i) rows *= xs[i];
  return {rows, ws[1], ws[0]};
}

Shape with_last(Shape shape, index_t last) {
  shape.set(-1, last);
  return shape;
}

/// y = x Wᵀ + b
template <class T>
Tensor<T> affine(const Sizes& n, const Tensor<T>& x, const T* weight, const Tensor<T>& bias) {
  Tensor<T> y(with_last(x.shape(), n.out));
  kernels::affine(n.rows, n.out, n.in, x.data(), weight, bias.defined() ? bias.data() : nullptr,
                  y.mutable_data());
  return y;
}

/// a bᵀ, a b or aᵀ b of row blocks.
template <class T>
Tensor<T> product(bool trans_a, bool trans_b, index_t m, index_t n, index_t k, const T* a,
                  const T* b, const Shape& shape) {
  Tensor<T> out(shape);
  kernels::gemm(trans_a, trans_b, m, n, k, T(1), a, trans_a ? m : k, b, trans_b ? k : n, T(0),
                out.mutable_data(), n);
  return out;
}

/// W + left right
template <class T>
Tensor<T> updated(const Sizes& n, const Tensor<T>& weight, const Tensor<T>& left,
                  const Tensor<T>& right) {
  Tensor<T> out({n.out, n.in});
  const index_t r = left.dim(1);
  T* w = out.mutable_data();
  if (r <= kernels::low_rank_most) {
    kernels::low_rank_updated(n.out, n.in, r, weight.data(), left.data(), right.data(), w);
    return out;
  }
  const T* from = weight.data();
  kernels::parallel_for(n.out, n.in, [=](std::int64_t first, std::int64_t last) {
    std::copy(from + first * n.in, from + last * n.in, w + first * n.in);
  });
  kernels::gemm(false, false, n.out, n.in, r, T(1), left.data(), r, right.data(), n.in, T(1), w,
                n.in);
  return out;
}

/// Which application of a rank-r update costs less: adding it to the weight first, about
/// in out (r + 2) steps, or carrying every row through the two factors, rows r (in + out).
bool materialised_is_cheaper(const Sizes& n, index_t rank) {
  return n.in * n.out * (rank + 2) < n.rows * rank * (n.in + n.out);
}

}  // namespace

// y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy.
template <class T>
Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias) {
  const Sizes n = sizes_of("linear", x, weight, bias);
  Tensor<T> y =
      affine(n, x.value(), weight.value().data(), bias.defined() ? bias.value() : Tensor<T>());
  const Var<T> inputs[] = {x, weight, bias};
  // The rows are kept only for the weight's gradient: a frozen layer holds nothing of them.
  const Tensor<T> rows = weight.requires_grad() ? x.value() : Tensor<T>();
  return make_op("linear", std::move(y), inputs, bias.defined() ? 3 : 2,
                 [n, biased = bias.defined(), rows, shape = x.shape(), w = weight.value()](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     return product(false, false, n.rows, n.in, n.out, dy.data(), w.data(), shape);
                   });
                   d.add(1, [&] {
                     return product(true, false, n.out, n.in, n.rows, dy.data(), rows.data(),
                                    Shape{n.out, n.in});
                   });
                   if (biased) d.add(2, [&] { return dy; });
                 });
}

// y = x (W + left right)ᵀ + b. With p = x rightᵀ and q = dy left, both (rows, r): dleft = dyᵀ p,
// dright = qᵀ x, dx = dy (W + left right). The dense gradient dyᵀ x is never formed unless W itself
// trains; W + left right is formed where that is cheaper, and again in backward rather than kept.
template <class T>
Var<T> low_rank_linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                       const Var<T>& left, const Var<T>& right) {
  const Sizes n = sizes_of("low_rank_linear", x, weight, bias);
  const index_t r = left.rank() == 2 ? left.dim(1) : 0;
  if (left.shape() != Shape{n.out, r} || right.shape() != Shape{r, n.in}) {
    throw ShapeError(
        fmt::format("low_rank_linear: expected left (out, r), right (r, in) for a weight {}; got "
                    "{}, {}",
                    weight.shape().str(), left.shape().str(), right.shape().str()));
  }
  const bool materialised = materialised_is_cheaper(n, r);
  const Tensor<T> b = bias.defined() ? bias.value() : Tensor<T>();
  Tensor<T> y;
  if (materialised) {
    y = affine(n, x.value(), updated(n, weight.value(), left.value(), right.value()).data(), b);
  } else {
    y = affine(n, x.value(), weight.value().data(), b);
    const Tensor<T> p = product(false, true, n.rows, r, n.in, x.value().data(),
                                right.value().data(), Shape{n.rows, r});
    kernels::gemm(false, true, n.rows, n.out, r, T(1), p.data(), r, left.value().data(), r, T(1),
                  y.mutable_data(), n.out);
  }
  const Var<T> inputs[] = {x, left, right, weight, bias};
  return make_op(
      "low_rank_linear", std::move(y), inputs, bias.defined() ? 5 : 4,
      [n, r, materialised, biased = bias.defined(), x = x.value(), w = weight.value(),
       left = left.value(),
       right = right.value()](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        Tensor<T> dleft;
        Tensor<T> dright;
        // Both at once, as in training, have a kernel that passes over x and dy once.
        const bool fused = d.needs(1) && d.needs(2) && r <= kernels::low_rank_most;
        if (fused) {
          dleft = Tensor<T>(left.shape());
          dright = Tensor<T>(right.shape());
          kernels::low_rank_gradients(n.rows, n.out, n.in, r, x.data(), dy.data(), left.data(),
                                      right.data(), dleft.mutable_data(), dright.mutable_data());
        }
        Tensor<T> q;
        if ((d.needs(2) && !fused) || (d.needs(0) && !materialised)) {
          q = product(false, false, n.rows, r, n.out, dy.data(), left.data(), Shape{n.rows, r});
        }
        d.add(0, [&] {
          if (materialised) {
            return product(false, false, n.rows, n.in, n.out, dy.data(),
                           updated(n, w, left, right).data(), x.shape());
          }
          Tensor<T> dx = product(false, false, n.rows, n.in, n.out, dy.data(), w.data(), x.shape());
          kernels::gemm(false, false, n.rows, n.in, r, T(1), q.data(), r, right.data(), n.in, T(1),
                        dx.mutable_data(), n.in);
          return dx;
        });
        d.add(1, [&] {
          if (fused) return dleft;
          const Tensor<T> p =
              product(false, true, n.rows, r, n.in, x.data(), right.data(), Shape{n.rows, r});
          return product(true, false, n.out, r, n.rows, dy.data(), p.data(), Shape{n.out, r});
        });
        d.add(2, [&] {
          if (fused) return dright;
          return product(true, false, r, n.in, n.rows, q.data(), x.data(), Shape{r, n.in});
        });
        d.add(3, [&] {
          return product(true, false, n.out, n.in, n.rows, dy.data(), x.data(), Shape{n.out, n.in});
        });
        if (biased) d.add(4, [&] { return dy; });
      });
}

namespace {

/// diag(gain) (W + left right)
template <class T>
Tensor<T> scaled_update(const Sizes& n, const Tensor<T>& weight, const Tensor<T>& left,
                        const Tensor<T>& right, const T* gain) {
  Tensor<T> out = updated(n, weight, left, right);
  T* w = out.mutable_data();
  kernels::parallel_for(n.out, n.in, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t o = first; o < last; ++o) {
      for (std::int64_t i = 0; i < n.in; ++i) w[o * n.in + i] *= gain[o];
    }
  });
  return out;
}

/// Σ_rows dy ⊙ (y - b), column by column in a fixed order.
template <class T>
Tensor<T> column_products(const Sizes& n, const T* dy, const T* y, const T* bias) {
  Tensor<T> out = Tensor<T>::zeros({n.out});
  T* sums = out.mutable_data();
  for (std::int64_t r = 0; r < n.rows; ++r) {
    const T* d = dy + r * n.out;
    const T* v = y + r * n.out;
    if (bias == nullptr) {
      for (std::int64_t o = 0; o < n.out; ++o) sums[o] += d[o] * v[o];
    } else {
      for (std::int64_t o = 0; o < n.out; ++o) sums[o] += d[o] * (v[o] - bias[o]);
    }
  }
  return out;
}

}  // namespace

// y = u diag(gain) + b with u = x (W + left right)ᵀ: dgain = Σ dy ⊙ u, where u is (y - b) / gain,
// or computed again for a gain of 0; all else as in low_rank_linear under dy diag(gain).
template <class T>
Var<T> scaled_low_rank_linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                              const Var<T>& left, const Var<T>& right, const Var<T>& gain) {
  const Sizes n = sizes_of("scaled_low_rank_linear", x, weight, bias);
  const index_t r = left.rank() == 2 ? left.dim(1) : 0;
  if (left.shape() != Shape{n.out, r} || right.shape() != Shape{r, n.in} ||
      gain.shape() != Shape{n.out}) {
    throw ShapeError(fmt::format(
        "scaled_low_rank_linear: expected left (out, r), right (r, in), gain (out,) for "
        "a weight {}; got {}, {}, {}",
        weight.shape().str(), left.shape().str(), right.shape().str(), gain.shape().str()));
  }
  const Tensor<T> b = bias.defined() ? bias.value() : Tensor<T>();
  Tensor<T> y = affine(
      n, x.value(),
      scaled_update(n, weight.value(), left.value(), right.value(), gain.value().data()).data(), b);
  const Var<T> inputs[] = {x, left, right, gain, weight, bias};
  return make_op(
      "scaled_low_rank_linear", std::move(y), inputs, bias.defined() ? 6 : 5,
      [n, r, b, x = x.value(), w = weight.value(), left = left.value(), right = right.value(),
       gain = gain.value()](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
        const T* g = gain.data();
        const Tensor<T> scaled_left = mul(left, gain.reshape({n.out, 1}));
        d.add(0, [&] {
          return product(false, false, n.rows, n.in, n.out, dy.data(),
                         scaled_update(n, w, left, right, g).data(), x.shape());
        });
        if (d.needs(1) || d.needs(2)) {
          Tensor<T> dleft(left.shape());
          Tensor<T> dright(right.shape());
          if (r <= kernels::low_rank_most) {
            kernels::low_rank_gradients(n.rows, n.out, n.in, r, x.data(), dy.data(),
                                        scaled_left.data(), right.data(), dleft.mutable_data(),
                                        dright.mutable_data());
          } else {
            const Tensor<T> p =
                product(false, true, n.rows, r, n.in, x.data(), right.data(), Shape{n.rows, r});
            const Tensor<T> q = product(false, false, n.rows, r, n.out, dy.data(),
                                        scaled_left.data(), Shape{n.rows, r});
            dleft = product(true, false, n.out, r, n.rows, dy.data(), p.data(), left.shape());
            dright = product(true, false, r, n.in, n.rows, q.data(), x.data(), right.shape());
          }
          d.add(1, [&] { return mul(dleft, gain.reshape({n.out, 1})); });
          d.add(2, [&] { return dright; });
        }
        d.add(3, [&] {
          Tensor<T> out = column_products(n, dy.data(), y.data(), b.defined() ? b.data() : nullptr);
          T* o = out.mutable_data();
          for (index_t i = 0; i < n.out; ++i) {
            if (g[i] != T(0)) {
              o[i] /= g[i];
              continue;
            }
            const Tensor<T> row = add(w.rows(i, i + 1), matmul(left.rows(i, i + 1), right));
            const Tensor<T> u = matmul(x.reshape({n.rows, n.in}), row, false, true);
            for (index_t k = 0; k < n.rows; ++k) o[i] += dy.data()[k * n.out + i] * u.data()[k];
          }
          return out;
        });
        d.add(4, [&] {
          return mul(
              product(true, false, n.out, n.in, n.rows, dy.data(), x.data(), Shape{n.out, n.in}),
              gain.reshape({n.out, 1}));
        });
        if (b.defined()) d.add(5, [&] { return dy; });
      });
}

#define PARSIMONY_INSTANTIATE(T)                                                              \
  template Var<T> linear(const Var<T>&, const Var<T>&, const Var<T>&);                        \
  template Var<T> low_rank_linear(const Var<T>&, const Var<T>&, const Var<T>&, const Var<T>&, \
                                  const Var<T>&);                                             \
  template Var<T> scaled_low_rank_linear(const Var<T>&, const Var<T>&, const Var<T>&,         \
                                         const Var<T>&, const Var<T>&, const Var<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
