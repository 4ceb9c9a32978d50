// LoRA (Hu et al. 2022): ΔW = s B A with A on the input side.
//
// As the paper's baseline: A = 0, B ~ N(0, 1), s = 1. As PEFT: A Kaiming-uniform with bound
// 1/√inputs, B = 0, s = alpha / r, dropout on the adapter's input.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

template <class T>
class Lora : public Adapter<T> {
 public:
  Lora(const AdapterSite<T>& site, const AdapterOptions& o)
      : Adapter<T>(site.weight.shape()), dropout_(o.dropout), inputs_first_(site.rows_are_inputs) {
    const bool peft = o.init == "peft";
    if (!peft && o.init != "paper") {
      throw ValueError(fmt::format("init: expected paper or peft; got '{}'", o.init));
    }
    if (o.rank < 1) throw ValueError(fmt::format("rank: expected at least 1; got {}", o.rank));
    scale_ = peft ? o.alpha / static_cast<double>(o.rank) : 1.0;
    const index_t in = site.weight.dim(inputs_first_ ? 0 : 1);
    const index_t out = site.weight.dim(inputs_first_ ? 1 : 0);
    Rng rng_a = site.rng.split("A");
    Rng rng_b = site.rng.split("B");
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    a_ = this->parameter(
        "A", peft ? rng_a.uniform<T>({o.rank, in}, -bound, bound) : Tensor<T>::zeros({o.rank, in}));
    b_ = this->parameter("B",
                         peft ? Tensor<T>::zeros({out, o.rank}) : rng_b.normal<T>({out, o.rank}));
  }

  WeightUpdate<T> update() const override {
    const Var<T> b = scale_ == 1.0 ? b_ : scale(b_, scale_);
    if (inputs_first_) return {transpose(a_), transpose(b), {}};
    return {b, a_, {}};
  }

  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                Pass& pass) const override {
    const double p = pass.dropout(dropout_);
    if (p == 0) return Adapter<T>::linear(x, weight, bias, pass);
    const WeightUpdate<T> u = update();
    const Var<T> rows = matmul(dropout(x, p, pass.next()), u.right, false, true);
    return add(parsimony::linear(x, weight, bias), matmul(rows, u.left, false, true));
  }

  std::string name() const override { return "lora"; }

 private:
  Var<T> a_, b_;
  double scale_;
  double dropout_;
  bool inputs_first_;
};

}  // namespace

void register_lora();
void register_lora() {
  register_adapter(
      "lora",
      [](const auto& site, const AdapterOptions& o) {
        using T = typename std::decay_t<decltype(site.weight)>::value_type;
        return std::unique_ptr<Adapter<T>>(std::make_unique<Lora<T>>(site, o));
      },
      [](const AdapterOptions&) { return index_t{0}; });
}

}  // namespace parsimony
