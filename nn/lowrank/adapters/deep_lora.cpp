// Deep LoRA: ΔW as a product of L >= 3 factors.
//
// narrow:      ΔW = F_L ··· F_1 through a width r, all factors ε times Haar-orthogonal.
// full:        the same through width min(m, n), or max(m, n).
// compressed:  ΔW = U C_L ··· C_1 Vᵀ, C_l(0) = ε I, with U, V from the gradient at the start
// (paper,
//              sections on Deep LoRA); U and V train with γ times the step of the inner factors.
#include <algorithm>

#include <fmt/format.h>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class DeepLora : public Adapter<T> {
 public:
  DeepLora(const AdapterSite<T>& site, const Config& c, index_t depth, double eps, index_t width)
      : Adapter<T>(site, c) {
    const index_t m = site.weight.dim(0);
    const index_t n = site.weight.dim(1);
    for (index_t l = 1; l <= depth; ++l) {
      const std::string name = "factor." + std::to_string(l);
      Rng rng = site.rng.split(name);
      const Tensor<T> q = haar_orthogonal<T>(rng, l == depth ? m : width, l == 1 ? n : width);
      factors_.push_back(this->parameter(name, scale(q, eps)));
    }
    // A pair of thin factors, unless the dense product is smaller.
    dense_ = width * (m + n) >= m * n;
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    WeightUpdate<T> u = exact_pair();
    if (dense_) return {{}, {}, matmul(u.left, u.right)};
    return u;
  }

 private:
  WeightUpdate<T> exact_pair() const override {
    Var<T> right = factors_.front();
    for (std::size_t l = 1; l + 1 < factors_.size(); ++l) right = matmul(factors_[l], right);
    return {factors_.back(), right, {}};
  }

  std::vector<Var<T>> factors_;  // F_1 (w, n), F_2 (w, w), ..., F_L (m, w)
  bool dense_;
};

template <class T>
class CompressedDeepLora : public Adapter<T> {
 public:
  CompressedDeepLora(const AdapterSite<T>& site, const Config& c, index_t depth, double eps)
      : Adapter<T>(site, c), gamma_(c.real("gamma", 0, 1e6)) {
    if (site.gradient == nullptr) {
      throw ValueError("form compressed: the gradient at the start is needed");
    }
    const Rng rng = site.rng.split("outer");
    const OuterFactors<T> outer =
        outer_factors_of_isometry(site.gradient->u, site.gradient->v, rng);
    left_ = this->parameter("left", outer.left);
    right_ = this->parameter("right", outer.right);
    for (index_t l = 1; l <= depth; ++l) {
      cores_.push_back(this->parameter("core." + std::to_string(l),
                                       Tensor<T>::eye(outer.left.dim(1), static_cast<T>(eps))));
    }
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    Var<T> core = cores_.front();
    for (std::size_t l = 1; l < cores_.size(); ++l) core = matmul(cores_[l], core);
    return {left_, matmul(core, right_, false, true), {}};
  }

  std::vector<std::pair<std::string, double>> rate_factors() const override {
    return {{"left", gamma_}, {"right", gamma_}};
  }

 private:
  Var<T> left_, right_;  // (m, 2h), (n, 2h)
  std::vector<Var<T>> cores_;
  double gamma_;
};

/// Singular vectors that the compressed form takes from the gradient. Its options are checked here,
/// before there is one.
index_t probed(const Config& c) {
  if (c.text("form") != "compressed") return 0;
  const index_t rank = c.integer("rank", 1, 1 << 20);
  if (rank % 2 != 0) {
    throw ValueError(
        fmt::format("rank: form compressed needs an even one, twice the gradient's; got {}", rank));
  }
  c.real("gamma", 0, 1e6);
  c.integer("depth", 3, 1000);
  if (!(c.real("eps") > 0)) {
    throw ValueError(fmt::format("eps: expected a number above 0; got {}", c.real("eps")));
  }
  return rank / 2;
}

template <class T>
std::unique_ptr<Adapter<T>> make(const AdapterSite<T>& site, const Config& c) {
  const std::string& form = c.text("form", {"narrow", "full", "compressed"});
  const index_t depth = c.integer("depth", 3, 1000);
  const double eps = c.real("eps");
  if (!(eps > 0)) throw ValueError(fmt::format("eps: expected a number above 0; got {}", eps));
  if (form == "full") {
    const index_t width =
        c.flag("wide") ? std::max(site.in(), site.out()) : std::min(site.in(), site.out());
    return std::make_unique<DeepLora<T>>(site, c, depth, eps, width);
  }
  const index_t rank = site.rank(c);
  if (form == "narrow") return std::make_unique<DeepLora<T>>(site, c, depth, eps, rank);
  return std::make_unique<CompressedDeepLora<T>>(site, c, depth, eps);
}

}  // namespace

void register_deep_lora() {
  register_adapter(
      {"deep-lora",
       "a product of three or more factors",
       {rank_option(),
        {"form", "narrow", "narrow, full or compressed"},
        {"wide", false, "form full: the width is the larger side"},
        {"depth", index_t{3}, "factors"},
        {"eps", 1e-3, "scale of the initial factors"},
        {"gamma", 1e-2, "form compressed: step of the outer factors over that of the inner ones"}},
       true,
       false,
       probed,
       {{"rank", "form", {"narrow", "compressed"}},
        {"wide", "form", {"full"}},
        {"gamma", "form", {"compressed"}}}},
      [](const auto& site, const Config& c) { return make(site, c); });
}

}  // namespace parsimony
