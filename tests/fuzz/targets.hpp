// Fuzz targets: each a function that takes any bytes and must return, not crash, not throw.
// libFuzzer calls it through entry.cpp; the unit tests call it on the seeds in seeds/NAME/
// (test_seeds.cpp), which is also where an input that once failed goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace parsimony::fuzz {

struct Input {
  const std::uint8_t* data;
  std::size_t size;
};

/// The first byte, to choose by, and the rest; 0 and nothing for no bytes.
inline std::uint8_t take_byte(Input& input) {
  if (input.size == 0) return 0;
  --input.size;
  return *input.data++;
}

inline std::string_view as_text(const Input& input) {
  return {reinterpret_cast<const char*>(input.data), input.size};
}

/// What must hold for every input.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error("does not hold: " + what);
}

// One line a target: its file is fuzz_NAME.cpp, listed with what it links to in meson.build.
void bpe(Input input);
void config(Input input);
void safetensors(Input input);
void tables(Input input);
void tokenizer(Input input);

}  // namespace parsimony::fuzz
