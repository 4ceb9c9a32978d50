// LoRA-XS (Balazy et al. 2024, arXiv 2405.17604): ΔW = s U R Σ Vᵀ between the leading r singular
// triplets U Σ Vᵀ of the frozen weight; only R (r, r) ~ N(0, 1e-10) is trained, s = alpha / r.
#include <cmath>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class LoraXs : public Adapter<T> {
 public:
  LoraXs(const AdapterSite<T>& site, const Config& c) : Adapter<T>(site, c) {
    const index_t r = site.rank(c);
    scale_ = c.real("alpha") / static_cast<double>(r);
    if (c.text("frame", {"svd", "random"}) == "svd") {
      const TopSingular<T> top = leading_triplets(site.matrix(), r);
      up_ = Var<T>(top.u);
      down_ = Var<T>(mul(top.s.reshape({r, 1}), transpose(top.v)));
    } else {
      const Rng seed = Rng(static_cast<std::uint64_t>(c.integer("basis_seed"))).split(site.name);
      up_ = Var<T>(kaiming(seed.split("B"), {site.out(), r}));
      down_ = Var<T>(kaiming(seed.split("A"), {r, site.in()}));
    }
    Rng rng = site.rng.split("R");
    core_ = this->parameter("R", rng.normal<T>({r, r}, 1e-5));
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    return this->pair(matmul(up_, scale(core_, scale_)), down_);
  }

 private:
  static Tensor<T> kaiming(Rng rng, const Shape& shape) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(shape[1]));
    return rng.uniform<T>(shape, -bound, bound);
  }

  Var<T> core_;       // R
  Var<T> up_, down_;  // U (out, r), Σ Vᵀ (r, in)
  double scale_;
};

}  // namespace

void register_lora_xs() {
  register_adapter<LoraXs>({"lora-xs",
                            "a small square matrix between singular vectors of the frozen weight",
                            {rank_option(),
                             alpha_option(),
                             {"frame", "svd", "svd (of the frozen weight) or random"},
                             basis_seed_option(),
                             dropout_option()}});
}

}  // namespace parsimony
