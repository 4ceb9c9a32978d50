// Sampled dense-dense product on a CSR index set and the products of its transpose: the hot loops
// of matrix completion, O(|Ω| k).
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// out[e] = <a[row(e)], b[columns[e]]> for every entry; a (rows, k), b (cols, k).
template <class T>
void sampled_product(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                     const T* a, const T* b, std::int64_t k, T* out);

/// r[e] = <a[row(e)], b[columns[e]]> - target[e] and, where `da` is not null, da[i] = Σ_e r[e]
/// b[columns[e]] over row i's entries, in one pass; returns Σ r², the same bits for any number of
/// threads.
template <class T>
double sampled_residual(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                        const T* a, const T* b, std::int64_t k, const T* target, T* r, T* da);

/// out[i] = Σ_e value(e) x[columns[e]] over row i's entries; value(e) = values[position[e]], or
/// values[e] without a position array.
template <class T>
void sparse_rows(std::int64_t rows, const std::int32_t* offsets, const std::int32_t* columns,
                 const std::int32_t* position, const T* values, const T* x, std::int64_t k, T* out);

}  // namespace parsimony::kernels
