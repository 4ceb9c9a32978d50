// Products: matmul, and the sampled product of matrix completion.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <fmt/format.h>

#include "kernels/sampled.hpp"

namespace parsimony {

namespace {

/// Gradient of a factor that had no leading axes: the batch's contributions are one product.
template <class T>
Tensor<T> flatten_leading(const Tensor<T>& x) {
  if (x.rank() == 2) return x;
  index_t rows = 1;  // not size / width, which may be 0 / 0
  for (int i = 0; i + 1 < x.rank(); ++i) rows *= x.dim(i);
  return x.reshape({rows, x.dim(-1)});
}

}  // namespace

// y = A B: dA = dy Bᵀ, dB = Aᵀ dy, with the flags moved about for transposed factors.
template <class T>
Var<T> matmul(const Var<T>& a, const Var<T>& b, bool trans_a, bool trans_b) {
  return make_op("matmul", matmul(a.value(), b.value(), trans_a, trans_b), {a, b},
                 [a = a.value(), b = b.value(), trans_a, trans_b](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     return trans_a ? matmul(b, dy, trans_b, true) : matmul(dy, b, false, !trans_b);
                   });
                   d.add(1, [&] {
                     if (a.rank() > 2 && b.rank() == 2 && !trans_a) {
                       const Tensor<T> rows = flatten_leading(a);
                       const Tensor<T> dy_rows = flatten_leading(dy);
                       return trans_b ? matmul(dy_rows, rows, true, false)
                                      : matmul(rows, dy_rows, true, false);
                     }
                     return trans_b ? matmul(dy, a, true, trans_a) : matmul(a, dy, !trans_a, false);
                   });
                 });
}

// v_e = <a_row(e), b_col(e)>: da = S b, db = Sᵀ a with S = dv on Ω.
template <class T>
Var<T> sampled_matmul(const IndexSet& omega, const Var<T>& a, const Var<T>& b) {
  return make_op("sampled_matmul", sampled_product(omega, a.value(), b.value()), {a, b},
                 [omega, a = a.value(), b = b.value()](const Tensor<T>&, const Tensor<T>& dv,
                                                       Gradients<T>& d) {
                   d.add(0, [&] { return sparse_product(omega, dv, b); });
                   d.add(1, [&] { return sparse_transposed_product(omega, dv, a); });
                 });
}

// ½ Σ_Ω r², r_e = <a_row, b_col> - t_e: da = S b with S = r on Ω, found on the way; db = Sᵀ a.
template <class T>
Var<T> sampled_half_squared_error(const IndexSet& omega, const Var<T>& a, const Var<T>& b,
                                  const Tensor<T>& target) {
  if (a.rank() != 2 || b.rank() != 2 || a.dim(0) != omega.rows() || b.dim(0) != omega.cols() ||
      a.dim(1) != b.dim(1) || target.size() != omega.size()) {
    throw ShapeError(
        fmt::format("sampled_half_squared_error: expected a ({}, k), b ({}, k) and {} targets; got "
                    "{}, {} and {}",
                    omega.rows(), omega.cols(), omega.size(), a.shape().str(), b.shape().str(),
                    target.shape().str()));
  }
  Tensor<T> r({omega.size()});
  Tensor<T> da;
  if (a.requires_grad() && grad_enabled()) da = Tensor<T>(a.shape());
  const double sum = omega.rows() == 0
                         ? 0.0
                         : kernels::sampled_residual(
                               omega.rows(), omega.row_offsets().data(), omega.columns().data(),
                               a.value().data(), b.value().data(), a.dim(1), target.data(),
                               r.mutable_data(), da.defined() ? da.mutable_data() : nullptr);
  return make_op(
      "sampled_half_squared_error", Tensor<T>::scalar(static_cast<T>(0.5 * sum)), {a, b},
      [omega, r, da, a = a.value()](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
        const auto g = static_cast<double>(dy.item());
        const auto times = [g](const Tensor<T>& x) { return g == 1 ? x : scale(x, g); };
        d.add(0, [&] { return times(da); });
        d.add(1, [&] { return sparse_transposed_product(omega, times(r), a); });
      });
}

#define PARSIMONY_INSTANTIATE(T)                                                            \
  template Var<T> matmul(const Var<T>&, const Var<T>&, bool, bool);                         \
  template Var<T> sampled_matmul(const IndexSet&, const Var<T>&, const Var<T>&);            \
  template Var<T> sampled_half_squared_error(const IndexSet&, const Var<T>&, const Var<T>&, \
                                             const Tensor<T>&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
