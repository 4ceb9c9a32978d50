// Checkpoint files: safetensors with a 64-bit checksum over names, types, shapes, values and texts.
//
// The checksum takes eight bytes at a time through h = (h xor word) * odd constant, then mixes the
// high bits down. Each step is a bijection of h and of the word, so a change within one word always
// changes the result.
#include "run/checkpoint.hpp"

#include <parsimony/error.hpp>

#include <cctype>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace parsimony::detail {

namespace {

class Checksum {
 public:
  void add(const void* data, std::size_t size) {
    const char* bytes = static_cast<const char*>(data);
    word(size);
    for (; size >= sizeof(std::uint64_t); size -= sizeof(std::uint64_t)) {
      std::uint64_t next;
      std::memcpy(&next, bytes, sizeof(next));
      word(next);
      bytes += sizeof(next);
    }
    std::uint64_t last = 0;
    if (size > 0) std::memcpy(&last, bytes, size);
    word(last);
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::uint64_t value() const { return hash_; }

 private:
  void word(std::uint64_t next) {
    hash_ = (hash_ ^ next) * 0x9e3779b97f4a7c15ULL;
    hash_ ^= hash_ >> 29;
  }
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

std::string checksum_of(const TensorMap& state) {
  Checksum sum;
  for (const std::string& name : state.names()) {
    sum.add(name);
    sum.add(state.dtype(name));
    const Shape& shape = state.shape(name);
    sum.add(shape.begin(), static_cast<std::size_t>(shape.rank()) * sizeof(index_t));
    std::visit(
        [&](const auto& tensor) {
          sum.add(tensor.data(), static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data()));
        },
        state.value(name));
  }
  for (const auto& [key, text] : state.metadata) {
    if (key == "checksum" || key == "format") continue;  // the writer adds the latter
    sum.add(key);
    sum.add(text);
  }
  return fmt::format("{:016x}", sum.value());
}

}  // namespace

std::string checkpoint_path(const std::string& folder, const std::string& stage) {
  std::string name;
  for (const char c : stage) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        std::isalnum(byte) != 0 || c == '-' || c == '_' || (c == '.' && !name.empty());
    name += plain ? std::string(1, c) : fmt::format("%{:02x}", byte);
  }
  if (name.size() > 200) {  // a file name has at most 255 bytes
    Checksum sum;
    sum.add(stage);
    name = fmt::format("{}-{:016x}", name.substr(0, 150), sum.value());
  }
  return fmt::format("{}/checkpoint/{}.safetensors", folder, name);
}

void save_checkpoint(const std::string& path, TensorMap state) {
  state.metadata["checksum"] = checksum_of(state);
  save_safetensors(path, state);
}

TensorMap load_checkpoint(const std::string& path) {
  TensorMap state;
  try {
    state = load_safetensors(path);
  } catch (const InputError& error) {
    throw_bad_checkpoint(path, error.what());
  }
  const auto sum = state.metadata.find("checksum");
  if (sum == state.metadata.end() || sum->second != checksum_of(state)) {
    throw_bad_checkpoint(path, "its checksum does not fit its content");
  }
  return state;
}

void throw_bad_checkpoint(const std::string& path, const std::string& why) {
  throw InputError(
      fmt::format("{}: the checkpoint cannot be used: {}; remove this file to repeat its stage, or "
                  "start afresh "
                  "without --resume",
                  path, why));
}

}  // namespace parsimony::detail
