// Any bytes as a safetensors file. What is read is written and read once more.
#include <parsimony/error.hpp>
#include <parsimony/safetensors.hpp>

#include <cstring>
#include <type_traits>
#include <variant>

#include "fuzz/targets.hpp"
#include "support/temp_folder.hpp"

namespace parsimony::fuzz {

namespace {

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  if (a.shape() != b.shape()) return false;
  return a.size() == 0 ||
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

void check_same(const TensorMap& a, const TensorMap& b) {
  require(a.names() == b.names(), "as many tensors");
  for (const std::string& name : a.names()) {
    std::visit(
        [&](const auto& tensor) {
          using T = typename std::decay_t<decltype(tensor)>::value_type;
          require(same_bits(tensor, b.get<T>(name)), "tensors read back to the same bits");
        },
        a.value(name));
  }
}

}  // namespace

void safetensors(Input input) {
  thread_local const testing::TempFolder folder;
  const std::string path = folder / "input";
  testing::write_raw(path, std::string(as_text(input)));
  TensorMap map;
  try {
    map = load_safetensors(path);
  } catch (const InputError&) {
    return;  // most inputs
  }
  std::size_t bytes = 0;
  for (const std::string& name : map.names()) {
    std::visit([&](const auto& tensor) { bytes += static_cast<std::size_t>(tensor.size()); },
               map.value(name));
    require(map.contains(name), "what is named is there");
  }
  require(bytes <= input.size, "no more numbers than bytes");
  save_safetensors(path, map);
  const TensorMap again = load_safetensors(path);
  check_same(map, again);
  auto metadata = map.metadata;
  metadata.emplace("format", "pt");
  require(again.metadata == metadata, "metadata reads back");
}

}  // namespace parsimony::fuzz
