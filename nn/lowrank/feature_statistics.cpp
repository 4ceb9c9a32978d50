// Moments of the inputs of linear layers, collected while a model runs.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/feature_pca.hpp>

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

namespace parsimony {

PooledCovariance::PooledCovariance(index_t width, index_t group) : width_(width), group_(group) {
  if (width < 1 || group < 1) {
    throw ValueError(fmt::format(
        "covariance: expected a width and a group of at least 1; got {} and {}", width, group));
  }
  mean_ = Tensor<double>::zeros({width});
  magnitude_ = Tensor<double>::zeros({width});
  covariance_ = Tensor<double>::zeros({width, width});
}

template <class T>
void PooledCovariance::add(const Tensor<T>& x) {
  if (x.rank() < 1 || x.dim(-1) != width_) {
    throw ShapeError(
        fmt::format("covariance: expected rows of {}; got {}", width_, x.shape().str()));
  }
  if (!all_finite(x)) throw NumericalError("covariance: the inputs have NaN or infinite entries");
  const index_t rows = x.size() / width_;
  if (rows == 0) return;
  Tensor<double> centred = cast<double>(x.reshape({rows, width_}));
  Tensor<double> mean = Tensor<double>::zeros({width_});
  if (!current_.mean.defined()) {
    current_ = {0, Tensor<double>::zeros({width_}), Tensor<double>::zeros({width_, width_}),
                Tensor<double>::zeros({width_})};
  }
  double* values = centred.mutable_data();
  double* m = mean.mutable_data();
  double* magnitude = current_.magnitude.mutable_data();
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < width_; ++j) {
      m[j] += values[i * width_ + j];
      magnitude[j] += std::abs(values[i * width_ + j]);
    }
  }
  const auto l = static_cast<double>(rows);
  for (index_t j = 0; j < width_; ++j) m[j] /= l;
  for (index_t i = 0; i < rows; ++i) {
    for (index_t j = 0; j < width_; ++j) values[i * width_ + j] -= m[j];
  }
  const Tensor<double> scatter = matmul(centred, centred, true, false);
  const double n = current_.rows;
  const double total = n + l;
  double* s = current_.scatter.mutable_data();
  double* mu = current_.mean.mutable_data();
  for (index_t i = 0; i < width_; ++i) {
    const double shift = n * l / total * (m[i] - mu[i]);
    for (index_t j = 0; j < width_; ++j) {
      s[i * width_ + j] += scatter.data()[i * width_ + j] + shift * (m[j] - mu[j]);
    }
  }
  for (index_t j = 0; j < width_; ++j) mu[j] += l / total * (m[j] - mu[j]);
  current_.rows = total;
  if (++in_group_ == group_) close_group();
}

void PooledCovariance::close_group() {
  in_group_ = 0;
  if (current_.rows < 2) {
    current_ = {};
    return;
  }
  ++groups_;
  tokens_ += static_cast<index_t>(current_.rows);
  const auto accumulate = [](Tensor<double>& to, const Tensor<double>& from, double divisor) {
    double* t = to.mutable_data();
    for (index_t i = 0; i < to.size(); ++i) t[i] += from.data()[i] / divisor;
  };
  accumulate(mean_, current_.mean, 1);
  accumulate(covariance_, current_.scatter, current_.rows - 1);
  accumulate(magnitude_, current_.magnitude, current_.rows);
  current_ = {};
}

InputMoments PooledCovariance::result() const {
  if (groups_ > 0) {
    const double share = 1.0 / static_cast<double>(groups_);
    return {scale(mean_, share), scale(covariance_, share), scale(magnitude_, share), tokens_,
            groups_};
  }
  if (current_.rows < 2) {
    throw ValueError(fmt::format(
        "covariance: expected at least two rows of calibration data in a group of {} sequences; a "
        "layer sees fewer (of a classifier's last layer one a sequence): make the groups larger",
        group_));
  }
  return {current_.mean.clone(), scale(current_.scatter, 1.0 / (current_.rows - 1)),
          scale(current_.magnitude, 1.0 / current_.rows), static_cast<index_t>(current_.rows), 0};
}

template void PooledCovariance::add(const Tensor<float>&);
template void PooledCovariance::add(const Tensor<double>&);

namespace {

/// What the probes of one collection share.
template <class T>
class Collector {
 public:
  Collector(std::size_t layers, index_t group) : input_of_(layers, none), group_(group) {}

  /// During the first sequence the inputs are held, so that one address is one input.
  void see(std::size_t layer, const Tensor<T>& x) {
    std::size_t& input = input_of_[layer];
    if (input == none) {
      for (std::size_t i = 0; i < held_.size(); ++i) {
        if (held_[i].data() == x.data() && held_[i].dim(-1) == x.dim(-1)) input = i;
      }
      if (input == none) {
        input = held_.size();
        held_.push_back(x);
        leaders_.push_back(layer);
        moments_.emplace_back(x.dim(-1), group_);
      }
    }
    if (leaders_[input] == layer) moments_[input].add(x);
  }
  void first_sequence_is_over() {
    for (Tensor<T>& x : held_) x = Tensor<T>();
  }
  LayerInputs result(const std::vector<CompressibleLayer<T>>& layers) const {
    LayerInputs out;
    for (const PooledCovariance& m : moments_) out.inputs.push_back(m.result());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (input_of_[i] == none) {
        throw ValueError(fmt::format("calibration does not reach '{}'", layers[i].name));
      }
      out.input_of[layers[i].name] = input_of_[i];
    }
    return out;
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::vector<std::size_t> input_of_, leaders_;
  std::vector<Tensor<T>> held_;
  std::vector<PooledCovariance> moments_;
  index_t group_;
};

/// Looks at a layer's input; the layer computes as without it.
template <class T>
class InputProbe : public Adapter<T> {
 public:
  InputProbe(const Shape& shape, std::size_t layer, std::shared_ptr<Collector<T>> collector)
      : Adapter<T>(shape, "probe"), layer_(layer), collector_(std::move(collector)) {}
  WeightUpdate<T> update() const override {
    return {Var<T>(Tensor<T>::zeros({this->shape()[0], 1})),
            Var<T>(Tensor<T>::zeros({1, this->shape()[1]})),
            {}};
  }
  Var<T> linear(const Var<T>& x, const Var<T>& weight, const Var<T>& bias, Pass&) const override {
    collector_->see(layer_, x.value());
    return parsimony::linear(x, weight, bias);
  }

 private:
  std::size_t layer_;
  std::shared_ptr<Collector<T>> collector_;
};

/// Takes the probes off however the scope ends.
template <class T>
class Probes {
 public:
  ~Probes() {
    for (Linear<T>* layer : layers_) layer->release_adapter();
  }
  void put(Linear<T>& layer, std::unique_ptr<Adapter<T>> probe) {
    layer.adapt(std::move(probe));
    layers_.push_back(&layer);
  }

 private:
  std::vector<Linear<T>*> layers_;
};

}  // namespace

template <class T>
LayerInputs collect_inputs(const std::vector<CompressibleLayer<T>>& layers, index_t sequences,
                           index_t group, const std::function<void(index_t)>& forward) {
  const NoGrad no_grad;
  const auto collector = std::make_shared<Collector<T>>(layers.size(), group);
  Probes<T> probes;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].layer->factored()) {
      throw ValueError(fmt::format("'{}' is factored already", layers[i].name));
    }
    probes.put(*layers[i].layer,
               std::make_unique<InputProbe<T>>(layers[i].layer->weight.shape(), i, collector));
  }
  for (index_t i = 0; i < sequences; ++i) {
    forward(i);
    if (i == 0) collector->first_sequence_is_over();
  }
  return collector->result(layers);
}

template LayerInputs collect_inputs(const std::vector<CompressibleLayer<float>>&, index_t, index_t,
                                    const std::function<void(index_t)>&);
template LayerInputs collect_inputs(const std::vector<CompressibleLayer<double>>&, index_t, index_t,
                                    const std::function<void(index_t)>&);

}  // namespace parsimony
