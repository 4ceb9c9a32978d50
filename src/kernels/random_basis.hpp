// Linear combinations of random matrices that are made where they are used and never stored.
//
// Matrix i has independent entries, uniform on the 65536 odd multiples of 2^-16 in (-1, 1): entry
// (r, c) is (2h + 1) / 65536, h the signed 16-bit half-word c % 8 of the Philox 4x32-10 block with
// counter r ⌈cols / 8⌉ + c / 8 (upper words 0) under keys[i]; half-word 2w is the low half of word
// w, half-word 2w + 1 its high half. An entry depends on nothing else, so that any rows can be made
// in any order.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// out (rows, cols) = Σ_i coefficients[i] R_i, i < count. With `ids`, row r of out combines the
/// rows ids[r]. Needs memory for one block of eight rows a thread; the same bits for any number of
/// threads.
template <class T>
void combine_random(std::int64_t count, const std::uint64_t* keys, const T* coefficients,
                    std::int64_t rows, std::int64_t cols, const std::int64_t* ids, T* out);

/// products[i] = <g, R_i>, g (rows, cols) and rows as above.
template <class T>
void random_inner_products(std::int64_t count, const std::uint64_t* keys, std::int64_t rows,
                           std::int64_t cols, const std::int64_t* ids, const T* g, T* products);

}  // namespace parsimony::kernels
