// Named tensors and their file format; the header is parsed in safetensors_header.cpp.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/safetensors.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <type_traits>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/half.hpp"
#include "io/safetensors_header.hpp"
#include "io/tensor_name.hpp"

namespace parsimony {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are little-endian");

namespace {

constexpr std::uint64_t largest_header = 100'000'000;  // as the format's reference reader

template <class T>
const char* dtype_of() {
  if constexpr (std::is_same_v<T, double>) return "F64";
  if constexpr (std::is_same_v<T, float>) return "F32";
  if constexpr (std::is_same_v<T, std::int64_t>) return "I64";
  if constexpr (std::is_same_v<T, std::uint8_t>) return "U8";
}

}  // namespace

FloatFormat float_format(const std::string& name) {
  if (name == "f32") return FloatFormat::f32;
  if (name == "f16") return FloatFormat::f16;
  if (name == "bf16") return FloatFormat::bf16;
  throw ValueError(fmt::format("format: expected f32, f16 or bf16; got '{}'", name));
}

// --- TensorMap -------------------------------------------------------------------------------

template <class T>
void TensorMap::set(const std::string& name, const Tensor<T>& tensor) {
  if (!tensor.defined() || name == "__metadata__") {
    throw ValueError(
        fmt::format("TensorMap: expected a tensor and a name that is not reserved; "
                    "got {} as '{}'",
                    tensor.defined() ? "a tensor" : "an undefined tensor", name));
  }
  entries_[name] = Entry{dtype_of<T>(), tensor};
}

void TensorMap::set_narrow(const std::string& name, const Tensor<float>& tensor,
                           FloatFormat format) {
  set(name, tensor);
  entries_[name].saved_as = format;
}

FloatFormat TensorMap::saved_as(const std::string& name) const { return entry(name).saved_as; }

void TensorMap::set_bool(const std::string& name, const Tensor<std::uint8_t>& tensor) {
  if (std::any_of(tensor.begin(), tensor.end(), [](std::uint8_t x) { return x > 1; })) {
    throw ValueError(fmt::format("TensorMap: '{}' has values other than 0 and 1", name));
  }
  set(name, tensor);
  entries_[name].dtype = "BOOL";
}

const TensorMap::Entry& TensorMap::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end()) return found->second;
  const std::string near = nearest_name(name, names());
  const std::string hint =
      near.empty() ? "" : fmt::format("; did you mean '{}'?", shown_name(near));
  throw InputError(fmt::format("safetensors: {} no tensor '{}'{}",
                               source_.empty() ? "there is" : fmt::format("'{}' has", source_),
                               shown_name(name), hint));
}

template <class T>
const Tensor<T>& TensorMap::get(const std::string& name) const {
  const Entry& found = entry(name);
  const auto* tensor = std::get_if<Tensor<T>>(&found.value);
  if (tensor == nullptr) {
    throw InputError(fmt::format("safetensors: {}tensor '{}' is {}; expected {}",
                                 source_.empty() ? "" : fmt::format("'{}': ", source_),
                                 shown_name(name), found.dtype, dtype_of<T>()));
  }
  return *tensor;
}

namespace {

/// True if x survives the conversion to an integer type.
template <class To, class From>
bool representable(From x) {
  if constexpr (std::is_floating_point_v<To>) {
    return true;
  } else if constexpr (std::is_floating_point_v<From>) {
    // The bound of int64, 2^63, is exact in float and double; its maximum is not.
    const double bound = std::is_same_v<To, std::uint8_t> ? 256.0 : 0x1p63;
    const double low = std::is_same_v<To, std::uint8_t> ? 0.0 : -0x1p63;
    return static_cast<double>(x) >= low && static_cast<double>(x) < bound && std::trunc(x) == x;
  } else {
    return static_cast<From>(static_cast<To>(x)) == x;
  }
}

}  // namespace

template <class T>
Tensor<T> TensorMap::get_as(const std::string& name) const {
  return std::visit(
      [&](const auto& tensor) -> Tensor<T> {
        using From = typename std::decay_t<decltype(tensor)>::value_type;
        if constexpr (std::is_same_v<From, T>) {
          return tensor;
        } else {
          if (!std::all_of(tensor.begin(), tensor.end(), representable<T, From>)) {
            throw InputError(
                fmt::format("safetensors: {}tensor '{}' has values that {} cannot hold",
                            source_.empty() ? "" : fmt::format("'{}': ", source_), shown_name(name),
                            dtype_of<T>()));
          }
          return cast<T>(tensor);
        }
      },
      entry(name).value);
}

template <class T>
Tensor<T> TensorMap::weight(const std::string& name) const {
  const Entry& found = entry(name);
  if (!std::holds_alternative<Tensor<float>>(found.value) &&
      !std::holds_alternative<Tensor<double>>(found.value)) {
    throw InputError(fmt::format(
        "safetensors: {}tensor '{}' is {}; weights are F32, F16, BF16 or F64",
        source_.empty() ? "" : fmt::format("'{}': ", source_), shown_name(name), found.dtype));
  }
  return get_as<T>(name);
}

std::vector<std::string> TensorMap::names() const {
  std::vector<std::string> out;
  for (const auto& [name, unused] : entries_) out.push_back(name);
  return out;
}

const std::string& TensorMap::dtype(const std::string& name) const { return entry(name).dtype; }

const Shape& TensorMap::shape(const std::string& name) const {
  return std::visit([](const auto& tensor) -> const Shape& { return tensor.shape(); },
                    entry(name).value);
}

const TensorMap::Value& TensorMap::value(const std::string& name) const {
  return entry(name).value;
}

// --- Writing ---------------------------------------------------------------------------------

namespace {

/// What is wrong if a tensor has NaN or an infinity, or "".
std::string not_finite(const std::string& path, const TensorMap& tensors) {
  for (const std::string& name : tensors.names()) {
    const double found = std::visit(
        [](const auto& tensor) -> double {
          if constexpr (std::is_floating_point_v<
                            typename std::decay_t<decltype(tensor)>::value_type>) {
            const auto at = std::find_if_not(tensor.begin(), tensor.end(),
                                             [](auto x) { return std::isfinite(x); });
            return at == tensor.end() ? 0 : static_cast<double>(*at);
          }
          return 0;
        },
        tensors.value(name));
    if (std::isfinite(found)) continue;
    return fmt::format("'{}': tensor '{}': expected finite numbers; got {}", path, shown_name(name),
                       found);
  }
  return "";
}

/// @throws ValueError if a finite value is beyond the type's largest.
std::vector<std::uint16_t> narrowed(const std::string& path, const std::string& name,
                                    const float* values, std::size_t count, FloatFormat format) {
  const bool half = format == FloatFormat::f16;
  const std::uint16_t infinity = half ? 0x7C00 : 0x7F80;
  std::vector<std::uint16_t> out(count);
  std::transform(values, values + count, out.begin(), half ? to_half : to_bfloat);
  for (std::size_t i = 0; i < count; ++i) {
    if ((out[i] & 0x7FFF) != infinity || std::isinf(values[i])) continue;
    throw ValueError(fmt::format(
        "'{}': tensor '{}': {} is beyond {}; choose {}", path, shown_name(name), values[i],
        half ? "F16's largest number, 65504" : "BF16's largest number, 3.39e38",
        half ? "bf16 or f32" : "f32"));
  }
  return out;
}

}  // namespace

void check_finite(const std::string& path, const TensorMap& tensors) {
  const std::string wrong = not_finite(path, tensors);
  if (!wrong.empty()) throw InputError(wrong);
}

void save_safetensors(const std::string& path, const TensorMap& tensors) {
  struct Block {
    std::string name;
    const char* dtype;
    std::uint64_t element;
    const void* data;
    std::uint64_t bytes;
    std::uint64_t begin;
    FloatFormat format;
  };
  std::vector<Block> blocks;
  for (const std::string& name : tensors.names()) {
    std::visit(
        [&](const auto& tensor) {
          const std::uint64_t element = sizeof(*tensor.data());
          // What was read from a narrower type is written as it is held now.
          using T = typename std::decay_t<decltype(tensor)>::value_type;
          const bool boolean = tensors.dtype(name) == "BOOL";
          const FloatFormat format = tensors.saved_as(name);
          const char* dtype = format == FloatFormat::f16    ? "F16"
                              : format == FloatFormat::bf16 ? "BF16"
                              : boolean                     ? "BOOL"
                                                            : dtype_of<T>();
          const std::uint64_t width = format == FloatFormat::f32 ? element : 2;
          blocks.push_back({name, dtype, width, tensor.data(),
                            static_cast<std::uint64_t>(tensor.size()) * width, 0, format});
        },
        tensors.value(name));
  }
  // Wide types first: every tensor then starts at a multiple of its element, which readers that map
  // the file need.
  std::vector<Block*> order;
  for (Block& block : blocks) order.push_back(&block);
  std::stable_sort(order.begin(), order.end(),
                   [](const Block* a, const Block* b) { return a->element > b->element; });
  std::uint64_t at = 0;
  for (Block* block : order) {
    block->begin = at;
    at += block->bytes;
  }

  std::map<std::string, std::string> metadata = tensors.metadata;
  metadata.emplace("format", "pt");
  std::string header = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (header.back() != '{') header += ',';
    header += json_quote(key) + ':' + json_quote(value);
  }
  header += '}';
  for (const Block& block : blocks) {
    std::string shape;
    for (const index_t n : tensors.shape(block.name)) {
      shape += fmt::format("{}{}", shape.empty() ? "" : ",", n);
    }
    header += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          json_quote(block.name), block.dtype, shape, block.begin,
                          block.begin + block.bytes);
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  if (header.size() > largest_header) {
    throw ValueError(
        fmt::format("safetensors: '{}': the header of {} bytes exceeds the format's {}", path,
                    header.size(), largest_header));
  }

  AtomicFile file(path);
  const std::uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const Block* block : order) {
    if (block->format == FloatFormat::f32) {
      file.write(block->data, block->bytes);
      continue;
    }
    const std::vector<std::uint16_t> narrow = narrowed(
        path, block->name, static_cast<const float*>(block->data), block->bytes / 2, block->format);
    file.write(narrow.data(), block->bytes);
  }
  file.commit();
}

void save_weights(const std::string& path, const TensorMap& weights) {
  const std::string wrong = not_finite(path, weights);
  if (!wrong.empty()) throw NumericalError(wrong);
  save_safetensors(path, weights);
}

// --- Reading ---------------------------------------------------------------------------------

/// One pass over the file; tensors of a held type are read in place.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path) : path_(path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
      throw InputError(fmt::format("'{}': expected a file; got a pipe or a device", path));
    }
    ::close(open_input(path));
    file_.open(path, std::ios::binary);
    if (!file_) throw IoError(fmt::format("safetensors: cannot open '{}'", path));
    size_ = static_cast<std::uint64_t>(info.st_size);
  }

  TensorMap read() {
    detail::SafetensorsHeader header = read_header();
    TensorMap map;
    map.source_ = path_;
    map.metadata = std::move(header.metadata);
    for (const detail::TensorInfo& tensor : header.tensors) {
      map.entries_[tensor.name] = TensorMap::Entry{tensor.dtype, read_tensor(tensor)};
    }
    return map;
  }

  SafetensorsSummary summarize() {
    detail::SafetensorsHeader header = read_header();
    SafetensorsSummary summary;
    summary.metadata = std::move(header.metadata);
    summary.file_bytes = size_;
    for (const detail::TensorInfo& t : header.tensors) {
      summary.tensors.push_back({t.name, t.dtype, shape_of(t), t.end - t.begin});
    }
    std::sort(summary.tensors.begin(), summary.tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return summary;
  }

 private:
  detail::SafetensorsHeader read_header() {
    if (size_ < 8) {
      throw InputError(fmt::format("safetensors: '{}': expected at least 8 bytes; the file has {}",
                                   path_, size_));
    }
    std::uint64_t length = 0;
    read_bytes(&length, sizeof length);
    if (length > largest_header || length > size_ - 8) {
      refuse_pickle(length);
      throw InputError(
          fmt::format("safetensors: '{}': a header of {} bytes does not fit the file of {} bytes "
                      "or exceeds {}; "
                      "is this a safetensors file, and whole?",
                      path_, length, size_, largest_header));
    }
    std::string text(length, '\0');
    read_bytes(text.data(), length);
    return detail::parse_safetensors_header(path_, text, size_ - 8 - length);
  }

  static Shape shape_of(const detail::TensorInfo& tensor) {
    Shape shape;
    for (const std::uint64_t n : tensor.shape) shape.push_back(static_cast<index_t>(n));
    return shape;
  }

  /// PyTorch's own files, under whatever name: the first bytes of a zip archive or of a pickle.
  void refuse_pickle(std::uint64_t first) const {
    const bool zip = (first & 0xFFFFFFFF) == 0x04034B50;
    const bool pickle = (first & 0xFF) == 0x80 && (first >> 8 & 0xFF) <= 5;
    if (!zip && !pickle) return;
    throw InputError(fmt::format(
        "safetensors: '{}' is {}; a pickle can run code and is not read. Convert it: load it with "
        "transformers and call save_pretrained(folder, safe_serialization=True)",
        path_, zip ? "a zip archive, as PyTorch writes" : "a pickle"));
  }

  void read_bytes(void* out, std::uint64_t count) {
    file_.read(static_cast<char*>(out), static_cast<std::streamsize>(count));
    if (!file_) throw IoError(fmt::format("safetensors: reading '{}' failed half-way", path_));
  }

  template <class T>
  Tensor<T> read_as_is(const Shape& shape) {
    Tensor<T> out(shape);
    read_bytes(out.mutable_data(), static_cast<std::uint64_t>(out.size()) * sizeof(T));
    return out;
  }

  /// Elements of type From, in pieces, through `convert`.
  template <class T, class From, class Convert>
  Tensor<T> read_converted(const Shape& shape, Convert convert) {
    Tensor<T> out(shape);
    T* o = out.mutable_data();
    std::vector<From> piece(static_cast<std::size_t>(std::min<index_t>(out.size(), 1 << 16)));
    for (index_t at = 0; at < out.size(); at += static_cast<index_t>(piece.size())) {
      const auto count = std::min<index_t>(out.size() - at, static_cast<index_t>(piece.size()));
      read_bytes(piece.data(), static_cast<std::uint64_t>(count) * sizeof(From));
      std::transform(piece.begin(), piece.begin() + count, o + at, convert);
    }
    return out;
  }

  template <class From>
  Tensor<std::int64_t> read_integers(const Shape& shape) {
    return read_converted<std::int64_t, From>(shape,
                                              [](From x) { return static_cast<std::int64_t>(x); });
  }

  TensorMap::Value read_tensor(const detail::TensorInfo& tensor) {
    const Shape shape = shape_of(tensor);
    const std::string& dtype = tensor.dtype;
    if (dtype == "F64") return read_as_is<double>(shape);
    if (dtype == "F32") return read_as_is<float>(shape);
    if (dtype == "F16") return read_converted<float, std::uint16_t>(shape, from_half);
    if (dtype == "BF16") return read_converted<float, std::uint16_t>(shape, from_bfloat);
    if (dtype == "I64") return read_as_is<std::int64_t>(shape);
    if (dtype == "I32") return read_integers<std::int32_t>(shape);
    if (dtype == "I16") return read_integers<std::int16_t>(shape);
    if (dtype == "I8") return read_integers<std::int8_t>(shape);
    if (dtype == "U32") return read_integers<std::uint32_t>(shape);
    if (dtype == "U16") return read_integers<std::uint16_t>(shape);
    Tensor<std::uint8_t> bytes = read_as_is<std::uint8_t>(shape);
    if (dtype == "BOOL" &&
        std::any_of(bytes.begin(), bytes.end(), [](std::uint8_t x) { return x > 1; })) {
      throw InputError(fmt::format("safetensors: '{}': tensor {}: a BOOL is neither 0 nor 1", path_,
                                   json_quote(tensor.name)));
    }
    return bytes;
  }

  std::string path_;
  std::ifstream file_;
  std::uint64_t size_ = 0;
};

TensorMap load_safetensors(const std::string& path) { return SafetensorsReader(path).read(); }

SafetensorsSummary summarize_safetensors(const std::string& path) {
  return SafetensorsReader(path).summarize();
}

#define PARSIMONY_INSTANTIATE(T)                                      \
  template void TensorMap::set(const std::string&, const Tensor<T>&); \
  template const Tensor<T>& TensorMap::get(const std::string&) const; \
  template Tensor<T> TensorMap::get_as(const std::string&) const;     \
  template Tensor<T> TensorMap::weight(const std::string&) const;
PARSIMONY_INSTANTIATE(double)
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(std::int64_t)
PARSIMONY_INSTANTIATE(std::uint8_t)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
