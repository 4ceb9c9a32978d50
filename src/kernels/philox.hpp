// One block of Philox 4x32-10 (Salmon et al. 2011): a bijection of 128-bit counters for each 64-bit
// key, whose outputs pass the statistical batteries of the paper.
#pragma once

#include <array>
#include <cstdint>

namespace parsimony::philox {

using Block = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

constexpr std::uint64_t multiplier0 = 0xD2511F53;
constexpr std::uint64_t multiplier1 = 0xCD9E8D57;
constexpr std::uint32_t weyl0 = 0x9E3779B9;  // golden ratio
constexpr std::uint32_t weyl1 = 0xBB67AE85;  // sqrt(3) - 1
constexpr int rounds = 10;

inline Block block(Block x, Key key) {
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t product0 = multiplier0 * x[0];
    const std::uint64_t product1 = multiplier1 * x[2];
    x = {static_cast<std::uint32_t>(product1 >> 32) ^ x[1] ^ key[0],
         static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ x[3] ^ key[1],
         static_cast<std::uint32_t>(product0)};
    key[0] += weyl0;
    key[1] += weyl1;
  }
  return x;
}

}  // namespace parsimony::philox
