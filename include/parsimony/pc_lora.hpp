// PC-LoRA (Hwang et al. 2024, arXiv 2406.09117): the weight of a layer decays to nothing while a
// low-rank pair learns to take its place,
//
//   h = λ(t) (W0 x + b0) + B A x + c,
//
// A Kaiming-uniform, B = 0, c = 0; W0 and b0 are frozen, A, B and c train, λ goes from 1 to 0. At λ
// = 0 the layer is a pair, and W0 is deleted. There is no scaling of B A: what LoRA's alpha / r
// would do, B learns.
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/factored.hpp>

#include <map>
#include <string>
#include <vector>

namespace parsimony {

/// λ at u = t / q, q the step from which it is 0: "linear" 1 - u, "sine" 1 - sin(πu/2), "1-cosine"
/// cos(πu/2), "identity" 1. @throws ValueError on another name.
double decay_factor(const std::string& schedule, double u);
std::vector<std::string> decay_schedules();

template <class T>
class PcLora : public Adapter<T> {
 public:
  /// @throws ValueError unless 1 <= rank <= min(out, in).
  PcLora(const Shape& weight, index_t rank, const Rng& rng);

  /// λ, 1 at first. @throws ValueError outside [0, 1].
  void set_share(double share);
  /// With λ = 0 the weight is not read.
  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias,
                Pass& pass) const override;
  /// B A, without what is lost of the weight.
  WeightUpdate<T> update() const override { return {up, down, {}}; }

  Var<T> down, up, bias;  // A (r, in), B (out, r), c (out): parameters "A", "B", "bias"

 private:
  double share_ = 1;
};

/// Freezes the model and puts a PcLora on each of the layers that `ranks` names, each from its own
/// stream of `rng`. @throws ValueError naming a layer that is not there, is factored, or has no
/// such rank.
template <class T>
void attach_pc_lora(Module<T>& model, const FactoredRanks& ranks, const Rng& rng);
/// λ of all.
template <class T>
void set_base_share(Module<T>& model, double share);
/// Makes every layer with a PcLora a factored layer of the same parameters, which an optimiser goes
/// on with; the weights are let go.
template <class T>
void drop_bases(Module<T>& model);

extern template class PcLora<float>;
extern template class PcLora<double>;

}  // namespace parsimony
