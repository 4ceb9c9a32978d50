// Combinations of random matrices that exist only while they are added.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <fmt/format.h>

#include "kernels/random_basis.hpp"

namespace parsimony {

namespace {

std::vector<std::uint64_t> keys_of(const Rng& rng, index_t count) {
  std::vector<std::uint64_t> keys;
  for (index_t i = 0; i < count; ++i) {
    keys.push_back(rng.split(static_cast<std::uint64_t>(i)).state()[0]);
  }
  return keys;
}

}  // namespace

// y = Σ c_i R_i[ids]: dc_i = <dy, R_i[ids]>.
template <class T>
Var<T> random_combination(const Var<T>& coefficients, const Tensor<std::int64_t>& ids, index_t rows,
                          index_t cols, const Rng& rng) {
  if (coefficients.rank() != 1 || rows < 1 || cols < 1) {
    throw ShapeError(
        fmt::format("random_combination: expected coefficients (k,) and sides of at least 1; got "
                    "{}, {} x {}",
                    coefficients.shape().str(), rows, cols));
  }
  const std::int64_t* chosen = ids.defined() ? ids.data() : nullptr;
  for (index_t i = 0; i < ids.size(); ++i) {
    if (chosen[i] >= 0 && chosen[i] < rows) continue;
    throw ValueError(
        fmt::format("random_combination: expected ids in 0..{}; got {}", rows - 1, chosen[i]));
  }
  std::vector<index_t> shape;
  for (int axis = 0; axis < ids.rank(); ++axis) shape.push_back(ids.dim(axis));
  if (!ids.defined()) shape.push_back(rows);
  shape.push_back(cols);
  const index_t count = coefficients.dim(0);
  const std::vector<std::uint64_t> keys = keys_of(rng, count);
  Tensor<T> y{Shape(shape)};
  const index_t made = y.size() / cols;
  if (made > 0) {
    kernels::combine_random(count, keys.data(), coefficients.value().data(), made, cols, chosen,
                            y.mutable_data());
  }
  return make_op("random_combination", std::move(y), {coefficients},
                 [keys, ids, cols](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     const auto count = static_cast<index_t>(keys.size());
                     if (dy.size() == 0) return Tensor<T>::zeros({count});
                     Tensor<T> out({count});
                     kernels::random_inner_products(count, keys.data(), dy.size() / cols, cols,
                                                    ids.defined() ? ids.data() : nullptr, dy.data(),
                                                    out.mutable_data());
                     return out;
                   });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                                                   \
  template Var<T> random_combination(const Var<T>&, const Tensor<std::int64_t>&, index_t, index_t, \
                                     const Rng&);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
