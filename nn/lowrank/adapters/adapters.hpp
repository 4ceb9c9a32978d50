// What an adapter's file includes. Each defines one function, register_<its name>, which adds its
// methods to the registry.
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>

#include "adapter_list.hpp"

namespace parsimony {

#define PARSIMONY_DECLARE(name) void register_##name();
PARSIMONY_ADAPTERS(PARSIMONY_DECLARE)
#undef PARSIMONY_DECLARE

/// Leading r singular triplets of a frozen weight w (m, n), computed in double so that they do not
/// depend on the LAPACK at hand beyond rounding, with the signs that make the largest entry of each
/// column of u positive: what is trained between u and v means the same wherever it is loaded.
template <class T>
TopSingular<T> leading_triplets(const Tensor<T>& w, index_t r);
/// The thin QR of w as far as its first r columns reach: q (m, r), r (r, n), computed in double.
template <class T>
Qr<T> leading_qr(const Tensor<T>& w, index_t r);

}  // namespace parsimony
