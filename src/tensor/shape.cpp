#include <parsimony/error.hpp>
#include <parsimony/tensor.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace parsimony {

void Shape::push_back(index_t size) {
  if (rank_ == max_rank) {
    throw ShapeError(fmt::format("shape: expected at most {} axes; got more", max_rank));
  }
  if (size < 0) throw ShapeError(fmt::format("shape: expected sizes >= 0; got {}", size));
  // 2^60 elements are beyond any memory; below it no product of sizes overflows.
  constexpr index_t limit = index_t{1} << 60;
  index_t elements = size;
  for (const index_t other : *this) {
    if (other != 0 && elements > limit / other) elements = limit + 1;
    if (elements <= limit) elements *= other;
  }
  if (elements > limit) {
    throw ShapeError(
        fmt::format("shape: {} with a further axis of {} has over 2^60 elements", str(), size));
  }
  sizes_[static_cast<std::size_t>(rank_++)] = size;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

std::string Shape::str() const {
  std::string out = "(";
  for (int i = 0; i < rank_; ++i) {
    out += (i > 0 ? ", " : "") + std::to_string(sizes_[static_cast<std::size_t>(i)]);
  }
  return out + (rank_ == 1 ? ",)" : ")");
}

void Shape::throw_bad_axis(int axis) const {
  throw ShapeError(fmt::format("axis: expected one in [{}, {}) for shape {}; got {}", -rank_, rank_,
                               str(), axis));
}

Shape broadcast_shape(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out;
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank());
    const int ib = i - (rank - b.rank());
    const index_t na = ia >= 0 ? a[ia] : 1;
    const index_t nb = ib >= 0 ? b[ib] : 1;
    if (na != nb && na != 1 && nb != 1) {
      throw ShapeError(
          fmt::format("{}: shapes {} and {} do not broadcast: sizes {} and {} of axis {} differ",
                      op, a.str(), b.str(), na, nb, i));
    }
    out.push_back(na == 1 ? nb : na);
  }
  return out;
}

}  // namespace parsimony
