// The header of a safetensors file: parsed strictly, checked against the size of the file.
#pragma once

#include <parsimony/tensor.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony::detail {

struct TensorInfo {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  /// In the order of their bytes.
  std::vector<TensorInfo> tensors;
};

/// Bytes of one element; 0 for a type that is not supported.
std::uint64_t dtype_size(std::string_view dtype);

/// @param text the header; `data_size` the bytes that follow it; `path` for messages.
/// @throws InputError as load_safetensors.
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text,
                                           std::uint64_t data_size);

}  // namespace parsimony::detail
