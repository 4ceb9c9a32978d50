// What the norms of rows ask of their eps: a negative one makes NaNs of rows that hardly vary.
#pragma once

#include <parsimony/error.hpp>

#include <fmt/format.h>

namespace parsimony::detail {

inline void require_norm_eps(const char* op, double eps) {
  if (!(eps >= 0)) throw ValueError(fmt::format("{}: expected eps >= 0; got {}", op, eps));
}

}  // namespace parsimony::detail
