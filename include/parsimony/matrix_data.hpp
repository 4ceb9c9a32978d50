// Generated data of the matrix experiments: low-rank targets, masks, sensing operators.
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>

namespace parsimony {

/// Gaussian (rows, cols) matrix truncated to its top `rank` singular triplets, the target of every
/// matrix experiment of the paper; singular values are near √rows + √cols.
/// @throws ValueError unless 1 <= rank <= min(rows, cols).
Tensor<double> low_rank_target(index_t rows, index_t cols, index_t rank, Rng rng);

/// Exactly int(fraction * rows * cols) positions, drawn without replacement.
/// @throws ValueError unless 0 < fraction <= 1 and at least one position is drawn.
IndexSet random_index_set(index_t rows, index_t cols, double fraction, Rng rng);

/// The recovery error of the paper's figures: 0.5 · mean over all entries of
/// ((1 - mask) .* (f - Φ))², the observed ones counting as 0.
double recovery_error(const Tensor<double>& product, const Tensor<double>& target,
                      const Tensor<std::uint8_t>& mask);

}  // namespace parsimony
