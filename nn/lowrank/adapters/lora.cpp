// LoRA (Hu et al. 2022, arXiv 2106.09685): ΔW = s B A with A (r, in), B (out, r), and two small
// changes of it.
//
// lora       as the paper's baseline: A = 0, B ~ N(0, 1), s = 1; as PEFT: A Kaiming-uniform with
//            bound 1/√in, B = 0 (on an embedding A = 0, B ~ N(0, 1)), s = alpha / r
// rslora     PEFT's, with s = alpha / √r (Kalajdzievski 2023, arXiv 2312.03732)
// lora-plus  PEFT's, the step of B `ratio` times that of A (Hayou et al. 2024, arXiv 2402.12354)
#include <cmath>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class Lora : public Adapter<T> {
 public:
  Lora(const AdapterSite<T>& site, const Config& c) : Adapter<T>(site, c) {
    const index_t r = site.rank(c);
    const bool paper = c.has("init") && c.text("init", {"paper", "peft"}) == "paper";
    const double size = static_cast<double>(r);
    scale_ = paper ? 1.0 : c.real("alpha") / (site.method == "rslora" ? std::sqrt(size) : size);
    if (c.has("ratio")) ratio_ = c.real("ratio", 0, 1e6);
    const double bound = 1.0 / std::sqrt(static_cast<double>(site.in()));
    const Shape a{r, site.in()};
    const Shape b{site.out(), r};
    Rng a_rng = site.rng.split("A");
    Rng b_rng = site.rng.split("B");
    const bool kaiming = !paper && !site.rows_are_inputs;
    a_ = this->parameter("A", kaiming ? a_rng.uniform<T>(a, -bound, bound) : Tensor<T>::zeros(a));
    b_ = this->parameter("B", kaiming ? Tensor<T>::zeros(b) : b_rng.normal<T>(b));
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    return this->pair(scale_ == 1.0 ? b_ : scale(b_, scale_), a_);
  }
  std::vector<std::pair<std::string, double>> rate_factors() const override {
    if (ratio_ == 1.0) return {};
    return {{"B", ratio_}};
  }

 private:
  Var<T> a_, b_;
  double scale_;
  double ratio_ = 1.0;
};

}  // namespace

void register_lora() {
  register_adapter<Lora>(
      {"lora",
       "a pair of thin matrices",
       {rank_option(),
        {"init", "paper", "paper (N(0, 1) on the output side, no scaling) or peft"},
        {"alpha", 8.0, "init peft: scaling times rank"},
        dropout_option()},
       true,
       false,
       {},
       {{"alpha", "init", {"peft"}}}});
  register_adapter<Lora>(
      {"rslora",
       "LoRA scaled by 1/sqrt(rank), so that large ranks learn",
       {rank_option(), {"alpha", 8.0, "scaling times the root of the rank"}, dropout_option()}});
  register_adapter<Lora>({"lora-plus",
                          "LoRA whose output side takes larger steps",
                          {rank_option(),
                           alpha_option(),
                           {"ratio", 16.0, "step of the output side over that of the input side"},
                           dropout_option()}});
}

}  // namespace parsimony
