// What all optimisers share (groups, slots, the step) and the update of each.
#include <parsimony/error.hpp>
#include <parsimony/optim.hpp>

#include <array>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "kernels/optimizer_steps.hpp"

namespace parsimony {

namespace {

void require_rate(const char* what, double value) {
  if (!(value >= 0) || !std::isfinite(value)) {
    throw ValueError(fmt::format("optimizer: expected a finite {} >= 0; got {}", what, value));
  }
}

void require_share(const char* what, double value) {
  if (!(value >= 0 && value < 1)) {
    throw ValueError(fmt::format("optimizer: expected {} in [0, 1); got {}", what, value));
  }
}

}  // namespace

template <class T>
Optimizer<T>::Optimizer(std::vector<ParameterGroup<T>> groups, double learning_rate)
    : learning_rate_(learning_rate), count_(Tensor<double>::scalar(0)) {
  require_rate("learning rate", learning_rate);
  std::set<std::string> names;
  std::map<const detail::Node<T>*, std::string> name_of;
  for (auto& group : groups) {
    require_rate("rate factor", group.rate_factor);
    require_rate("weight decay", group.weight_decay);
    for (auto& [name, var] : group.parameters) {
      if (!names.insert(name).second) {
        throw ValueError(fmt::format("optimizer: parameter '{}' is given twice", name));
      }
      if (!var.is_leaf()) {
        throw ValueError(fmt::format(
            "optimizer: '{}' is the result of {}, not a leaf; a step would not reach it", name,
            var.op()));
      }
      const auto [other, is_new] = name_of.emplace(var.node().get(), name);
      if (!is_new) {
        throw ValueError(
            fmt::format("optimizer: '{}' and '{}' are one parameter; a step would move it twice",
                        other->second, name));
      }
      items_.push_back({name, var, group.rate_factor, group.weight_decay, {}});
    }
  }
}

template <class T>
void Optimizer<T>::allocate_slots(const std::vector<std::string>& names) {
  slot_names_ = names;
  for (Item& item : items_) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      item.slots.push_back(Tensor<T>::zeros(item.var.shape()));
    }
  }
}

template <class T>
double clip_gradients(const NamedParameters<T>& parameters, double max_norm) {
  if (!(max_norm > 0)) {
    throw ValueError(fmt::format("clip_gradients: expected a norm above 0; got {}", max_norm));
  }
  double sum = 0;
  for (const auto& [name, var] : parameters) {
    if (var.has_grad()) sum += dot(var.grad(), var.grad());
  }
  const double norm = std::sqrt(sum);
  if (!std::isfinite(norm)) throw NumericalError("the norm of the gradient is not finite");
  if (norm <= max_norm) return norm;
  for (const auto& [name, var] : parameters) {
    if (var.has_grad()) var.node()->grad = scale(var.grad(), max_norm / norm);
  }
  return norm;
}

template <class T>
void Optimizer<T>::step() {
  double& count = *count_.mutable_data();
  count += 1;
  std::array<T*, 2> slots{};
  for (Item& item : items_) {
    if (!item.var.has_grad()) continue;
    for (std::size_t i = 0; i < item.slots.size(); ++i) slots[i] = item.slots[i].mutable_data();
    update({item.var.mutable_data(), item.var.grad().data(), slots.data(), item.var.value().size(),
            learning_rate_ * item.rate_factor, item.weight_decay, static_cast<index_t>(count)});
    item.var.zero_grad();
  }
}

template <class T>
void Optimizer<T>::set_learning_rate(double value) {
  require_rate("learning rate", value);
  learning_rate_ = value;
}

template <class T>
void Optimizer<T>::zero_grad() {
  for (Item& item : items_) item.var.zero_grad();
}

template <class T>
std::vector<std::pair<std::string, Tensor<T>>> Optimizer<T>::state() const {
  std::vector<std::pair<std::string, Tensor<T>>> out;
  for (const Item& item : items_) {
    for (std::size_t i = 0; i < item.slots.size(); ++i) {
      out.emplace_back(fmt::format("{}.{}", slot_names_[i], item.name), item.slots[i]);
    }
  }
  return out;
}

template <class T>
GradientDescent<T>::GradientDescent(std::vector<ParameterGroup<T>> groups, double learning_rate,
                                    double momentum)
    : Optimizer<T>(std::move(groups), learning_rate), momentum_(momentum) {
  require_rate("momentum", momentum);
  if (momentum > 0) this->allocate_slots({"momentum"});
}

template <class T>
void GradientDescent<T>::update(const typename Optimizer<T>::Update& u) const {
  if (momentum_ > 0) {
    kernels::momentum_step(u.size, u.w, u.g, u.slots[0], u.rate, u.weight_decay, momentum_);
  } else {
    kernels::gradient_step(u.size, u.w, u.g, u.rate, u.weight_decay);
  }
}

template <class T>
RmsProp<T>::RmsProp(std::vector<ParameterGroup<T>> groups, double learning_rate, double alpha,
                    double eps)
    : Optimizer<T>(std::move(groups), learning_rate), alpha_(alpha), eps_(eps) {
  require_share("alpha", alpha);
  require_rate("eps", eps);
  this->allocate_slots({"square_average"});
}

template <class T>
void RmsProp<T>::update(const typename Optimizer<T>::Update& u) const {
  kernels::rms_prop_step(u.size, u.w, u.g, u.slots[0], u.rate, u.weight_decay, alpha_, eps_);
}

template <class T>
Adam<T>::Adam(std::vector<ParameterGroup<T>> groups, double learning_rate, double beta1,
              double beta2, double eps, bool decoupled)
    : Optimizer<T>(std::move(groups), learning_rate),
      beta1_(beta1),
      beta2_(beta2),
      eps_(eps),
      decoupled_(decoupled) {
  require_share("beta1", beta1);
  require_share("beta2", beta2);
  require_rate("eps", eps);
  this->allocate_slots({"first_moment", "second_moment"});
}

template <class T>
void Adam<T>::update(const typename Optimizer<T>::Update& u) const {
  const auto t = static_cast<double>(u.step);
  kernels::adam_step(u.size, u.w, u.g, u.slots[0], u.slots[1],
                     {u.rate, u.weight_decay, beta1_, beta2_, eps_, 1 - std::pow(beta1_, t),
                      1 - std::pow(beta2_, t), decoupled_});
}

double LinearSchedule::factor(index_t step) const {
  if (step < warmup_steps) return static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (step >= total_steps) return final_factor;
  const double done =
      static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  return 1.0 + (final_factor - 1.0) * done;
}

#define PARSIMONY_INSTANTIATE(T)     \
  template class Optimizer<T>;       \
  template class GradientDescent<T>; \
  template class RmsProp<T>;         \
  template class Adam<T>;            \
  template double clip_gradients(const NamedParameters<T>&, double);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
