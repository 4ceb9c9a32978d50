// What main.cpp uses of other.cpp.
#pragma once

#include <parsimony/parsimony.hpp>

#include <cstddef>

/// x³ entry by entry.
parsimony::Var<double> cube(const parsimony::Var<double>& x);
/// x(i, j), read through an xtensor view.
double entry_through_xtensor(const parsimony::Tensor<double>& x, std::size_t i, std::size_t j);
