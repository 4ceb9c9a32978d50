// Catch2, version 2 (Debian 12) or 3: the one header that tests include for it. What the versions
// name differently is spelled here.
#pragma once

#include <string>

#if __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
namespace parsimony::testing {
/// Matches messages that contain `part`: CHECK_THROWS_WITH(f(), contains("sizes")).
inline auto contains(const std::string& part) { return Catch::Matchers::Contains(part); }
}  // namespace parsimony::testing
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;
namespace parsimony::testing {
inline auto contains(const std::string& part) { return Catch::Matchers::ContainsSubstring(part); }
}  // namespace parsimony::testing
#endif
