// OLoRA (Büyükakyüz 2024, arXiv 2406.01775) and PiSSA (Meng et al. 2024, arXiv 2404.02948): LoRA
// that starts at a part s B₀ A₀ of the frozen weight and trains on what is left of it.
//
// olora  thin QR of W: B₀ = Q[:, :r], A₀ = R[:r, :]
// pissa  SVD of W: B₀ = U (Σ/s)^½, A₀ = (Σ/s)^½ Vᵀ
//
// The layer computes with (W - s B₀ A₀) + s B A; against W the update is the pair of rank 2r
// [s B, -s B₀] [A; A₀].
#include <cmath>

#include <fmt/format.h>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class Residual : public Adapter<T> {
 public:
  Residual(const AdapterSite<T>& site, const Config& c) : Adapter<T>(site, c) {
    const index_t r = site.rank(c);
    const double alpha = c.real("alpha");
    if (!(alpha > 0)) throw ValueError(fmt::format("alpha: expected above 0; got {}", alpha));
    scale_ = alpha / static_cast<double>(r);
    if (site.method == "olora") {
      const Qr<T> f = leading_qr(site.matrix(), r);
      up0_ = f.q;
      down0_ = f.r;
    } else {
      const TopSingular<T> top = leading_triplets(site.matrix(), r);
      Tensor<T> root = scale(top.s, 1 / scale_);
      for (index_t i = 0; i < r; ++i) root.mutable_data()[i] = std::sqrt(root.data()[i]);
      up0_ = mul(top.u, root.reshape({1, r}));
      down0_ = mul(root.reshape({r, 1}), transpose(top.v));
    }
    const Tensor<double> part = scale(matmul(cast<double>(up0_), cast<double>(down0_)), scale_);
    const Tensor<double> rest = sub(cast<double>(site.matrix()), part);
    base_ = Var<T>(cast<T>(site.rows_are_inputs ? transpose(rest) : rest));
    down_ = this->parameter("A", down0_.clone());
    up_ = this->parameter("B", up0_.clone());
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    const Var<T> up = concat<T>({scale(up_, scale_), Var<T>(scale(up0_, -scale_))}, 1);
    return this->pair(up, concat<T>({down_, Var<T>(down0_)}, 0));
  }
  LayerWeight<T> applied(const Var<T>&) const override {
    return {base_, this->pair(scale(up_, scale_), down_)};
  }

 private:
  Var<T> up_, down_;       // B (out, r), A (r, in)
  Tensor<T> up0_, down0_;  // as they were at the start
  Var<T> base_;            // W - s B₀ A₀
  double scale_;
};

}  // namespace

void register_residual() {
  AdapterInfo info{"olora",
                   "LoRA that starts at the QR of the frozen weight",
                   {rank_option(), alpha_option(), dropout_option()}};
  register_adapter<Residual>(info);
  info.name = "pissa";
  info.summary = "LoRA that starts at the leading singular triplets of the frozen weight";
  register_adapter<Residual>(info);
}

}  // namespace parsimony
