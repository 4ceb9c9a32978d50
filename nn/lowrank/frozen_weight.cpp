// Decompositions of a frozen weight that adapters start from.
#include <cmath>

#include "adapters/adapters.hpp"

namespace parsimony {

template <class T>
TopSingular<T> leading_triplets(const Tensor<T>& w, index_t r) {
  const Svd<double> all = svd(cast<double>(w));
  Tensor<double> u = slice(all.u, 1, 0, r);
  Tensor<double> v = transpose(all.vt.rows(0, r));
  for (index_t k = 0; k < r; ++k) {
    double largest = 0;
    for (index_t i = 0; i < u.dim(0); ++i) {
      const double x = u.at({i, k});
      if (std::abs(x) > std::abs(largest)) largest = x;
    }
    if (largest >= 0) continue;
    for (index_t i = 0; i < u.dim(0); ++i) u.mutable_data()[i * r + k] *= -1;
    for (index_t i = 0; i < v.dim(0); ++i) v.mutable_data()[i * r + k] *= -1;
  }
  return {cast<T>(u), cast<T>(slice(all.s, 0, 0, r)), cast<T>(v)};
}

template <class T>
Qr<T> leading_qr(const Tensor<T>& w, index_t r) {
  const Qr<double> all = qr(cast<double>(w));
  return {cast<T>(slice(all.q, 1, 0, r)), cast<T>(slice(all.r, 0, 0, r))};
}

#define PARSIMONY_INSTANTIATE(T)                                       \
  template TopSingular<T> leading_triplets(const Tensor<T>&, index_t); \
  template Qr<T> leading_qr(const Tensor<T>&, index_t);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
