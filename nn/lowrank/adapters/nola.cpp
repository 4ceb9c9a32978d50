// NOLA (Koohpayegani et al. 2023, arXiv 2310.02556): ΔW = s B A with both factors combinations of
// frozen random ones, of which only the coefficients are trained and saved:
//
//   A = A₀ + k^-½ Σ_i α_i A_i,  B = k^-½ Σ_j β_j B_j,  s = alpha / r
//
// α = β = 0 at the start. The entries of A_i (r, in) and B_j (out, r) are uniform on (-1, 1); A₀ is
// one more A_i over √in, LoRA's start. They are functions of the seed, the layer's name (unless
// shared), "A" or "B" and the index, made again in each pass as they are added
// (random_combination): no basis is ever in memory. Of an embedding, only the rows of the batch
// are.
#include <cmath>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class Nola : public Adapter<T> {
 public:
  Nola(const AdapterSite<T>& site, const Config& c)
      : Adapter<T>(site, c), in_(site.in()), out_(site.out()), rank_(site.rank(c)) {
    const index_t bases = c.integer("bases", 1, index_t{1} << 20);
    const Rng seed(static_cast<std::uint64_t>(c.integer("basis_seed")));
    const Rng own = seed.split("nola").split(c.flag("share_bases") ? "" : site.name);
    down_rng_ = own.split("A");
    up_rng_ = own.split("B");
    factor_ = 1.0 / std::sqrt(static_cast<double>(bases));
    scale_ = c.real("alpha") / static_cast<double>(rank_);
    const double bound = 1.0 / std::sqrt(static_cast<double>(in_));
    offset_ = Var<T>(Tensor<T>::full({1}, static_cast<T>(bound)));
    alpha_ = this->parameter("alpha", Tensor<T>::zeros({bases}));
    beta_ = this->parameter("beta", Tensor<T>::zeros({bases}));
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override { return this->pair(up(), transpose(down({}))); }
  Var<T> rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const override {
    if (ids.size() >= in_) return Adapter<T>::rows(ids, weight);
    return add(gather_rows(weight, ids), matmul(down(ids), up(), false, true));
  }

 private:
  /// s B (out, r)
  Var<T> up() const {
    return random_combination(scale(beta_, scale_ * factor_), {}, out_, rank_, up_rng_);
  }
  /// Aᵀ (in, r), or the rows at the ids.
  Var<T> down(const Tensor<std::int64_t>& ids) const {
    const Var<T> coefficients = concat<T>({scale(alpha_, factor_), offset_}, 0);
    return random_combination(coefficients, ids, in_, rank_, down_rng_);
  }

  index_t in_, out_, rank_;
  Rng down_rng_{0}, up_rng_{0};
  double factor_ = 1, scale_ = 1;
  Var<T> alpha_, beta_, offset_;
};

}  // namespace

void register_nola() {
  AdapterInfo info{"nola",
                   "coefficients of frozen random factors, any number of them",
                   {rank_option(),
                    {"bases", index_t{128}, "random factors a side, each with a coefficient"},
                    alpha_option(),
                    {"share_bases", false, "all layers draw from the same bases"},
                    basis_seed_option(),
                    dropout_option()}};
  info.stacked = true;
  register_adapter<Nola>(info);
}

}  // namespace parsimony
