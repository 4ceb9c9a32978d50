// VeRA (Kopiczko et al. 2023, arXiv 2310.11454): ΔW = diag(b) B diag(d) A with one frozen random
// pair A (r, widest in), B (widest out, r) for all layers, of which each takes the rows and columns
// it has; b = 0 and d are trained. Kaiming-uniform with bounds √(6 / widest in) and √(6 / r).
#include <cmath>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class Vera : public Adapter<T> {
 public:
  Vera(const AdapterSite<T>& site, const Config& c) : Adapter<T>(site, c) {
    const index_t r = site.rank(c);
    const index_t widest_in = std::max(site.widest_in, site.in());
    const index_t widest_out = std::max(site.widest_out, site.out());
    const Rng seed = Rng(static_cast<std::uint64_t>(c.integer("basis_seed"))).split("vera");
    const Tensor<T> a = common(site, "A", [&] { return kaiming(seed.split("A"), {r, widest_in}); });
    const Tensor<T> b = common(site, "B", [&] {
      return kaiming(seed.split("B"), {widest_out, r});
    });
    const std::string width = "A:" + std::to_string(site.in());
    a_ = Var<T>(common(site, width, [&] { return slice(a, 1, 0, site.in()); }));
    b_ = Var<T>(b.rows(0, site.out()));
    down_ = this->parameter("d", Tensor<T>::full({r}, static_cast<T>(c.real("d_initial"))));
    up_ = this->parameter("b", Tensor<T>::zeros({site.out()}));
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    return this->pair(mul(reshape(up_, {up_.dim(0), 1}), b_),
                      mul(reshape(down_, {down_.dim(0), 1}), a_));
  }

 private:
  static Tensor<T> kaiming(Rng rng, const Shape& shape) {
    const double bound = std::sqrt(6.0 / static_cast<double>(shape[1]));
    return rng.uniform<T>(shape, -bound, bound);
  }
  /// Made once for all the layers that are adapted together.
  template <class Make>
  static Tensor<T> common(const AdapterSite<T>& site, const std::string& name, Make make) {
    if (site.shared == nullptr) return make();
    Tensor<T>& held = (*site.shared)[name];
    if (!held.defined()) held = make();
    return held;
  }

  Var<T> up_, down_;  // b (out), d (r)
  Var<T> a_, b_;      // the layer's share of the frozen pair
};

}  // namespace

void register_vera() {
  AdapterInfo info{"vera",
                   "two trained scalings of one frozen random pair for all layers",
                   {rank_option(64),
                    {"d_initial", 0.1, "start of the inner scaling"},
                    basis_seed_option(),
                    dropout_option()}};
  info.embeddings = false;  // their count of rows would set the bound of every layer's A
  register_adapter<Vera>(info);
}

}  // namespace parsimony
