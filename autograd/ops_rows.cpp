// Ops on the rows (last axis): softmax, its logarithm, and the two norms of transformers. Layer
// norm: Ba, Kiros and Hinton 2016; RMS norm: Zhang and Sennrich 2019.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <fmt/format.h>

#include "kernels/rows.hpp"
#include "norm_eps.hpp"

namespace parsimony {

namespace {

struct Rows {
  index_t count;
  index_t width;
};

Rows rows_of(const char* op, const Shape& shape) {
  if (shape.rank() == 0) {
    throw ShapeError(fmt::format("{}: expected at least one axis; got shape ()", op));
  }
  const index_t width = shape[-1];
  return {width == 0 ? 0 : shape.size() / width, width};
}

void require_row_shape(const char* op, const char* name, const Shape& shape, index_t width) {
  if (shape != Shape{width}) {
    throw ShapeError(fmt::format("{}: expected {} of shape ({},), the last axis; got {}", op, name,
                                 width, shape.str()));
  }
}

}  // namespace

template <class T>
Var<T> softmax(const Var<T>& x) {
  const Rows rows = rows_of("softmax", x.shape());
  Tensor<T> value(x.shape());
  kernels::softmax_rows(rows.count, rows.width, x.value().data(), value.mutable_data());
  return make_op("softmax", std::move(value), {x},
                 [rows](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     Tensor<T> dx(y.shape());
                     kernels::softmax_rows_backward(rows.count, rows.width, y.data(), dy.data(),
                                                    dx.mutable_data());
                     return dx;
                   });
                 });
}

template <class T>
Var<T> log_softmax(const Var<T>& x) {
  const Rows rows = rows_of("log_softmax", x.shape());
  Tensor<T> value(x.shape());
  kernels::log_softmax_rows(rows.count, rows.width, x.value().data(), value.mutable_data());
  return make_op("log_softmax", std::move(value), {x},
                 [rows](const Tensor<T>& y, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     Tensor<T> dx(y.shape());
                     kernels::log_softmax_rows_backward(rows.count, rows.width, y.data(), dy.data(),
                                                        dx.mutable_data());
                     return dx;
                   });
                 });
}

template <class T>
Var<T> layer_norm(const Var<T>& x, const Var<T>& weight, const Var<T>& bias, double eps) {
  detail::require_norm_eps("layer_norm", eps);
  const Rows rows = rows_of("layer_norm", x.shape());
  require_row_shape("layer_norm", "weight", weight.shape(), rows.width);
  require_row_shape("layer_norm", "bias", bias.shape(), rows.width);
  Tensor<T> value(x.shape());
  Tensor<T> mean({rows.count});
  Tensor<T> rstd({rows.count});
  kernels::layer_norm_rows(rows.count, rows.width, x.value().data(), weight.value().data(),
                           bias.value().data(), eps, value.mutable_data(), mean.mutable_data(),
                           rstd.mutable_data());
  return make_op("layer_norm", std::move(value), {x, weight, bias},
                 [rows, x = x.value(), weight = weight.value(), mean, rstd](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     Tensor<T> dx(x.shape());
                     kernels::layer_norm_rows_backward(rows.count, rows.width, x.data(),
                                                       weight.data(), mean.data(), rstd.data(),
                                                       dy.data(), dx.mutable_data());
                     return dx;
                   });
                   d.add(1, [&] {
                     Tensor<T> dw({rows.width});
                     kernels::norm_weight_backward(rows.count, rows.width, x.data(), mean.data(),
                                                   rstd.data(), dy.data(), dw.mutable_data());
                     return dw;
                   });
                   d.add(2, [&] { return dy; });
                 });
}

template <class T>
Var<T> rms_norm(const Var<T>& x, const Var<T>& weight, double eps) {
  detail::require_norm_eps("rms_norm", eps);
  const Rows rows = rows_of("rms_norm", x.shape());
  require_row_shape("rms_norm", "weight", weight.shape(), rows.width);
  Tensor<T> value(x.shape());
  Tensor<T> rstd({rows.count});
  kernels::rms_norm_rows(rows.count, rows.width, x.value().data(), weight.value().data(), eps,
                         value.mutable_data(), rstd.mutable_data());
  return make_op("rms_norm", std::move(value), {x, weight},
                 [rows, x = x.value(), weight = weight.value(), rstd](
                     const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] {
                     Tensor<T> dx(x.shape());
                     kernels::rms_norm_rows_backward(rows.count, rows.width, x.data(),
                                                     weight.data(), rstd.data(), dy.data(),
                                                     dx.mutable_data());
                     return dx;
                   });
                   d.add(1, [&] {
                     Tensor<T> dw({rows.width});
                     kernels::norm_weight_backward<T>(rows.count, rows.width, x.data(), nullptr,
                                                      rstd.data(), dy.data(), dw.mutable_data());
                     return dw;
                   });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                                   \
  template Var<T> softmax(const Var<T>&);                                          \
  template Var<T> log_softmax(const Var<T>&);                                      \
  template Var<T> layer_norm(const Var<T>&, const Var<T>&, const Var<T>&, double); \
  template Var<T> rms_norm(const Var<T>&, const Var<T>&, double);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
