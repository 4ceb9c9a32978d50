// From one backward pass to the outer factors of compressed Deep LoRA, in the memory of the
// adapter: the gradient of a weight is dyᵀx, known by its products with thin matrices, and the
// orthogonal matrix O of the theory is only ever applied to 2h vectors.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>

#include <fmt/format.h>

#include "block_svd.hpp"

namespace parsimony {

namespace {

/// Random orthonormal (n, h) frame, orthogonal to the columns of q.
template <class T>
Tensor<T> frame_orthogonal_to(const Tensor<T>& q, index_t h, Rng rng) {
  Tensor<T> frame = rng.normal<T>({q.dim(0), h});
  for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan, Parlett)
    frame = sub(frame, matmul(q, matmul(q, frame, true, false)));
    frame = qr(frame).q;
  }
  return frame;
}

/// For O (m, n) with orthonormal columns, m >= n: F = O V_h is a random frame, and given it, with
/// (I - FFᵀ)U_h = E R, the rest of O sees E as n - h rows of a random frame of m - h dimensions
/// (T, thin QR T = Q S): OᵀU_h = V_h FᵀU_h + V_⊥ T R, where V_⊥ Q is a random frame beside V_h.
template <class T>
OuterFactors<T> tall(const Tensor<T>& u, const Tensor<T>& v, const Rng& rng) {
  const index_t m = u.dim(0);
  const index_t n = v.dim(0);
  const index_t h = u.dim(1);
  Rng frames = rng.split("frame");
  const Tensor<T> f = haar_orthogonal<T>(frames, m, h);
  const Tensor<T> along = matmul(f, u, true, false);  // FᵀU_h
  const Tensor<T> r = qr(sub(u, matmul(f, along))).r;
  Rng rest = rng.split("rest");
  const Tensor<T> t = haar_orthogonal<T>(rest, m - h, h).rows(0, n - h);
  const Tensor<T> beside = frame_orthogonal_to(v, h, rng.split("beside"));
  const Tensor<T> back = add(matmul(v, along), matmul(beside, matmul(qr(t).r, r)));  // OᵀU_h (n, h)
  // left = orth[U_h, F] = [U_h, F] M; right = Oᵀ left = [OᵀU_h, V_h] M.
  const Qr<T> basis = qr(concat<T>({u, f}, 1));
  const Svd<T> s = svd(basis.r);
  const index_t k = 2 * h;
  Tensor<T> mix = transpose(s.vt);
  T* x = mix.mutable_data();
  for (index_t i = 0; i < k; ++i) {
    for (index_t j = 0; j < k; ++j) x[i * k + j] /= s.s.data()[j];
  }
  return {matmul(basis.q, s.u), matmul(concat<T>({back, v}, 1), mix)};
}

template <class T>
TopSingular<T> of_product(const Tensor<T>& dy, const Tensor<T>& x, index_t h, const Rng& rng) {
  return block_svd<T>(
      dy.dim(1), x.dim(1), h, rng,
      [&](const Tensor<T>& v) { return matmul(dy, matmul(x, v), true, false); },
      [&](const Tensor<T>& u) { return matmul(x, matmul(dy, u), true, false); });
}

template <class T>
Tensor<T> as_rows(const Tensor<T>& x) {
  return x.reshape({x.size() / std::max<index_t>(1, x.dim(-1)), x.dim(-1)});
}

}  // namespace

template <class T>
OuterFactors<T> outer_factors_of_isometry(const Tensor<T>& u, const Tensor<T>& v, const Rng& rng) {
  if (u.rank() != 2 || v.rank() != 2 || u.dim(1) != v.dim(1) || u.dim(1) < 1 ||
      2 * u.dim(1) > std::min(u.dim(0), v.dim(0))) {
    throw ValueError(
        fmt::format("outer factors: expected u (m, h), v (n, h) with 2h <= m, n; got {} and {}",
                    u.shape().str(), v.shape().str()));
  }
  if (u.dim(0) >= v.dim(0)) return tall(u, v, rng);
  const OuterFactors<T> swapped = tall(v, u, rng);  // the same problem, transposed
  return {swapped.right, swapped.left};
}

template <class T>
GradientProbe<T>::GradientProbe(const Shape& shape, index_t h, const Rng& rng)
    : Adapter<T>(shape, "probe"), h_(h), rng_(rng), result_(std::make_shared<TopSingular<T>>()) {
  if (h < 1 || 2 * h > std::min(shape[0], shape[1])) {
    throw ValueError(fmt::format("rank: expected 2..{} for a weight {}; got {}",
                                 std::min(shape[0], shape[1]), shape.str(), 2 * h));
  }
  token_ = this->parameter("token", Tensor<T>::zeros({1}));
}

template <class T>
WeightUpdate<T> GradientProbe<T>::update() const {
  const index_t m = this->shape()[0];
  const index_t n = this->shape()[1];
  return {Var<T>(Tensor<T>::zeros({m, 1})), Var<T>(Tensor<T>::zeros({1, n})), {}};
}

template <class T>
Var<T> GradientProbe<T>::linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                                Pass&) const {
  const Var<T> y = parsimony::linear(x, weight, bias);
  return make_op("gradient_probe", y.value(), {y, token_},
                 [x = x.value(), h = h_, rng = rng_, result = result_](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   *result = of_product(as_rows(dy), as_rows(x), h, rng);
                   d.add(0, [&] { return dy; });
                   d.add(1, [&] { return Tensor<T>::zeros({1}); });
                 });
}

// Row i of the gradient is the sum of the dy of its tokens: dyᵀ times the rows' indicator.
template <class T>
Var<T> GradientProbe<T>::rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const {
  const Var<T> y = gather_rows(weight, ids);
  const index_t count = this->shape()[0];
  return make_op("gradient_probe", y.value(), {y, token_},
                 [ids, count, h = h_, rng = rng_, result = result_](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   const Tensor<T> g = as_rows(dy);
                   const Tensor<std::int64_t> flat = ids.reshape({ids.size()});
                   *result = block_svd<T>(
                       count, g.dim(1), h, rng,
                       [&](const Tensor<T>& v) {
                         return scatter_add_rows(Var<T>(matmul(g, v)), flat, count).value();
                       },
                       [&](const Tensor<T>& u) {
                         return matmul(g, gather_rows(Var<T>(u), flat).value(), true, false);
                       });
                   d.add(0, [&] { return dy; });
                   d.add(1, [&] { return Tensor<T>::zeros({1}); });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                                         \
  template OuterFactors<T> outer_factors_of_isometry(const Tensor<T>&, const Tensor<T>&, \
                                                     const Rng&);                        \
  template class GradientProbe<T>;
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
