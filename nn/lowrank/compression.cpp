// The subspaces of the theorem and the outer factors that compression is built on, from the target
// or from the first gradient.
#include <parsimony/deep_linear.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "block_svd.hpp"

namespace parsimony {

namespace {

/// a / eps for a factor with aᵀa = eps² I (or orthonormal rows), whatever eps is.
template <class T>
Tensor<T> unit(const Tensor<T>& a) {
  const auto side = static_cast<double>(std::min(a.dim(0), a.dim(1)));
  const double eps = frobenius(a) / std::sqrt(side);
  if (!(eps > 0)) throw ValueError("compression: expected factors that are not zero");
  return scale(a, 1.0 / eps);
}

/// O = W_{L:1}(0) / Π eps_l.
template <class T>
Tensor<T> unit_product(const std::vector<Tensor<T>>& factors) {
  Tensor<T> product = unit(factors[0]);
  for (std::size_t l = 1; l < factors.size(); ++l) product = matmul(unit(factors[l]), product);
  return product;
}

template <class T>
Tensor<T> first_columns(const Tensor<T>& a, index_t count) {
  return slice(a, 1, 0, count);
}

/// Top h right singular vectors as columns.
template <class T>
Tensor<T> top_right(const Svd<T>& s, index_t h) {
  return transpose(s.vt.rows(0, h));
}

template <class T>
void require_rank(const Tensor<T>& gradient, index_t h) {
  const index_t side = std::min(gradient.dim(0), gradient.dim(1));
  if (h < 1 || 2 * h > side) {
    throw ValueError(
        fmt::format("compression: expected a half rank h with 1 <= h and 2h <= {}, the smaller "
                    "side of {}; got {}",
                    side, gradient.shape().str(), h));
  }
}

template <class T>
void require_square_chain(const std::vector<Tensor<T>>& initial) {
  if (initial.size() < 2) throw ValueError("compression: expected at least two factors");
  for (const auto& w : initial) {
    if (w.rank() != 2 || w.dim(0) != w.dim(1) || w.shape() != initial[0].shape()) {
      throw ShapeError(
          fmt::format("compression: expected square factors of one size; got {}", w.shape().str()));
    }
  }
}

/// Wᵀ W = eps² I up to rounding, and to the rounding of a file in single precision.
template <class T>
void require_orthogonal(const std::vector<Tensor<T>>& factors) {
  constexpr double tolerance = 1e-4;
  for (std::size_t l = 0; l < factors.size(); ++l) {
    const double error = orthonormality_error(unit(factors[l]));
    if (!(error <= tolerance)) {
      throw ValueError(fmt::format(
          "invariant subspace: expected orthogonal factors times eps, WᵀW = eps² I; W{} is off by "
          "{:.2g} of eps²",
          l + 1, error));
    }
  }
}

/// Columns of q completed to `count` orthonormal columns by arbitrary directions.
template <class T>
Tensor<T> pad_columns(const Tensor<T>& q, index_t count) {
  if (q.dim(1) >= count) return first_columns(q, count);
  return concat<T>({q, first_columns(orthogonal_complement(q), count - q.dim(1))}, 1);
}

}  // namespace

template <class T>
InvariantSubspace<T> invariant_subspace(const std::vector<Tensor<T>>& initial,
                                        const Tensor<T>& target, index_t rhat) {
  require_square_chain(initial);
  require_orthogonal(initial);
  const index_t d = initial[0].dim(0);
  const Svd<T> s = svd(target);
  const index_t r = numerical_rank(target);
  if (r > rhat || 2 * rhat >= d) {
    throw ValueError(fmt::format(
        "invariant subspace: expected rank(target) <= r̂ and 2 r̂ < d; got rank {}, r̂ {}, d {}", r,
        rhat, d));
  }
  const Tensor<T> o = unit_product(initial);
  Tensor<T> active = first_columns(Tensor<T>::eye(d), 2 * rhat);  // any will do for a zero target
  if (r > 0) {
    const Tensor<T> span =
        concat<T>({top_right(s, r), matmul(o, first_columns(s.u, r), true, false)}, 1);
    active = pad_columns(orth(span, 2 * r), 2 * rhat);
  }
  InvariantSubspace<T> out;
  Tensor<T> v = concat<T>({active, orthogonal_complement(active)}, 1);
  for (const auto& w : initial) {
    out.v.push_back(v);
    v = matmul(unit(w), v);  // U_l = W_l(0) V_l / eps_l, which is V_{l+1}
    out.u.push_back(v);
  }
  return out;
}

template <class T>
OuterFactors<T> outer_factors_by_intersection(const std::vector<Tensor<T>>& initial,
                                              const Tensor<T>& gradient1, index_t h) {
  require_square_chain(initial);
  require_rank(gradient1, h);
  const index_t n = gradient1.dim(0);
  const Svd<T> g = svd(gradient1, true);
  const Tensor<T> va = matmul(unit(initial[0]), slice(g.u, 1, h, n), true, false);
  const Tensor<T> vb = transpose(g.vt.rows(h, n));
  // Null space of [Va, -Vb]: pairs of coordinates of one vector in both ranges.
  const Svd<T> pair = svd(concat<T>({va, scale(vb, -1.0)}, 1), true);
  const Tensor<T> coordinates =
      slice(transpose(pair.vt.rows(n, 2 * (n - h))), 0, 0, n - h);  // (n-h, n-2h)
  const Tensor<T> common = matmul(va, coordinates);
  const Svd<T> basis = svd(common, true);
  const Tensor<T> right = slice(basis.u, 1, n - 2 * h, n);
  return {matmul(unit_product(initial), right), right};
}

template <class T>
OuterFactors<T> outer_factors(const std::vector<Tensor<T>>& initial, const Tensor<T>& gradient1,
                              index_t h) {
  require_square_chain(initial);
  require_rank(gradient1, h);
  const Svd<T> g = svd(gradient1);
  const Tensor<T> right = orth(
      concat<T>({top_right(g, h), matmul(unit(initial[0]), first_columns(g.u, h), true, false)}, 1),
      2 * h);
  return {matmul(unit_product(initial), right), right};
}

template <class T>
OuterFactors<T> outer_factors_from_product_gradient(const Tensor<T>& gradient, const Tensor<T>& o,
                                                    index_t h) {
  require_rank(gradient, h);
  if (o.shape() != gradient.shape()) {
    throw ShapeError(fmt::format("compression: expected O of the gradient's shape {}; got {}",
                                 gradient.shape().str(), o.shape().str()));
  }
  const Svd<T> g = svd(gradient);
  const Tensor<T> u = first_columns(g.u, h);
  const Tensor<T> v = top_right(g, h);
  if (gradient.dim(0) <= gradient.dim(1)) {
    const Tensor<T> right = orth(concat<T>({v, matmul(o, u, true, false)}, 1), 2 * h);
    return {matmul(o, right), right};
  }
  const Tensor<T> left = orth(concat<T>({u, matmul(o, v)}, 1), 2 * h);
  return {left, matmul(o, left, true, false)};
}

namespace {

/// Orthonormal (n, h) frame orthogonal to the columns of q, drawn at random.
template <class T>
Tensor<T> random_frame_orthogonal_to(const Tensor<T>& q, index_t h, Rng rng) {
  Tensor<T> frame = rng.normal<T>({q.dim(0), h});
  for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan, Parlett)
    frame = sub(frame, matmul(q, matmul(q, frame, true, false)));
    frame = qr(frame).q;
  }
  return frame;
}

}  // namespace

template <class T>
OuterFactors<T> outer_factors_from_singular_vectors(const Tensor<T>& u, const Tensor<T>& v,
                                                    const Rng& rng) {
  const index_t h = u.dim(1);
  if (v.dim(1) != h || 2 * h > u.dim(0) || 2 * h > v.dim(0)) {
    throw ValueError(
        fmt::format("compression: expected u (m, h), v (n, h) with 2h <= m, n; got {} and {}",
                    u.shape().str(), v.shape().str()));
  }
  return {concat<T>({random_frame_orthogonal_to(u, h, rng.split("left")), u}, 1),
          concat<T>({v, random_frame_orthogonal_to(v, h, rng.split("right"))}, 1)};
}

template <class T>
std::vector<Tensor<T>> kwon_factors(const Tensor<T>& surrogate, index_t k, int depth, double eps) {
  if (depth < 2 || k < 1 || k > std::min(surrogate.dim(0), surrogate.dim(1))) {
    throw ValueError(
        fmt::format("kwon factors: expected depth >= 2 and 1 <= k <= sides of {}; got {}, {}",
                    surrogate.shape().str(), depth, k));
  }
  const Svd<T> s = svd(surrogate);
  std::vector<Tensor<T>> out{scale(s.vt.rows(0, k), eps)};
  for (int l = 2; l < depth; ++l) out.push_back(Tensor<T>::eye(k, static_cast<T>(eps)));
  out.push_back(scale(first_columns(s.u, k), eps));
  return out;
}

template <class T>
TopSingular<T> top_singular(const IndexSet& omega, const Tensor<T>& values, index_t k,
                            const Rng& rng) {
  const index_t side = std::min(omega.rows(), omega.cols());
  if (k < 1 || k > side) {
    throw ValueError(fmt::format("top_singular: expected 1 <= k <= {}; got {}", side, k));
  }
  return block_svd<T>(
      omega.rows(), omega.cols(), k, rng.split("top_singular"),
      [&](const Tensor<T>& v) { return sparse_product(omega, values, v); },
      [&](const Tensor<T>& u) { return sparse_transposed_product(omega, values, u); });
}

Tensor<double> rho_recursion(const std::vector<double>& eps, double eta, double weight_decay,
                             double momentum, index_t iterations) {
  if (iterations < 0) {
    throw ValueError(fmt::format("rho_recursion: expected iterations >= 0; got {}", iterations));
  }
  const std::size_t depth = eps.size();
  Tensor<double> out({iterations + 1, static_cast<index_t>(depth)});
  double* o = out.mutable_data();
  std::vector<double> rho = eps;
  std::vector<double> velocity(depth, 0.0);
  std::copy(rho.begin(), rho.end(), o);
  for (index_t t = 1; t <= iterations; ++t) {
    std::vector<double> next(depth);
    for (std::size_t l = 0; l < depth; ++l) {
      double others = 1;
      for (std::size_t k = 0; k < depth; ++k) {
        if (k != l) others *= rho[k] * rho[k];
      }
      velocity[l] = momentum * velocity[l] + rho[l] * (weight_decay + others);
      next[l] = rho[l] - eta * velocity[l];
    }
    rho = next;
    std::copy(rho.begin(), rho.end(), o + t * static_cast<index_t>(depth));
  }
  return out;
}

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template InvariantSubspace<T> invariant_subspace(const std::vector<Tensor<T>>&,                  \
                                                   const Tensor<T>&, index_t);                     \
  template OuterFactors<T> outer_factors_by_intersection(const std::vector<Tensor<T>>&,            \
                                                         const Tensor<T>&, index_t);               \
  template OuterFactors<T> outer_factors(const std::vector<Tensor<T>>&, const Tensor<T>&,          \
                                         index_t);                                                 \
  template OuterFactors<T> outer_factors_from_product_gradient(const Tensor<T>&, const Tensor<T>&, \
                                                               index_t);                           \
  template OuterFactors<T> outer_factors_from_singular_vectors(const Tensor<T>&, const Tensor<T>&, \
                                                               const Rng&);                        \
  template std::vector<Tensor<T>> kwon_factors(const Tensor<T>&, index_t, int, double);            \
  template TopSingular<T> top_singular(const IndexSet&, const Tensor<T>&, index_t, const Rng&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
