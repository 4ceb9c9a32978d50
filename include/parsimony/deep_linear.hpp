// Deep linear models W_L ··· W_1, their compressed form U (W̃_L ··· W̃_1) Vᵀ, and the subspaces that
// connect the two (paper, sections on the invariant subspace and on compression).
#pragma once

#include <parsimony/module.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>

#include <vector>

namespace parsimony {

/// The full factorisation f(Θ) = W_L ··· W_1. Parameters "w1" ... "wL".
template <class T>
class DeepLinear : public Module<T> {
 public:
  /// W_l is (dims[l], dims[l-1]), eps_l times a Haar-orthogonal matrix (orthonormal rows or columns
  /// where it is not square); dims = {d_0, ..., d_L}, d_0 the input's size. One eps serves all
  /// layers. Factor l draws from rng.split("w{l}").
  /// @throws ValueError on depth < 2, a size < 1, a count of eps that is neither 1 nor L, or an eps
  /// that is not finite.
  DeepLinear(const std::vector<index_t>& dims, const std::vector<double>& eps, const Rng& rng);
  /// From given factors W_1 ... W_L. @throws ShapeError if they do not chain.
  explicit DeepLinear(const std::vector<Tensor<T>>& factors);

  int depth() const { return static_cast<int>(factors_.size()); }
  /// W_l, l = 1 ... L.
  const Var<T>& factor(int l) const { return factors_[static_cast<std::size_t>(l - 1)]; }
  /// W_L ··· W_1, (d_L, d_0), multiplied from the cheaper end.
  Var<T> product() const;
  /// Entries of the product on Ω, without forming it: <rows of W_L···W_2, columns of W_1>.
  Var<T> sampled(const IndexSet& omega) const;
  /// 0.5 Σ_Ω (entry - observed)², without keeping the entries: what completion trains on.
  Var<T> completion_loss(const IndexSet& omega, const Tensor<T>& observed) const;
  /// Copies of the factors' values.
  std::vector<Tensor<T>> values() const;

 private:
  void add_factor(Tensor<T> value);
  std::vector<Var<T>> factors_;
};

/// The compressed factorisation f_C = U W̃_L ··· W̃_1 Vᵀ with k x k inner factors. Parameters "left"
/// (m, k), "right" (n, k), "core1" ... "coreL". The outer two are frozen for γ = 0.
template <class T>
class CompressedLinear : public Module<T> {
 public:
  /// W̃_l(0) = eps_l I. @throws ShapeError if left and right differ in k, ValueError as above.
  CompressedLinear(const Tensor<T>& left, const Tensor<T>& right, int depth,
                   const std::vector<double>& eps, bool train_outer);

  int depth() const { return static_cast<int>(cores_.size()); }
  const Var<T>& left() const { return left_; }
  const Var<T>& right() const { return right_; }
  const Var<T>& core_factor(int l) const { return cores_[static_cast<std::size_t>(l - 1)]; }
  /// W̃_L ··· W̃_1, (k, k).
  Var<T> core() const;
  /// The dense (m, n) product.
  Var<T> product() const;
  /// Entries of the product on Ω in O(|Ω| k).
  Var<T> sampled(const IndexSet& omega) const;
  /// 0.5 Σ_Ω (entry - observed)², without keeping the entries: what completion trains on.
  Var<T> completion_loss(const IndexSet& omega, const Tensor<T>& observed) const;
  NamedParameters<T> inner_parameters() const;
  NamedParameters<T> outer_parameters() const;

 private:
  Var<T> left_, right_;
  std::vector<Var<T>> cores_;
};

/// U_l, V_l of the invariant-subspace theorem, l = 1 ... L at index l-1, each orthogonal (d, d)
/// with the 2 r̂ active columns first; V_{l+1} = U_l.
template <class T>
struct InvariantSubspace {
  std::vector<Tensor<T>> u, v;
};

/// From the target, section 1.3: V_{1,1} = orth[V_r, OᵀU_r] padded to 2 r̂ columns, where
/// O = W_{L:1}(0) / Π eps_l. Square factors with W_lᵀW_l = eps_l² I.
/// @throws ValueError unless rank(target) <= r̂ and 2 r̂ < d, or if a factor is not orthogonal up to
/// its eps.
template <class T>
InvariantSubspace<T> invariant_subspace(const std::vector<Tensor<T>>& initial,
                                        const Tensor<T>& target, index_t rhat);

/// Outer factors of the compressed form: left (m, 2h) and right (n, 2h).
template <class T>
struct OuterFactors {
  Tensor<T> left, right;
};

/// The authors' construction, section 1.4: the complement of range(W_1ᵀU_g⊥/eps) ∩ range(V_g⊥),
/// by full SVDs of the gradient at W_1 (square). Slow; kept as the reference.
template <class T>
OuterFactors<T> outer_factors_by_intersection(const std::vector<Tensor<T>>& initial,
                                              const Tensor<T>& gradient1, index_t h);

/// The same subspaces as orth[V_h, W_1ᵀU_h/eps] from the top h singular pairs of the gradient at
/// W_1; left = W_{L:1}(0) right / Π eps_l.
template <class T>
OuterFactors<T> outer_factors(const std::vector<Tensor<T>>& initial, const Tensor<T>& gradient1,
                              index_t h);

/// From the gradient (m, n) at the end-to-end product and a matrix O with orthonormal rows or
/// columns, never touching the factors. The narrower side's factor is orthonormal, the other O's
/// image of it.
template <class T>
OuterFactors<T> outer_factors_from_product_gradient(const Tensor<T>& gradient, const Tensor<T>& o,
                                                    index_t h);

/// The same without O, for matrices too large to hold one: from the top h singular vectors of the
/// gradient, right = [V_h, Q], left = [P, U_h] with random frames Q ⊥ V_h and P ⊥ U_h, which is
/// what an orthogonal O with O V_h = P, OᵀU_h = Q gives. Both orthonormal; O((m + n) h²).
template <class T>
OuterFactors<T> outer_factors_from_singular_vectors(const Tensor<T>& u, const Tensor<T>& v,
                                                    const Rng& rng);

/// Kwon et al.: L factors with eps in the outer ones, W_1 = eps V_kᵀ, W_l = eps I, W_L = eps U_k,
/// from the top k singular pairs of a surrogate of the target (e.g. Ω .* Φ / p).
template <class T>
std::vector<Tensor<T>> kwon_factors(const Tensor<T>& surrogate, index_t k, int depth, double eps);

/// Top k singular triplets u (m, k), s (k), v (n, k) of the sparse matrix with these values, by
/// block Krylov iteration: O(|Ω| k) a pass, nothing dense of size m x n.
template <class T>
struct TopSingular {
  Tensor<T> u, s, v;
};
template <class T>
TopSingular<T> top_singular(const IndexSet& omega, const Tensor<T>& values, index_t k,
                            const Rng& rng);

/// ρ_l(0) = eps_l and ρ_l(t) = ρ_l(t-1)(1 - ηλ - η Π_{k≠l} ρ_k(t-1)²), with heavy-ball momentum
/// v_l ← μv_l + λρ_l + ρ_l Π_{k≠l} ρ_k², ρ_l ← ρ_l - ηv_l. (iterations + 1, L).
/// @throws ValueError if iterations < 0.
Tensor<double> rho_recursion(const std::vector<double>& eps, double eta, double weight_decay,
                             double momentum, index_t iterations);

}  // namespace parsimony
