// Deep LoRA: ΔW as a product of L >= 3 factors.
//
// narrow:      ΔW = F_L ··· F_1 through a width r, all factors ε times Haar-orthogonal.
// full:        the same through width min(m, n), or max(m, n).
// compressed:  ΔW = U C_L ··· C_1 Vᵀ, C_l(0) = ε I, with U, V from the gradient at the start
// (paper,
//              sections on Deep LoRA); U and V train with γ times the step of the inner factors.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

namespace {

template <class T>
class DeepLora : public Adapter<T> {
 public:
  DeepLora(const AdapterSite<T>& site, const AdapterOptions& o, index_t width)
      : Adapter<T>(site.weight.shape()) {
    const index_t m = site.weight.dim(0);
    const index_t n = site.weight.dim(1);
    for (index_t l = 1; l <= o.depth; ++l) {
      const std::string name = "factor." + std::to_string(l);
      Rng rng = site.rng.split(name);
      const Tensor<T> q = haar_orthogonal<T>(rng, l == o.depth ? m : width, l == 1 ? n : width);
      factors_.push_back(this->parameter(name, scale(q, o.eps)));
    }
    // A pair of thin factors, unless the dense product is smaller.
    dense_ = width * (m + n) >= m * n;
  }

  WeightUpdate<T> update() const override {
    Var<T> right = factors_.front();
    for (std::size_t l = 1; l + 1 < factors_.size(); ++l) right = matmul(factors_[l], right);
    if (dense_) return {{}, {}, matmul(factors_.back(), right)};
    return {factors_.back(), right, {}};
  }

  std::string name() const override { return "deep_lora"; }

 private:
  std::vector<Var<T>> factors_;  // F_1 (w, n), F_2 (w, w), ..., F_L (m, w)
  bool dense_;
};

template <class T>
class CompressedDeepLora : public Adapter<T> {
 public:
  CompressedDeepLora(const AdapterSite<T>& site, const AdapterOptions& o)
      : Adapter<T>(site.weight.shape()) {
    if (site.gradient == nullptr) {
      throw ValueError("deep-lora, form compressed: the gradient at the start is needed");
    }
    const Rng rng = site.rng.split("outer");
    const OuterFactors<T> outer =
        outer_factors_of_isometry(site.gradient->u, site.gradient->v, rng);
    left_ = this->parameter("left", outer.left);
    right_ = this->parameter("right", outer.right);
    for (index_t l = 1; l <= o.depth; ++l) {
      cores_.push_back(this->parameter("core." + std::to_string(l),
                                       Tensor<T>::eye(outer.left.dim(1), static_cast<T>(o.eps))));
    }
  }

  WeightUpdate<T> update() const override {
    Var<T> core = cores_.front();
    for (std::size_t l = 1; l < cores_.size(); ++l) core = matmul(cores_[l], core);
    return {left_, matmul(core, right_, false, true), {}};
  }

  std::string name() const override { return "deep_lora"; }
  std::vector<std::string> slow_parameters() const override { return {"left", "right"}; }

 private:
  Var<T> left_, right_;  // (m, 2h), (n, 2h)
  std::vector<Var<T>> cores_;
};

void check(const AdapterOptions& o, const Shape& shape) {
  const index_t side = std::min(shape[0], shape[1]);
  const auto refuse = [](const std::string& what) { throw ValueError("deep-lora: " + what); };
  if (o.form != "narrow" && o.form != "full" && o.form != "compressed") {
    refuse(fmt::format("expected form narrow, full or compressed; got '{}'", o.form));
  }
  if (o.depth < 3) refuse(fmt::format("expected a depth of at least 3; got {}", o.depth));
  if (!(o.eps > 0)) refuse(fmt::format("expected eps > 0; got {}", o.eps));
  if (o.form != "full" && (o.rank < 1 || o.rank > side)) {
    refuse(
        fmt::format("expected a rank in 1..{} for a weight {}; got {}", side, shape.str(), o.rank));
  }
  if (o.form == "compressed" && o.rank % 2 != 0) {
    refuse(fmt::format("form compressed needs an even rank, twice the gradient's; got {}", o.rank));
  }
}

}  // namespace

void register_deep_lora();
void register_deep_lora() {
  register_adapter(
      "deep-lora",
      [](const auto& site, const AdapterOptions& o) {
        using T = typename std::decay_t<decltype(site.weight)>::value_type;
        const Shape& shape = site.weight.shape();
        check(o, shape);
        if (o.form == "compressed") {
          return std::unique_ptr<Adapter<T>>(std::make_unique<CompressedDeepLora<T>>(site, o));
        }
        const index_t full = o.wide ? std::max(shape[0], shape[1]) : std::min(shape[0], shape[1]);
        return std::unique_ptr<Adapter<T>>(
            std::make_unique<DeepLora<T>>(site, o, o.form == "full" ? full : o.rank));
      },
      [](const AdapterOptions& o) { return o.form == "compressed" ? o.rank / 2 : index_t{0}; });
}

}  // namespace parsimony
