// FNV-1a over words of eight bytes: fast enough for hundreds of megabytes, and not meant against
// somebody who wants two things to look alike.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace parsimony {

class Digest {
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::size_t at = 0;
    for (; at + 8 <= size; at += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + at, 8);
      mix(word);
    }
    for (; at < size; ++at) mix(bytes[at]);
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  /// Values side by side: a vector's or a tensor's, none of them with padding.
  template <class Values>
  void add_values(const Values& values) {
    const auto count = static_cast<std::uint64_t>(values.size());
    add(&count, sizeof(count));
    add(values.data(), static_cast<std::size_t>(count) * sizeof(*values.data()));
  }
  /// Sixteen hexadecimal digits.
  std::string digits() const { return fmt::format("{:016x}", value_); }

 private:
  void mix(std::uint64_t word) {
    value_ = (value_ ^ word) * 0x100000001b3ULL;
    value_ ^= value_ >> 32;  // high bits of a float would not reach low ones
  }
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace parsimony
