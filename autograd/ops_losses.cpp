// Losses: scalars that keep their residual, so that backward is one product with it.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <fmt/format.h>

#include "kernels/residual.hpp"
#include "kernels/rows.hpp"
#include "tensor/elementwise.hpp"

namespace parsimony {

namespace {

template <class T>
void require_same_shape(const char* op, const Shape& a, const Shape& b) {
  if (a != b) throw ShapeError(fmt::format("{}: shapes {} and {} differ", op, a.str(), b.str()));
}

/// g r, or r itself for the usual upstream gradient of 1.
template <class T>
Tensor<T> times_upstream(const Tensor<T>& r, const Tensor<T>& upstream, double factor = 1.0) {
  const double g = static_cast<double>(upstream.item()) * factor;
  return g == 1.0 ? r : scale(r, g);
}

/// factor/2 · Σ (mask .* (x - target))², whose gradient is factor times the residual.
template <class T>
Var<T> squared_loss(const char* op, const Var<T>& x, const Tensor<T>& target,
                    const std::uint8_t* mask, double factor) {
  require_same_shape<T>(op, x.shape(), target.shape());
  Tensor<T> residual(x.shape());
  const double sum = kernels::residual(residual.size(), x.value().data(), target.data(), mask,
                                       residual.mutable_data());
  return make_op(op, Tensor<T>::scalar(static_cast<T>(0.5 * factor * sum)), {x},
                 [residual, factor](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return times_upstream(residual, dy, factor); });
                 });
}

}  // namespace

template <class T>
Var<T> half_squared_error(const Var<T>& x, const Tensor<T>& target) {
  return squared_loss<T>("half_squared_error", x, target, nullptr, 1.0);
}

template <class T>
Var<T> masked_half_squared_error(const Var<T>& x, const Tensor<T>& target,
                                 const Tensor<std::uint8_t>& mask) {
  require_same_shape<T>("masked_half_squared_error", x.shape(), mask.shape());
  return squared_loss("masked_half_squared_error", x, target, mask.data(), 1.0);
}

template <class T>
Var<T> mean_squared_error(const Var<T>& x, const Tensor<T>& target) {
  return squared_loss<T>("mean_squared_error", x, target, nullptr,
                         2.0 / static_cast<double>(x.value().size()));
}

namespace {

/// Checks labels against logits (..., classes); the number of rows that count.
template <class T>
index_t counted_rows(const Var<T>& logits, const Tensor<std::int64_t>& labels, index_t ignore) {
  Shape rows;
  for (int i = 0; i + 1 < logits.rank(); ++i) rows.push_back(logits.dim(i));
  if (logits.rank() == 0 || rows != labels.shape()) {
    throw ShapeError(
        fmt::format("cross_entropy: expected logits (..., classes) and labels (...); "
                    "got {} and {}",
                    logits.shape().str(), labels.shape().str()));
  }
  index_t count = 0;
  for (index_t i = 0; i < labels.size(); ++i) {
    const std::int64_t label = labels.data()[i];
    if (label == ignore) continue;
    if (label < 0 || label >= logits.dim(-1)) {
      throw ValueError(
          fmt::format("cross_entropy: expected labels in [0, {}) or {}; got {} in row {}",
                      logits.dim(-1), ignore, label, i));
    }
    ++count;
  }
  if (count == 0) {
    throw ValueError(fmt::format("cross_entropy: no row counts: {} labels, all of them {}",
                                 labels.size(), ignore));
  }
  return count;
}

}  // namespace

// loss = avg(log Σ exp(x) - x[label]), dx = (softmax(x) - 1[label]) / count.
template <class T>
Var<T> cross_entropy(const Var<T>& logits, const Tensor<std::int64_t>& labels, index_t ignore) {
  const auto count = static_cast<double>(counted_rows(logits, labels, ignore));
  const index_t rows = labels.size();
  const index_t classes = logits.dim(-1);
  Tensor<T> normalizer(labels.shape());
  const T* x = logits.value().data();
  kernels::logsumexp_rows(rows, classes, x, normalizer.mutable_data());
  double total = 0;
  for (index_t r = 0; r < rows; ++r) {
    const std::int64_t label = labels.data()[r];
    if (label != ignore)
      total += static_cast<double>(normalizer.data()[r] - x[r * classes + label]);
  }
  return make_op("cross_entropy", Tensor<T>::scalar(static_cast<T>(total / count)), {logits},
                 [logits = logits.value(), labels, normalizer, ignore, rows, classes, count](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     const T weight = static_cast<T>(static_cast<double>(dy.item()) / count);
                     Tensor<T> weights(labels.shape());
                     T* w = weights.mutable_data();
                     for (index_t r = 0; r < rows; ++r) {
                       w[r] = labels.data()[r] == ignore ? T(0) : weight;
                     }
                     Tensor<T> dx(logits.shape());
                     T* out = dx.mutable_data();
                     kernels::logsumexp_rows_backward(rows, classes, logits.data(),
                                                      normalizer.data(), w, out);
                     for (index_t r = 0; r < rows; ++r) {
                       const std::int64_t label = labels.data()[r];
                       if (label != ignore) out[r * classes + label] -= weight;
                     }
                     return dx;
                   });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                             \
  template Var<T> half_squared_error(const Var<T>&, const Tensor<T>&);       \
  template Var<T> masked_half_squared_error(const Var<T>&, const Tensor<T>&, \
                                            const Tensor<std::uint8_t>&);    \
  template Var<T> mean_squared_error(const Var<T>&, const Tensor<T>&);       \
  template Var<T> cross_entropy(const Var<T>&, const Tensor<std::int64_t>&, index_t);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
