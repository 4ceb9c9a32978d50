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

/// The blocks of `lanes` consecutive 64-bit counters from `first`, upper counter words 0, word by
/// word: out[w][i] is word w of counter first + i. The same numbers as block(), in loops that the
/// compiler turns into vector code.
template <int lanes>
void blocks(std::uint64_t first, std::uint64_t key, std::uint32_t (&out)[4][lanes]) {
  auto& x0 = out[0];
  auto& x1 = out[1];
  auto& x2 = out[2];
  auto& x3 = out[3];
  for (int i = 0; i < lanes; ++i) {
    const std::uint64_t counter = first + static_cast<std::uint64_t>(i);
    x0[i] = static_cast<std::uint32_t>(counter);
    x1[i] = static_cast<std::uint32_t>(counter >> 32);
    x2[i] = 0;
    x3[i] = 0;
  }
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < lanes; ++i) {
      const std::uint64_t product0 = multiplier0 * x0[i];
      const std::uint64_t product1 = multiplier1 * x2[i];
      x0[i] = static_cast<std::uint32_t>(product1 >> 32) ^ x1[i] ^ key0;
      x1[i] = static_cast<std::uint32_t>(product1);
      x2[i] = static_cast<std::uint32_t>(product0 >> 32) ^ x3[i] ^ key1;
      x3[i] = static_cast<std::uint32_t>(product0);
    }
    key0 += weyl0;
    key1 += weyl1;
  }
}

}  // namespace parsimony::philox
