#include <parsimony/initializer.hpp>

#include <algorithm>
#include <tuple>
#include <vector>

namespace parsimony {

namespace {

template <class T>
struct Draw {
  Tensor<T> weights;  // held, so that no other tensor gets the buffer
  Rng rng;
  double std;
};

}  // namespace

struct Initializer::Postponed {
  std::tuple<std::vector<Draw<float>>, std::vector<Draw<double>>> draws;
};

Initializer Initializer::postponed(const Rng& rng) { return {rng, std::make_shared<Postponed>()}; }

template <class T>
Tensor<T> Initializer::normal(const Shape& shape, double std) const {
  if (!postponed_) return Rng(rng_).normal<T>(shape, std);
  Tensor<T> weights(shape);
  std::get<std::vector<Draw<T>>>(postponed_->draws).push_back({weights, rng_, std});
  return weights;
}

template <class T>
void Initializer::draw(Tensor<T> weights) const {
  if (!postponed_) return;
  for (const Draw<T>& draw : std::get<std::vector<Draw<T>>>(postponed_->draws)) {
    if (draw.weights.data() != weights.data()) continue;
    const Tensor<T> drawn = Rng(draw.rng).normal<T>(weights.shape(), draw.std);
    std::copy(drawn.begin(), drawn.end(), weights.mutable_data());
  }
}

template Tensor<float> Initializer::normal(const Shape&, double) const;
template Tensor<double> Initializer::normal(const Shape&, double) const;
template void Initializer::draw(Tensor<float>) const;
template void Initializer::draw(Tensor<double>) const;

}  // namespace parsimony
