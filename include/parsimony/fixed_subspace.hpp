// Post-training of a factored layer in a fixed subspace (Ji et al. 2024, arXiv 2405.10616, section
// 3.4): of y = B (A x) + b some of the kept dimensions are scaled anew,
//
//   ΔB = diag(g) B_s diag(d) S,
//
// S the rows of the identity that choose r_s of A's r outputs and B_s = B Sᵀ, both frozen; d (r_s)
// starts at 0.1, g (out) at 0, and only they train. What it learns stays in the pair's own spaces,
// so merging keeps its rank.
#pragma once

#include <parsimony/adapter.hpp>

namespace parsimony {

/// For the second layer of a pair, of weight B (out, r).
template <class T>
class FixedSubspace : public Adapter<T> {
 public:
  /// Chooses min(dimensions, r) at random. @throws ValueError unless dimensions >= 1.
  FixedSubspace(const Tensor<T>& weight, index_t dimensions, const Rng& rng);
  WeightUpdate<T> update() const override;

 private:
  Var<T> inner_, outer_;     // d, g: parameters "d", "g"
  Var<T> chosen_, columns_;  // S (r_s, r), B_s (out, r_s)
};

extern template class FixedSubspace<float>;
extern template class FixedSubspace<double>;

}  // namespace parsimony
