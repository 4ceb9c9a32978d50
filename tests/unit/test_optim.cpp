// Optimisers against PyTorch's trajectories, case by case, and what they promise beside: groups,
// schedules, state that survives a restart, gradients dropped, bad settings refused.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "support/catch.hpp"
#include "support/fixtures.hpp"

using namespace parsimony;

namespace {

template <class T>
using Groups = std::vector<ParameterGroup<T>>;

/// The optimiser of a fixture's case; null for an unknown name.
template <class T>
std::unique_ptr<Optimizer<T>> make_optimizer(const std::string& name, Groups<T> groups) {
  const auto with_decay = [&](double decay) {
    for (auto& group : groups) group.weight_decay = decay;
    return groups;
  };
  if (name == "sgd") return std::make_unique<GradientDescent<T>>(groups, 0.05);
  if (name == "sgd_weight_decay") {
    return std::make_unique<GradientDescent<T>>(with_decay(0.01), 0.05);
  }
  if (name == "sgd_momentum") return std::make_unique<GradientDescent<T>>(groups, 0.05, 0.9);
  if (name == "rmsprop") return std::make_unique<RmsProp<T>>(groups, 0.01, 0.99, 1e-8);
  if (name == "adam") return std::make_unique<Adam<T>>(groups, 1e-3, 0.9, 0.999, 1e-8);
  if (name == "adam_weight_decay") {
    return std::make_unique<Adam<T>>(with_decay(0.01), 1e-3, 0.9, 0.999, 1e-8);
  }
  if (name == "adam_eps1e-6") return std::make_unique<Adam<T>>(groups, 1e-3, 0.9, 0.999, 1e-6);
  if (name == "adamw") {
    return std::make_unique<AdamW<T>>(with_decay(0.01), 1e-3, 0.9, 0.999, 1e-6);
  }
  if (name == "adamw_two_groups") {
    with_decay(0.01);
    groups[1].rate_factor = 1e-2;  // 1e-4 of 1e-2
    return std::make_unique<AdamW<T>>(groups, 1e-2, 0.9, 0.999, 1e-6);
  }
  return nullptr;
}

/// Hands a gradient to a leaf.
template <class T>
void give_gradient(const Var<T>& parameter, const Tensor<T>& gradient) {
  backward(sum(mul(parameter, Var<T>(gradient))));
}

template <class T>
Groups<T> two_groups(const std::vector<Var<T>>& parameters) {
  return {{{{"param0", parameters[0]}}, 1.0, 0.0}, {{{"param1", parameters[1]}}, 1.0, 0.0}};
}

/// Largest error over all steps, relative entry by entry in double. In float entries that pass
/// through zero lose their digits, so there the tensor's largest entry is the measure.
template <class T>
double worst_error(const std::string& name, const TensorMap& fixture) {
  const bool entrywise = std::is_same_v<T, double>;
  std::vector<Var<T>> parameters;
  for (int i = 0; i < 2; ++i) {
    const std::string key = name + ".param" + std::to_string(i) + ".init";
    parameters.emplace_back(cast<T>(fixture.get<double>(key)), true);
  }
  const auto optimizer = make_optimizer<T>(name, two_groups(parameters));
  REQUIRE(optimizer != nullptr);
  double worst = 0;
  for (int t = 0; t < 20; ++t) {
    for (int i = 0; i < 2; ++i) {
      const std::string key = name + ".param" + std::to_string(i) + ".grad.t" + std::to_string(t);
      give_gradient(parameters[static_cast<std::size_t>(i)], cast<T>(fixture.get<double>(key)));
    }
    optimizer->step();
    for (int i = 0; i < 2; ++i) {
      const std::string key = name + ".param" + std::to_string(i) + ".t" + std::to_string(t + 1);
      const auto& expected = fixture.get<double>(key);
      const auto& got = parameters[static_cast<std::size_t>(i)].value();
      for (index_t j = 0; j < expected.size(); ++j) {
        const double x = expected.data()[j];
        const double size = entrywise ? std::abs(x) : max_abs(expected);
        worst = std::max(worst, std::abs(static_cast<double>(got.data()[j]) - x) / size);
      }
    }
  }
  return worst;
}

const std::vector<std::string> cases = {"sgd",
                                        "sgd_weight_decay",
                                        "sgd_momentum",
                                        "rmsprop",
                                        "adam",
                                        "adam_weight_decay",
                                        "adam_eps1e-6",
                                        "adamw",
                                        "adamw_two_groups"};

}  // namespace

TEST_CASE("every trajectory of PyTorch's optimisers", "[optim]") {
  const TensorMap fixture = load_safetensors(testing::fixture("optimizers.safetensors"));
  for (const std::string& name : cases) {
    CAPTURE(name);
    CHECK(worst_error<double>(name, fixture) < 1e-12);
    CHECK(worst_error<float>(name, fixture) < 1e-5);
  }
  // No case of the file is left out.
  for (const std::string& key : fixture.names()) {
    const std::string name = key.substr(0, key.find(".param"));
    if (name == key) {
      CHECK(key == "linear_warmup_decay.lr");
      continue;
    }
    CAPTURE(key);
    CHECK(std::find(cases.begin(), cases.end(), name) != cases.end());
  }
}

TEST_CASE("the place of eps and the kind of decay can be told apart", "[optim]") {
  // The trajectories are only worth comparing if the variants differ by more than the tolerance.
  const TensorMap fixture = load_safetensors(testing::fixture("optimizers.safetensors"));
  const auto last = [&](const std::string& name) {
    return fixture.get<double>(name + ".param0.t20");
  };
  CHECK(max_abs(sub(last("adam"), last("adam_eps1e-6"))) > 1e-6);
  CHECK(max_abs(sub(last("adam"), last("adam_weight_decay"))) > 1e-6);
  CHECK(max_abs(sub(last("adamw"), last("adam_eps1e-6"))) > 1e-6);
}

TEST_CASE("the linear schedule matches PyTorch's", "[optim]") {
  const TensorMap fixture = load_safetensors(testing::fixture("optimizers.safetensors"));
  const auto& expected = fixture.get<double>("linear_warmup_decay.lr");
  LinearSchedule schedule;
  schedule.warmup_steps = 5;
  schedule.total_steps = 20;
  schedule.final_factor = 0.1;
  for (index_t step = 0; step <= 20; ++step) {
    CHECK(1e-3 * schedule.factor(step) == Approx(expected.at({step})).epsilon(1e-13));
  }
  CHECK(schedule.factor(1000) == Approx(0.1));
  LinearSchedule constant;
  CHECK(constant.factor(0) == 1.0);
  CHECK(constant.factor(7) == 1.0);
}

TEST_CASE("momentum with decay is the heavy ball of the recursion", "[optim]") {
  const Var<double> w(Tensor<double>::scalar(2.0), true);
  GradientDescent<double> optimizer(one_group<double>({{"w", w}}, 0.1), 0.5, 0.8);
  double x = 2;
  double v = 0;
  for (int t = 0; t < 5; ++t) {
    give_gradient(w, Tensor<double>::scalar(0.3));
    optimizer.step();
    v = 0.8 * v + 0.3 + 0.1 * x;
    x -= 0.5 * v;
    CHECK(w.item() == Approx(x).epsilon(1e-14));
  }
}

TEST_CASE("a group's rate factor scales its step alone", "[optim]") {
  const Var<double> inner(Tensor<double>::scalar(1.0), true);
  const Var<double> outer(Tensor<double>::scalar(1.0), true);
  GradientDescent<double> optimizer(
      {{{{"inner", inner}}, 1.0, 0.0}, {{{"outer", outer}}, 0.01, 0.0}}, 0.1);
  give_gradient(inner, Tensor<double>::scalar(2.0));
  give_gradient(outer, Tensor<double>::scalar(2.0));
  optimizer.step();
  CHECK(inner.item() == Approx(0.8).epsilon(1e-15));
  CHECK(outer.item() == Approx(0.998).epsilon(1e-15));
}

TEST_CASE("a step drops the gradients and leaves parameters without one alone", "[optim]") {
  const Var<double> used(Tensor<double>::scalar(1.0), true);
  const Var<double> unused(Tensor<double>::scalar(1.0), true);
  GradientDescent<double> optimizer(one_group<double>({{"used", used}, {"unused", unused}}, 0.5),
                                    0.1, 0.9);
  give_gradient(used, Tensor<double>::scalar(1.0));
  optimizer.step();
  CHECK_FALSE(used.has_grad());
  CHECK(unused.item() == 1.0);
  CHECK(optimizer.steps() == 1);
  give_gradient(used, Tensor<double>::scalar(1.0));
  optimizer.zero_grad();
  CHECK_FALSE(used.has_grad());
  const double before = used.item();
  optimizer.step();
  CHECK(used.item() == before);
}

TEST_CASE("restored state goes on with the same bits", "[optim]") {
  const std::string name = GENERATE(as<std::string>{}, "sgd_momentum", "rmsprop", "adamw");
  Rng rng(2);
  std::vector<Tensor<double>> gradients;
  for (int t = 0; t < 10; ++t) gradients.push_back(rng.normal<double>({4}));
  const auto fresh = [&] {
    return std::vector<Var<double>>{Var<double>(Tensor<double>::ones({4}), true),
                                    Var<double>(Tensor<double>::ones({4}), true)};
  };
  const auto advance = [&](const std::vector<Var<double>>& w, Optimizer<double>& optimizer,
                           int first, int last) {
    for (int t = first; t < last; ++t) {
      for (const auto& var : w) give_gradient(var, gradients[static_cast<std::size_t>(t)]);
      optimizer.step();
    }
  };
  const auto whole = fresh();
  const auto optimizer = make_optimizer<double>(name, two_groups(whole));
  advance(whole, *optimizer, 0, 10);

  const auto first = fresh();
  const auto early = make_optimizer<double>(name, two_groups(first));
  advance(first, *early, 0, 6);
  auto second = fresh();
  const auto late = make_optimizer<double>(name, two_groups(second));
  for (std::size_t i = 0; i < 2; ++i) second[i].assign(first[i].value());
  const auto saved = early->state();
  auto restored = late->state();
  REQUIRE(saved.size() == restored.size());
  for (std::size_t i = 0; i < saved.size(); ++i) {
    REQUIRE(saved[i].first == restored[i].first);
    std::copy(saved[i].second.begin(), saved[i].second.end(), restored[i].second.mutable_data());
  }
  *Tensor<double>(late->counter()).mutable_data() = early->counter().item();
  advance(second, *late, 6, 10);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(max_abs(sub(second[i].value(), whole[i].value())) == 0.0);
  }
}

TEST_CASE("bad optimiser settings are refused", "[optim]") {
  const Var<double> w(Tensor<double>::scalar(1.0), true);
  const NamedParameters<double> one = {{"w", w}};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {-1.0, nan, inf}) {
    CHECK_THROWS_AS(GradientDescent<double>(one_group(one), bad), ValueError);
    CHECK_THROWS_AS(GradientDescent<double>(one_group(one, bad), 0.1), ValueError);
    CHECK_THROWS_AS(GradientDescent<double>(one_group(one), 0.1, bad), ValueError);
    CHECK_THROWS_AS(GradientDescent<double>({{one, bad, 0.0}}, 0.1), ValueError);
    CHECK_THROWS_AS(Adam<double>(one_group(one), 0.1, 0.9, 0.999, bad), ValueError);
    CHECK_THROWS_AS(RmsProp<double>(one_group(one), 0.1, 0.99, bad), ValueError);
  }
  for (const double bad : {-0.1, 1.0, 1.5, nan}) {
    CHECK_THROWS_AS(RmsProp<double>(one_group(one), 0.1, bad), ValueError);
    CHECK_THROWS_AS(Adam<double>(one_group(one), 0.1, bad), ValueError);
    CHECK_THROWS_AS(Adam<double>(one_group(one), 0.1, 0.9, bad), ValueError);
  }
  CHECK_THROWS_WITH(GradientDescent<double>(one_group<double>({{"w", w}, {"w", w}}), 0.1),
                    testing::contains("'w' is given twice"));
  CHECK_THROWS_WITH(GradientDescent<double>({{{{"w", w}}, 1.0, 0.0}, {{{"v", w}}, 1.0, 0.0}}, 0.1),
                    testing::contains("'w' and 'v' are one parameter"));
}
