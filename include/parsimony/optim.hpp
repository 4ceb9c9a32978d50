// Optimisers over named parameters, in groups with their own step size and weight decay.
//
// The formulas are PyTorch's: eps is added outside the root, Adam and AdamW correct the bias of
// both moments, AdamW's decay is decoupled from the gradient, the others add λw to it. The
// discrepant learning rate of the paper is a group with rate_factor = γ.
#pragma once

#include <parsimony/module.hpp>

#include <string>
#include <utility>
#include <vector>

namespace parsimony {

template <class T>
struct ParameterGroup {
  NamedParameters<T> parameters;
  /// The group's step is rate_factor times the learning rate.
  double rate_factor = 1.0;
  double weight_decay = 0.0;
};

template <class T>
class Optimizer {
 public:
  /// @throws ValueError on a learning rate or decay that is negative or not finite, or a name or a
  /// parameter given twice.
  Optimizer(std::vector<ParameterGroup<T>> groups, double learning_rate);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Updates every parameter that has a gradient, in place, and drops the gradients.
  void step();
  /// Drops the gradients without a step.
  void zero_grad();

  double learning_rate() const { return learning_rate_; }
  /// @throws ValueError on a rate that is negative or not finite.
  void set_learning_rate(double value);
  /// Steps taken.
  index_t steps() const { return static_cast<index_t>(count_.item()); }

  /// Moments by name ("adam.m.W1"), written in place by a resumed run; and the count of steps.
  std::vector<std::pair<std::string, Tensor<T>>> state() const;
  const Tensor<double>& counter() const { return count_; }

 protected:
  /// One parameter's buffers; `slots` are as many as slot_names() has entries.
  struct Update {
    T* w;
    const T* g;
    T* const* slots;
    index_t size;
    double rate;
    double weight_decay;
    index_t step;  // 1 for the first
  };
  virtual void update(const Update& u) const = 0;
  /// Allocates zeroed slots for every parameter; called by the constructors of the subclasses.
  void allocate_slots(const std::vector<std::string>& names);

 private:
  struct Item {
    std::string name;
    Var<T> var;
    double rate_factor;
    double weight_decay;
    std::vector<Tensor<T>> slots;
  };
  std::vector<Item> items_;
  std::vector<std::string> slot_names_;
  double learning_rate_;
  Tensor<double> count_;
};

/// One group with the defaults.
template <class T>
std::vector<ParameterGroup<T>> one_group(NamedParameters<T> parameters, double weight_decay = 0.0) {
  return {ParameterGroup<T>{std::move(parameters), 1.0, weight_decay}};
}

/// Scales the gradients so that their joint Frobenius norm is at most `max_norm`; returns the norm
/// before. Parameters without a gradient count as 0.
/// @throws ValueError unless max_norm > 0; NumericalError if the norm is not finite.
template <class T>
double clip_gradients(const NamedParameters<T>& parameters, double max_norm);

/// w ← w - η (g + λw), or with heavy-ball momentum v ← μv + g + λw, w ← w - ηv.
template <class T>
class GradientDescent : public Optimizer<T> {
 public:
  GradientDescent(std::vector<ParameterGroup<T>> groups, double learning_rate,
                  double momentum = 0.0);

 protected:
  void update(const typename Optimizer<T>::Update& u) const override;

 private:
  double momentum_;
};

/// v ← αv + (1-α)g², w ← w - η g / (√v + eps). @throws ValueError unless α is in [0, 1) and eps >=
/// 0.
template <class T>
class RmsProp : public Optimizer<T> {
 public:
  RmsProp(std::vector<ParameterGroup<T>> groups, double learning_rate, double alpha = 0.99,
          double eps = 1e-8);

 protected:
  void update(const typename Optimizer<T>::Update& u) const override;

 private:
  double alpha_, eps_;
};

/// Adam (Kingma & Ba 2015); `decoupled` makes it AdamW (Loshchilov & Hutter 2019). @throws
/// ValueError unless the betas are in [0, 1) and eps >= 0.
template <class T>
class Adam : public Optimizer<T> {
 public:
  Adam(std::vector<ParameterGroup<T>> groups, double learning_rate, double beta1 = 0.9,
       double beta2 = 0.999, double eps = 1e-8, bool decoupled = false);

 protected:
  void update(const typename Optimizer<T>::Update& u) const override;

 private:
  double beta1_, beta2_, eps_;
  bool decoupled_;
};

template <class T>
class AdamW : public Adam<T> {
 public:
  AdamW(std::vector<ParameterGroup<T>> groups, double learning_rate, double beta1 = 0.9,
        double beta2 = 0.999, double eps = 1e-8)
      : Adam<T>(std::move(groups), learning_rate, beta1, beta2, eps, true) {}
};

/// Factor of the learning rate: linear from 0 to 1 over `warmup_steps`, then linear from 1 to
/// `final_factor` at `total_steps`, constant after.
struct LinearSchedule {
  index_t warmup_steps = 0;
  index_t total_steps = 0;
  double final_factor = 1.0;
  /// @param step 0 for the first update.
  double factor(index_t step) const;
};

}  // namespace parsimony
