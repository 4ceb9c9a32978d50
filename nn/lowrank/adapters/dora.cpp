// DoRA (Liu et al. 2024, arXiv 2402.09353): the weight's rows (one an output) keep their directions
// and lengths apart, W + ΔW = diag(m / ‖V‖) V with V = W + s B A and trained lengths m = ‖W‖ at the
// start; s, A and B as PEFT's LoRA. The norm ‖V‖ of a row is that of the step, and a constant for
// the gradient. An embedding's outputs are its columns. An output whose weights are all 0 stays 0.
#include <cmath>

#include "adapters.hpp"

namespace parsimony {

namespace {

template <class T>
class Dora : public Adapter<T> {
 public:
  Dora(const AdapterSite<T>& site, const Config& c)
      : Adapter<T>(site, c), weight_(site.weight), squares_({site.out()}) {
    const index_t r = site.rank(c);
    scale_ = c.real("alpha") / static_cast<double>(r);
    const double bound = 1.0 / std::sqrt(static_cast<double>(site.in()));
    Rng rng = site.rng.split("A");
    down_ = this->parameter("A", rng.uniform<T>({r, site.in()}, -bound, bound));
    up_ = this->parameter("B", Tensor<T>::zeros({site.out(), r}));
    const Tensor<T> rows = site.matrix();
    Tensor<T> lengths({site.out()});
    for (index_t o = 0; o < site.out(); ++o) {
      const double square = dot(rows.rows(o, o + 1), rows.rows(o, o + 1));
      squares_.mutable_data()[o] = square;
      lengths.mutable_data()[o] = static_cast<T>(std::sqrt(square));
    }
    lengths_ = this->parameter("magnitude", lengths);
  }

  WeightUpdate<T> update() const override {
    const Var<T> weight(weight_);
    return {{}, {}, sub(scaled(weight), weight)};
  }
  bool is_sum() const override { return true; }
  LayerWeight<T> applied(const Var<T>& weight) const override {
    return {{}, {{}, {}, scaled(weight)}};
  }
  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                Pass& pass) const override {
    const WeightUpdate<T> u = low_rank();
    const double p = pass.dropout(this->dropout());
    if (p == 0) return scaled_low_rank_linear(x, weight, bias, u.left, u.right, gain());
    const Var<T> thin =
        matmul(parsimony::dropout(x, p, pass.next(), pass.places(x)), u.right, false, true);
    const Var<T> y = add(parsimony::linear(x, weight), matmul(thin, u.left, false, true));
    return bias.defined() ? add(mul(y, gain()), bias) : mul(y, gain());
  }
  Var<T> rows(const Tensor<std::int64_t>& ids, const Var<T>& weight) const override {
    const WeightUpdate<T> u = low_rank();
    const Var<T> sum = add(gather_rows(weight, ids), matmul(gather_rows(u.left, ids), u.right));
    return mul(sum, gain());
  }

 private:
  WeightUpdate<T> exact_pair() const override {
    throw ValueError(
        "dora: it scales the rows of the frozen weight, which no low-rank pair does; merge it");
  }
  /// The weight with the update, its rows (for an embedding columns) at their magnitudes.
  Var<T> scaled(const Var<T>& weight) const {
    const WeightUpdate<T> u = low_rank();
    const index_t out = up_.dim(0);
    const Var<T> g = reshape(gain(), this->rows_are_inputs() ? Shape{1, out} : Shape{out, 1});
    return mul(add(weight, matmul(u.left, u.right)), g);
  }
  WeightUpdate<T> low_rank() const { return this->pair(scale(up_, scale_), down_); }

  /// m / ‖V‖ (out), with ‖w + s b A‖² = ‖w‖² + 2 s b·(A w) + s² b (A Aᵀ) bᵀ for each row w of W and
  /// b of B: V is not formed.
  Var<T> gain() const {
    const Tensor<T>& a = down_.value();
    const Tensor<T> b = scale(up_.value(), scale_);
    const Tensor<T> mixed =
        this->rows_are_inputs() ? transpose(matmul(a, weight_)) : matmul(weight_, a, false, true);
    const Tensor<T> own = matmul(b, matmul(a, a, false, true));
    Tensor<T> inverse({b.dim(0)});
    for (index_t o = 0; o < b.dim(0); ++o) {
      double square = squares_.data()[o];
      for (index_t k = 0; k < b.dim(1); ++k) {
        const index_t at = o * b.dim(1) + k;
        square += static_cast<double>(b.data()[at]) * (2.0 * static_cast<double>(mixed.data()[at]) +
                                                       static_cast<double>(own.data()[at]));
      }
      inverse.mutable_data()[o] = static_cast<T>(square > 0 ? 1.0 / std::sqrt(square) : 0.0);
    }
    return mul(lengths_, Var<T>(inverse));
  }

  Tensor<T> weight_;        // the frozen weight, not a copy of it
  Tensor<double> squares_;  // ‖W‖² of its rows
  Var<T> up_, down_, lengths_;
  double scale_;
};

}  // namespace

void register_dora() {
  register_adapter<Dora>(
      {"dora",
       "LoRA of the directions of the frozen weight's rows, their lengths trained apart",
       {rank_option(), alpha_option(), dropout_option()}});
}

}  // namespace parsimony
