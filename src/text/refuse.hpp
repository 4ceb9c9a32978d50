#pragma once

#include <parsimony/error.hpp>

#include <string>

#include <fmt/format.h>

namespace parsimony::text {

/// \throws InputError always: what is wrong with that file.
[[noreturn]] inline void refuse(const std::string& path, const std::string& what) {
  throw InputError(fmt::format("{}: {}", path, what));
}

}  // namespace parsimony::text
