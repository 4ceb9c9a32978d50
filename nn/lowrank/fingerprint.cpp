// FNV-1a over words of eight bytes: fast enough for hundreds of megabytes, and not meant against
// somebody who wants two models to look alike.
#include "fingerprint.hpp"

#include <cstdint>
#include <cstring>

#include <fmt/format.h>

namespace parsimony {

namespace {

class Hash {
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
  void add(const std::string& text) { add(text.data(), text.size()); }
  std::string digits() const { return fmt::format("{:016x}", value_); }

 private:
  void mix(std::uint64_t word) {
    value_ = (value_ ^ word) * 0x100000001b3ULL;
    value_ ^= value_ >> 32;  // high bits of a float would not reach low ones
  }
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace

template <class T>
std::string fingerprint(const Module<T>& model,
                        const std::function<bool(const std::string&)>& is_held) {
  Hash hash;
  for (const auto& [name, var] : model.named_parameters()) {
    if (is_held(name)) continue;
    hash.add(name);
    hash.add(var.shape().str());
    // As floats, so that a model in double precision has the same.
    const Tensor<float> values = cast<float>(var.value());
    hash.add(values.data(), static_cast<std::size_t>(values.size()) * sizeof(float));
  }
  return hash.digits();
}

template std::string fingerprint(const Module<float>&,
                                 const std::function<bool(const std::string&)>&);
template std::string fingerprint(const Module<double>&,
                                 const std::function<bool(const std::string&)>&);

}  // namespace parsimony
