// The two 16-bit float types: conversion from and to float, rounding to nearest even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace parsimony {

/// IEEE half precision: 5 bits of exponent, 10 of mantissa.
inline float from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1F;
  const std::uint32_t mantissa = bits & 0x3FF;
  float value = 0;
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-24F;  // zero and subnormals
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 0x1F ? 0xFF : exponent + 112;
  const std::uint32_t out = sign | wide << 23 | mantissa << 13;
  std::memcpy(&value, &out, sizeof value);
  return value;
}

/// bfloat16 is the upper half of a float.
inline float from_bfloat(std::uint16_t bits) {
  const std::uint32_t out = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &out, sizeof value);
  return value;
}

/// Infinite beyond the largest half, 65504; NaN stays NaN.
inline std::uint16_t to_half(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00);
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0F) return static_cast<std::uint16_t>(sign | 0x7C00);
  // Below the normal range the spacing is 2^-24; nearbyint rounds to even.
  if (magnitude < 0x1p-14F) {
    return static_cast<std::uint16_t>(
        sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 0x1p24F)));
  }
  std::uint32_t rounded = (bits & 0x7FFFFFFF) + 0xFFF + (bits >> 13 & 1);
  rounded = (rounded >> 13) - (std::uint32_t{112} << 10);
  return static_cast<std::uint16_t>(sign | rounded);
}

inline std::uint16_t to_bfloat(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace parsimony
