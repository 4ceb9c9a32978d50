// Tensors as xtensor expressions, without a copy, and back. The only file that includes xtensor.
//
// xtensor 0.24.3 compiled as C++20 by g++ 12 takes its dynamic shape for a fixed-rank one and
// silently computes garbage; the specialisation below states the trait, and the assertion turns
// any other broken combination into a compile error instead of a wrong number.
#pragma once

#include <parsimony/tensor.hpp>

#include <type_traits>
#include <utility>
#include <vector>

#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>

#if __cplusplus != 201703L
namespace xt::detail {
template <>
struct xtype_for_shape<dynamic_shape<std::size_t>> {
  template <class T, layout_type L>
  using type = xarray<T, L>;
};
}  // namespace xt::detail
#endif
static_assert(std::is_same_v<xt::detail::xtype_for_shape<xt::dynamic_shape<std::size_t>>::type<
                                 double, xt::layout_type::row_major>,
                             xt::xarray<double>>,
              "xtensor's shape traits are broken in this language mode; build as C++17");

namespace parsimony {

/// Read-only xtensor view of the tensor's buffer; valid while a handle on the buffer lives.
template <class T>
auto as_xtensor(const Tensor<T>& tensor) {
  const std::vector<std::size_t> shape(tensor.shape().begin(), tensor.shape().end());
  return xt::adapt(tensor.data(), static_cast<std::size_t>(tensor.size()), xt::no_ownership(),
                   shape);
}

/// Evaluates an xtensor expression into a new tensor.
template <class E>
auto from_xtensor(const xt::xexpression<E>& expression) {
  using T = std::remove_const_t<typename E::value_type>;
  const xt::xarray<T> values = expression.derived_cast();
  Shape shape;
  for (const auto n : values.shape()) shape.push_back(static_cast<index_t>(n));
  Tensor<T> out(shape);
  std::copy(values.data(), values.data() + values.size(), out.mutable_data());
  return out;
}

}  // namespace parsimony
