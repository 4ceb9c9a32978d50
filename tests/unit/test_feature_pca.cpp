// Pooled covariances, and low-rank pairs from the components of a layer's outputs.
#include <parsimony/error.hpp>
#include <parsimony/feature_pca.hpp>

#include <cmath>

#include "support/catch.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::largest_difference;

namespace {

using T = double;

Tensor<T> rows_of(const std::vector<Tensor<T>>& parts) { return concat(parts, 0); }

struct Moments {
  Tensor<T> mean, covariance;
};
/// By the definition.
Moments moments_of(const Tensor<T>& x) {
  const index_t n = x.dim(0);
  const Tensor<T> ones = Tensor<T>::ones({1, n});
  const Tensor<T> mean = scale(matmul(ones, x), 1.0 / static_cast<double>(n));
  const Tensor<T> centred = sub(x, mean);
  return {mean.reshape({x.dim(1)}),
          scale(matmul(centred, centred, true, false), 1.0 / static_cast<double>(n - 1))};
}

/// Inputs with a spectrum that falls and a mean; weight (m, n).
struct Example {
  Example(index_t m, index_t n, index_t tokens) {
    Rng rng(9);
    Tensor<T> mix = rng.normal<T>({n, n});
    for (index_t i = 0; i < n * n; ++i) mix.mutable_data()[i] *= std::pow(0.7, i / n);
    x = add(matmul(rng.normal<T>({tokens, n}), mix), rng.normal<T>({1, n}));
    weight = rng.normal<T>({m, n});
    bias = rng.normal<T>({m});
    const Moments moments = moments_of(x);
    inputs = {moments.mean, moments.covariance, Tensor<T>::ones({n}), tokens, 1};
  }
  Tensor<T> outputs() const { return add(matmul(x, weight, false, true), bias); }
  /// Mean squared error of a pair over the tokens, with n - 1 as the covariance has.
  double error(const FactoredWeights<T>& f) const {
    const Tensor<T> y =
        add(matmul(matmul(x, f.reduce, false, true), f.expand, false, true), f.bias);
    const Tensor<T> d = sub(y, outputs());
    return dot(d, d) / static_cast<double>(x.dim(0) - 1);
  }
  Tensor<T> x, weight, bias;
  InputMoments inputs;
};

double tail(const Tensor<double>& spectrum, index_t rank) {
  double sum = 0;
  for (index_t i = rank; i < spectrum.size(); ++i) sum += spectrum.data()[i];
  return sum;
}

}  // namespace

TEST_CASE("pooled covariance: running statistics of a group are those of its rows together") {
  Rng rng(1);
  std::vector<Tensor<T>> sequences;
  for (const index_t length : {5, 1, 17, 2}) {
    sequences.push_back(add(rng.normal<T>({length, 4}), rng.normal<T>({1, 4})));
  }
  PooledCovariance pooled(4, 4);
  for (const auto& s : sequences) pooled.add(s);
  const InputMoments got = pooled.result();
  const Moments expected = moments_of(rows_of(sequences));
  CHECK(got.groups == 1);
  CHECK(got.tokens == 25);
  CHECK(largest_difference(got.mean, expected.mean) < 1e-14);
  CHECK(largest_difference(got.covariance, expected.covariance) < 1e-13);
}

TEST_CASE("pooled covariance: groups of a row are told") {
  PooledCovariance pool(3, 1);
  for (int i = 0; i < 5; ++i) pool.add(Tensor<double>::ones({1, 3}));
  CHECK_THROWS_WITH(pool.result(), contains("make the groups larger"));
}

TEST_CASE("pooled covariance: groups are averaged, the last one is dropped if it is not whole") {
  Rng rng(2);
  std::vector<Tensor<T>> s;
  PooledCovariance pooled(3, 2);
  for (int i = 0; i < 5; ++i) {
    s.push_back(add(rng.normal<T>({6, 3}), Tensor<T>::full({1, 3}, 3.0 * i)));
    pooled.add(s.back().reshape({1, 6, 3}));
  }
  const InputMoments got = pooled.result();
  const Moments a = moments_of(rows_of({s[0], s[1]}));
  const Moments b = moments_of(rows_of({s[2], s[3]}));
  CHECK(got.groups == 2);
  CHECK(got.tokens == 24);
  CHECK(largest_difference(got.mean, scale(add(a.mean, b.mean), 0.5)) < 1e-13);
  CHECK(largest_difference(got.covariance, scale(add(a.covariance, b.covariance), 0.5)) < 1e-13);
  // The global covariance minus the scatter of the groups' means, but for n - 1 in the place of n.
  const Moments all = moments_of(rows_of({s[0], s[1], s[2], s[3]}));
  const Tensor<T> shift = sub(b.mean, a.mean).reshape({3, 1});
  const Tensor<T> between = scale(matmul(shift, shift, false, true), 0.25);
  const Tensor<T> within = sub(scale(all.covariance, 23.0), scale(between, 24.0));
  CHECK(largest_difference(scale(within, 1.0 / 22.0), got.covariance) < 1e-12);

  PooledCovariance partial(3, 2);
  partial.add(s[0]);
  CHECK(partial.result().groups == 0);
  CHECK(largest_difference(partial.result().covariance, moments_of(s[0]).covariance) < 1e-13);
  PooledCovariance none(3, 2);
  CHECK_THROWS_AS(none.result(), ValueError);
  CHECK_THROWS_AS(none.add(Tensor<T>::zeros({2, 4})), ShapeError);
  CHECK_THROWS_AS(none.add(Tensor<T>::full({2, 3}, NAN)), NumericalError);
}

TEST_CASE("feature pca: the error is the sum of the eigenvalues left out, tall and wide") {
  for (const auto& [m, n] : {std::pair<index_t, index_t>{7, 11}, {12, 5}, {6, 6}}) {
    INFO(m << " x " << n);
    const Example e(m, n, 60);
    const auto factors = LayerFactors<T>::from_features(e.weight, e.bias, e.inputs);
    // Sigma = W Cov Wᵀ: the covariance of the outputs themselves.
    const auto sigma = symmetric_eigen(moments_of(e.outputs()).covariance);
    for (index_t i = 0; i < factors.max_rank(); ++i) {
      CHECK(factors.spectrum().data()[i] == Approx(sigma.values.data()[i]).margin(1e-9));
    }
    for (index_t r = 1; r <= factors.max_rank(); ++r) {
      CHECK(e.error(factors.at(r)) ==
            Approx(tail(factors.spectrum(), r)).epsilon(1e-9).margin(1e-9));
    }
    // No bias in the layer: the pair has one nevertheless.
    const auto bare = LayerFactors<T>::from_features(e.weight, Tensor<T>(), e.inputs);
    CHECK(largest_difference(add(bare.at(2).bias, e.bias), factors.at(2).bias) < 1e-12);
  }
}

TEST_CASE("feature pca: beats the SVD of the weight and the one with scales, rank for rank") {
  const Example e(10, 10, 200);
  InputMoments inputs = e.inputs;
  for (index_t j = 0; j < 10; ++j) {
    double sum = 0;
    for (index_t i = 0; i < e.x.dim(0); ++i) sum += std::abs(e.x.at({i, j}));
    inputs.magnitude.mutable_data()[j] = sum / static_cast<double>(e.x.dim(0));
  }
  const auto features = LayerFactors<T>::from_features(e.weight, e.bias, inputs);
  const auto scaled = LayerFactors<T>::from_activations(e.weight, e.bias, inputs);
  const auto plain = LayerFactors<T>::from_svd(e.weight, e.bias);
  for (const index_t r : {1, 3, 6}) {
    INFO("rank " << r);
    CHECK(e.error(features.at(r)) < e.error(scaled.at(r)));
    CHECK(e.error(features.at(r)) < 0.5 * e.error(plain.at(r)));
    // The SVD is the best in the weight itself.
    const auto p = plain.at(r);
    const Tensor<T> rest = sub(matmul(p.expand, p.reduce), e.weight);
    CHECK(dot(rest, rest) == Approx(tail(plain.spectrum(), r)).epsilon(1e-10));
  }
  for (const auto* f : {&features, &scaled, &plain}) {
    CHECK(e.error(f->at(10)) < 1e-20 * dot(e.x, e.x));
    CHECK_THROWS_AS(f->at(11), ValueError);
    CHECK_THROWS_AS(f->at(0), ValueError);
  }
}

TEST_CASE("feature pca: a short calibration is shrunk towards a multiple of the identity") {
  Rng rng(4);
  const index_t n = 12;
  const auto x = rng.normal<T>({8, n});
  const Moments m = moments_of(x);
  InputMoments moments{m.mean, m.covariance, Tensor<T>::ones({n}), 8, 1};
  CHECK(calibration_is_short(moments));
  CHECK(symmetric_eigen(moments.covariance).values.data()[n - 1] < 1e-12);
  const double rho = shrink_covariance(moments);
  CHECK(rho > 0.1);
  CHECK(rho <= 1);
  CHECK(symmetric_eigen(moments.covariance).values.data()[n - 1] > 0.05);
  double before = 0;
  double after = 0;
  for (index_t i = 0; i < n; ++i) {
    before += m.covariance.at({i, i});
    after += moments.covariance.at({i, i});
  }
  CHECK(after == Approx(before));
  // Nearer to the truth, the identity, than the sample's.
  CHECK(largest_difference(moments.covariance, Tensor<T>::eye(n)) <
        largest_difference(m.covariance, Tensor<T>::eye(n)));
  moments.tokens = 10 * n;
  CHECK_FALSE(calibration_is_short(moments));
}

TEST_CASE("collect_inputs: one set an input, whatever layers share it") {
  const Rng rng(6);
  struct Net : Module<T> {
    explicit Net(const Rng& rng)
        : q(4, 5, rng.split("q"), 1), k(4, 3, rng.split("k"), 1), o(5, 2, rng.split("o"), 1) {
      this->child("q", q);
      this->child("k", k);
      this->child("o", o);
    }
    Linear<T> q, k, o;
  } net(rng.split("net"));
  const std::vector<CompressibleLayer<T>> layers{
      {"q", "qk", &net.q}, {"k", "qk", &net.k}, {"o", "o", &net.o}};
  std::vector<Tensor<T>> seen;
  std::vector<Tensor<T>> inner;
  const LayerInputs inputs = collect_inputs<T>(layers, 4, 2, [&](index_t i) {
    Pass pass;
    Rng stream = rng.split(static_cast<std::uint64_t>(i));
    const Var<T> x(stream.normal<T>({1, 6, 4}));
    const Var<T> y = net.q(x, pass);
    net.k(x, pass);
    net.o(y, pass);
    seen.push_back(x.value().reshape({6, 4}));
    inner.push_back(y.value().reshape({6, 5}));
  });
  CHECK(inputs.inputs.size() == 2);
  CHECK(inputs.input_of.at("q") == inputs.input_of.at("k"));
  PooledCovariance x(4, 2);
  PooledCovariance y(5, 2);
  for (const auto& s : seen) x.add(s);
  for (const auto& s : inner) y.add(s);
  CHECK(largest_difference(inputs.of("k").covariance, x.result().covariance) == 0);
  CHECK(largest_difference(inputs.of("o").covariance, y.result().covariance) == 0);
  CHECK(net.q.adapter() == nullptr);
  CHECK_THROWS_AS(collect_inputs<T>(layers, 1, 1, [](index_t) {}), ValueError);
  CHECK(net.q.adapter() == nullptr);
}
