#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

Tensor<double> low_rank_target(index_t rows, index_t cols, index_t rank, Rng rng) {
  if (rank < 1 || rank > std::min(rows, cols)) {
    throw ValueError(
        fmt::format("target: expected a rank in [1, {}], the smaller side of {} x {}; got {}",
                    std::min(rows, cols), rows, cols, rank));
  }
  const Svd<double> s = svd(rng.normal<double>({rows, cols}));
  const Tensor<double> u = slice(s.u, 1, 0, rank);
  return matmul(mul(u, s.s.rows(0, rank)), s.vt.rows(0, rank));
}

IndexSet random_index_set(index_t rows, index_t cols, double fraction, Rng rng) {
  const auto count = static_cast<index_t>(fraction * static_cast<double>(rows * cols));
  if (!(fraction > 0 && fraction <= 1) || count < 1) {
    throw ValueError(
        fmt::format("mask: expected a fraction in (0, 1] that leaves an entry; got {} of {} x {}",
                    fraction, rows, cols));
  }
  std::vector<Entry> entries;
  entries.reserve(static_cast<std::size_t>(count));
  for (const index_t position : rng.choose(rows * cols, count)) {
    entries.push_back({position / cols, position % cols});
  }
  return IndexSet(rows, cols, entries);
}

double recovery_error(const Tensor<double>& product, const Tensor<double>& target,
                      const Tensor<std::uint8_t>& mask) {
  if (product.shape() != target.shape() || product.shape() != mask.shape()) {
    throw ShapeError(fmt::format("recovery error: shapes {}, {} and {} differ",
                                 product.shape().str(), target.shape().str(), mask.shape().str()));
  }
  double total = 0;
  for (index_t i = 0; i < product.size(); ++i) {
    const double residual = mask.data()[i] != 0 ? 0.0 : product.data()[i] - target.data()[i];
    total += residual * residual;
  }
  return 0.5 * total / static_cast<double>(product.size());
}

}  // namespace parsimony
