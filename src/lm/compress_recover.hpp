// Training of the pairs after a compression without gradients.
#pragma once

#include <parsimony/compress.hpp>

#include <vector>

namespace parsimony {

/// Trains adapters on the pairs among `layers` on the calibration part, by the options' recovery,
/// and merges them; ranks stay. @throws NumericalError with the step on a loss that is not finite.
void recover_pairs(Module<float>& model, const std::vector<CompressibleLayer<float>>& layers,
                   const CompressionData& data, const CompressOptions& options,
                   const CompressionProgress& say);

}  // namespace parsimony
