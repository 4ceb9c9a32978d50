// MoRA (Jiang et al. 2024, arXiv 2405.12130): ΔW = D M C with one trained square matrix M, 0 at the
// start, of as many numbers as a LoRA pair of rank r: its side is √((in + out) r), rounded (and
// made even for type 6). Types 1 to 4 are a LoRA pair of rank `side`; type 6 has full rank.
#include <cmath>

#include <fmt/format.h>

#include "adapters.hpp"
#include "kernels/square_update.hpp"

namespace parsimony {

namespace {

template <class T>
class Mora : public Adapter<T> {
 public:
  Mora(const AdapterSite<T>& site, const Config& c)
      : Adapter<T>(site, c),
        in_(site.in()),
        out_(site.out()),
        type_(static_cast<int>(c.integer("mora_type", 1, 6))),
        side_(side(site, c, type_)),
        operators_(type_, in_, out_, side_) {
    square_ = this->parameter("M", Tensor<T>::zeros({side_, side_}));
  }

  bool is_sum() const override { return true; }
  WeightUpdate<T> update() const override {
    if (type_ != 6) return exact_pair();
    // Dᵀ and C of ΔW's rows are those of a layer that is shown the identity.
    return {{},
            {},
            make_op("mora", updated(nullptr), {square_},
                    [this](const Tensor<T>&, const Tensor<T>& d, Gradients<T>& g) {
                      const Tensor<T> x = Tensor<T>::eye(in_);
                      g.add(0, [&] { return gradient(x, transpose(d), in_); });
                    })};
  }
  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias, Pass&) const override {
    const Tensor<T> w = weight.value();
    const Var<T> b = bias.defined() ? bias.detach() : bias;
    const Var<T> y = parsimony::linear(x.detach(), Var<T>(updated(w.data())), b);
    const Var<T> inputs[] = {x, square_, bias};
    return make_op("mora", y.value(), inputs, bias.defined() ? 3 : 2,
                   [this, w, x = x.value(), biased = bias.defined()](
                       const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                     d.add(0, [&] { return matmul(dy, updated(w.data())); });
                     d.add(1, [&] { return gradient(x, dy, x.size() / in_); });
                     if (biased) d.add(2, [&] { return dy; });
                   });
  }

 private:
  static index_t side(const AdapterSite<T>& site, const Config& c, int type) {
    const auto numbers =
        static_cast<double>((site.in() + site.out()) * c.integer("rank", 1, 1 << 30));
    auto side = static_cast<index_t>(std::sqrt(numbers) + 0.5);
    if (type == 5) throw ValueError("mora_type: expected 1, 2, 3, 4 or 6; got 5");
    if (type == 6) side -= side % 2;
    const index_t most = std::min(site.in(), site.out());
    if (side >= 1 && side <= most) return side;
    throw ValueError(fmt::format("rank: {} makes a square matrix of side {}; expected 1..{}",
                                 c.integer("rank"), side, most));
  }
  /// (w or 0) + D M C (out, in)
  Tensor<T> updated(const T* w) const {
    Tensor<T> out({out_, in_});
    operators_.updated(w, square_.value().data(), out.mutable_data());
    return out;
  }
  Tensor<T> gradient(const Tensor<T>& x, const Tensor<T>& dy, index_t rows) const {
    Tensor<T> inner({rows * operators_.parts(), side_});
    Tensor<T> outer(inner.shape());
    operators_.compress(rows, x.data(), inner.mutable_data());
    operators_.gather(rows, dy.data(), outer.mutable_data());
    return matmul(outer, inner, true, false);
  }
  WeightUpdate<T> exact_pair() const override {
    if (type_ == 6) {
      throw ValueError(
          "mora: type 6 is of full rank, so that no LoRA pair is its update; merge it");
    }
    Tensor<T> ones = Tensor<T>::eye(in_);
    Tensor<T> down({in_, side_});
    operators_.compress(in_, ones.data(), down.mutable_data());
    Tensor<std::int64_t> rows({out_});
    for (index_t o = 0; o < out_; ++o) rows.mutable_data()[o] = operators_.row_of(o);
    return {gather_rows(square_, rows), Var<T>(transpose(down)), {}};
  }

  index_t in_, out_;
  int type_;
  index_t side_;
  kernels::SquareUpdate<T> operators_;
  Var<T> square_;
};

}  // namespace

void register_mora() {
  AdapterInfo info{
      "mora",
      "one square matrix between fixed foldings of inputs and outputs",
      {{"rank", index_t{8}, "the rank of the LoRA pair with as many numbers"},
       {"mora_type", index_t{6}, "operators: 1, 2, 3, 4 (low rank) or 6 (full rank)"}}};
  info.embeddings = false;
  register_adapter<Mora>(info);
}

}  // namespace parsimony
