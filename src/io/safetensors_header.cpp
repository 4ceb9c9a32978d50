// A streaming parse of the JSON header: it accepts exactly the format's shape, so depth and
// duplicate keys, which a parsed document would hide, are seen as they come.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "io/safetensors_header.hpp"

namespace parsimony::detail {

namespace {

const char* const metadata_key = "__metadata__";

/// Handler of nlohmann's SAX interface. A rejection keeps its reason in `error` and ends the parse.
class HeaderHandler {
 public:
  explicit HeaderHandler(SafetensorsHeader& header) : header_(header) {}

  std::string error;

  bool null() { return reject("null"); }
  bool boolean(bool /*value*/) { return reject("a boolean"); }
  bool number_integer(std::int64_t value) { return reject(fmt::format("{}", value)); }
  bool number_float(double /*value*/, const std::string& text) { return reject(text); }
  template <class Binary>
  bool binary(Binary& /*value*/) {
    return reject("binary data");
  }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == Place::shape) {
      tensor_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
      return true;
    }
    return reject(fmt::format("{}", value));
  }

  bool string(std::string& value) {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = value;
      return true;
    }
    if (place_ == Place::tensor && key_ == "dtype") {
      tensor_.dtype = value;
      return true;
    }
    return reject("the string " + json_quote(value));
  }

  bool start_object(std::size_t /*size*/) {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top && key_ == metadata_key) {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      place_ = Place::tensor;
      tensor_ = TensorInfo();
      tensor_.name = key_;
    } else {
      return reject("an object");
    }
    keys_.emplace_back();
    return true;
  }

  bool key(std::string& value) {
    key_ = value;
    if (!keys_.back().insert(value).second) {
      return fail(fmt::format("the key {} comes twice{}", json_quote(value), where()));
    }
    if (place_ == Place::tensor && value != "dtype" && value != "shape" &&
        value != "data_offsets") {
      return fail(fmt::format("unknown key {}{}", json_quote(value), where()));
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor) {
      for (const char* required : {"dtype", "shape", "data_offsets"}) {
        if (keys_.back().count(required) == 0) {
          return fail(fmt::format("\"{}\" is missing{}", required, where()));
        }
      }
      header_.tensors.push_back(tensor_);
    }
    keys_.pop_back();
    place_ = place_ == Place::top ? Place::end : Place::top;
    return true;
  }

  bool start_array(std::size_t /*size*/) {
    if (place_ != Place::tensor || key_ == "dtype") return reject("an array");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() {
    const bool complete = place_ == Place::shape || offsets_ == 2;
    place_ = Place::tensor;
    return complete ||
           fail(fmt::format("\"data_offsets\" has {} numbers instead of 2{}", offsets_, where()));
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& /*reason*/) {
    return fail(fmt::format("the header is not JSON in UTF-8 (at its byte {})", position));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };

  std::string where() const {
    const bool inside =
        place_ == Place::tensor || place_ == Place::shape || place_ == Place::offsets;
    if (place_ == Place::metadata) return " in __metadata__";
    return inside ? " in tensor " + json_quote(tensor_.name) : std::string();
  }
  bool fail(const std::string& reason) {
    error = reason;
    return false;
  }
  bool reject(const std::string& got) {
    switch (place_) {
      case Place::start:
        return fail(fmt::format("expected an object as header; got {}", got));
      case Place::shape:
        return fail(fmt::format("a size of a shape is {}{}", got, where()));
      case Place::offsets:
        return fail(fmt::format("expected two byte offsets; got {}{}", got, where()));
      default:
        return fail(fmt::format("unexpected {} at key {}{}", got, json_quote(key_), where()));
    }
  }

  SafetensorsHeader& header_;
  Place place_ = Place::start;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
  TensorInfo tensor_;
  int offsets_ = 0;
};

/// Bytes of a tensor, or nothing if that number has no place in 63 bits.
bool byte_count(const TensorInfo& tensor, std::uint64_t element, std::uint64_t& bytes) {
  constexpr std::uint64_t top = std::numeric_limits<std::int64_t>::max();
  bytes = element;
  bool overflow = false;
  bool empty = false;
  for (const std::uint64_t n : tensor.shape) {
    empty = empty || n == 0;
    overflow = overflow || n > top || (n > 0 && bytes > top / n);
    if (!overflow && n > 0) bytes *= n;
  }
  if (empty) bytes = 0;
  return !overflow;
}

}  // namespace

std::uint64_t dtype_size(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "U8" || dtype == "I8" || dtype == "BOOL") return 1;
  return 0;
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text,
                                           std::uint64_t data_size) {
  SafetensorsHeader header;
  HeaderHandler handler(header);
  if (text.empty() || text.front() != '{') {
    throw InputError(fmt::format("safetensors: '{}': the header is not a JSON object", path));
  }
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &handler)) {
    throw InputError(fmt::format("safetensors: '{}': {}", path, handler.error));
  }
  for (const TensorInfo& tensor : header.tensors) {
    const auto fail = [&](const std::string& reason) {
      throw InputError(
          fmt::format("safetensors: '{}': tensor {}: {}", path, json_quote(tensor.name), reason));
    };
    const std::uint64_t element = dtype_size(tensor.dtype);
    if (element == 0) fail(fmt::format("the type {} is not supported", json_quote(tensor.dtype)));
    if (tensor.shape.size() > Shape::max_rank) {
      fail(fmt::format("{} axes; at most {} are supported", tensor.shape.size(),
                       static_cast<int>(Shape::max_rank)));
    }
    std::uint64_t bytes = 0;
    if (!byte_count(tensor, element, bytes)) fail("its shape has more than 2^63 bytes");
    if (tensor.end < tensor.begin) {
      fail(fmt::format("its bytes end at {}, before they begin at {}", tensor.end, tensor.begin));
    }
    if (tensor.end > data_size) {
      fail(fmt::format(
          "its bytes [{}, {}) pass the end of the {} bytes of data; is the file cut off?",
          tensor.begin, tensor.end, data_size));
    }
    if (tensor.end - tensor.begin != bytes) {
      fail(fmt::format("its shape of {} needs {} bytes; its range [{}, {}) has {}", tensor.dtype,
                       bytes, tensor.begin, tensor.end, tensor.end - tensor.begin));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
            });
  std::uint64_t at = 0;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.begin != at) {
      throw InputError(
          fmt::format("safetensors: '{}': tensor {}: its bytes begin at {} but {} at {}", path,
                      json_quote(tensor.name), tensor.begin,
                      tensor.begin < at ? "overlap the one before, which ends"
                                        : "leave a hole after the one before, which ends",
                      at));
    }
    at = tensor.end;
  }
  if (at != data_size) {
    throw InputError(
        fmt::format("safetensors: '{}': {} bytes follow the last tensor", path, data_size - at));
  }
  return header;
}

}  // namespace parsimony::detail
