// The .npy format: "\x93NUMPY", a version, the header's length, and the header, which is a Python
// dictionary literal {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }; then the values.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/npy.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>
#include <type_traits>

#include <fmt/format.h>

namespace parsimony {

namespace {

template <class T>
const char* descr_of() {
  if constexpr (std::is_same_v<T, double>) return "<f8";
  if constexpr (std::is_same_v<T, float>) return "<f4";
  if constexpr (std::is_same_v<T, std::int64_t>) return "<i8";
}

/// A file's header, and where its values are.
struct Npy {
  std::string bytes;
  std::string descr;
  Shape shape;
  std::uint64_t count = 1;
  std::size_t data = 0;
};

class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::string_view text) : path_(path), text_(text) {}

  void parse(Npy& npy) {
    std::set<std::string> keys;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      if (!keys.insert(key).second) fail(fmt::format("the key '{}' comes twice", key));
      expect(':');
      if (key == "descr") {
        npy.descr = descr();
      } else if (key == "fortran_order") {
        if (boolean()) {
          fail("the array is in Fortran order; save numpy.ascontiguousarray of it");
        }
      } else if (key == "shape") {
        shape(npy);
      } else {
        fail(fmt::format("unknown key '{}'", key));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) fail("text after the header's dictionary");
    if (keys.size() != 3) fail("the header lacks descr, fortran_order or shape");
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw InputError(fmt::format("npy: '{}': {}", path_, reason));
  }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(fmt::format("expected '{}' at byte {} of the header", c, at_));
  }
  std::string quoted() {
    skip_spaces();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    const std::size_t end =
        quote == '\'' || quote == '"' ? text_.find(quote, at_ + 1) : std::string_view::npos;
    if (end == std::string_view::npos) fail(fmt::format("expected a string at byte {}", at_));
    const std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  std::string descr() {
    skip_spaces();
    if (at_ < text_.size() && text_[at_] == '[') fail("structured arrays are not supported");
    return quoted();
  }
  bool boolean() {
    skip_spaces();
    for (const char* word : {"False", "True"}) {
      if (text_.substr(at_, std::strlen(word)) == word) {
        at_ += std::strlen(word);
        return word[0] == 'T';
      }
    }
    fail("fortran_order is neither True nor False");
  }
  void shape(Npy& npy) {
    expect('(');
    bool comma = true;
    while (!accept(')')) {
      if (!comma) fail("a shape without commas");
      if (npy.shape.rank() == Shape::max_rank) {
        fail(fmt::format("more than {} axes", static_cast<int>(Shape::max_rank)));
      }
      const std::uint64_t n = number();
      constexpr std::uint64_t top = std::numeric_limits<std::int64_t>::max() / 8;
      if (n > top || (n > 0 && npy.count > top / n)) fail("the shape has more than 2^63 bytes");
      npy.count *= n;
      npy.shape.push_back(static_cast<index_t>(n));
      comma = accept(',');
    }
    if (npy.shape.rank() == 1 && !comma) fail("a shape of one axis lacks its comma");
  }
  std::uint64_t number() {
    skip_spaces();
    std::uint64_t n = 0;
    const std::size_t first = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (n > std::numeric_limits<std::int64_t>::max() / 10 - 1)
        fail("a size of the shape overflows");
      n = 10 * n + static_cast<std::uint64_t>(text_[at_] - '0');
    }
    if (at_ == first) fail("a size of the shape is not a number");
    return n;
  }

  const std::string& path_;
  std::string_view text_;
  std::size_t at_ = 0;
};

Npy read(const std::string& path, std::string contents) {
  const auto fail = [&](const std::string& reason) {
    throw InputError(fmt::format("npy: '{}': {}", path, reason));
  };
  Npy npy;
  npy.bytes = std::move(contents);
  const std::string_view bytes = npy.bytes;
  if (bytes.size() < 10 || bytes.substr(0, 6) != "\x93NUMPY") fail("this is not a .npy file");
  const int major = static_cast<unsigned char>(bytes[6]);
  const int minor = static_cast<unsigned char>(bytes[7]);
  if ((major != 1 && major != 2) || minor != 0) {
    fail(fmt::format("expected version 1.0 or 2.0; got {}.{}", major, minor));
  }
  const std::size_t width = major == 1 ? 2 : 4;
  if (bytes.size() < 8 + width) fail("the file is cut off in its header");
  std::size_t length = 0;
  for (std::size_t i = 0; i < width; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[8 + i])) << (8 * i);
  }
  npy.data = 8 + width + length;
  if (npy.data > bytes.size()) fail("the file is cut off in its header");
  HeaderParser(path, bytes.substr(8 + width, length)).parse(npy);

  static const std::pair<const char*, std::uint64_t> sizes[] = {{"<f8", 8}, {"<f4", 4}, {"<i8", 8},
                                                                {"<i4", 4}, {"|u1", 1}, {"|b1", 1}};
  std::uint64_t element = 0;
  for (const auto& [descr, size] : sizes) {
    if (npy.descr == descr) element = size;
  }
  if (element == 0) {
    fail(fmt::format("the type '{}' is not supported{}", npy.descr,
                     npy.descr.substr(0, 1) == ">" ? " (big-endian)" : ""));
  }
  const std::uint64_t expected = npy.count * element;
  const std::uint64_t got = bytes.size() - npy.data;
  if (got != expected) {
    fail(fmt::format("shape {} of '{}' needs {} bytes of values; the file has {}", npy.shape.str(),
                     npy.descr, expected, got));
  }
  return npy;
}

template <class T, class From>
Tensor<T> convert(const Npy& npy) {
  Tensor<T> out(npy.shape);
  T* o = out.mutable_data();
  const char* data = npy.bytes.data() + npy.data;
  for (index_t i = 0; i < out.size(); ++i) {
    From value;
    std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof value, sizeof value);
    o[i] = static_cast<T>(value);
  }
  return out;
}

}  // namespace

template <class T>
void save_npy(const std::string& path, const Tensor<T>& tensor) {
  std::string shape;
  for (const index_t n : tensor.shape()) shape += fmt::format("{}, ", n);
  if (tensor.rank() > 1) shape.resize(shape.size() - 2);
  if (tensor.rank() == 1) shape.resize(shape.size() - 1);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   descr_of<T>(), shape);
  // Magic, version, length, header and newline end at a multiple of 64, so that the values can be
  // mapped.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  AtomicFile file(path);
  file.write(std::string_view("\x93NUMPY\x01\x00", 8));
  const auto length = static_cast<std::uint16_t>(header.size());
  file.write(&length, sizeof length);
  file.write(header);
  file.write(tensor.data(), static_cast<std::size_t>(tensor.size()) * sizeof(T));
  file.commit();
}

template <class T>
Tensor<T> load_npy(const std::string& path) {
  const Npy npy = read(path, read_file(path));
  if (npy.descr != descr_of<T>()) {
    throw InputError(
        fmt::format("npy: '{}': expected the type '{}'; got '{}'", path, descr_of<T>(), npy.descr));
  }
  return convert<T, T>(npy);
}

template <class T>
Tensor<T> load_npy_as(const std::string& path) {
  return parse_npy_as<T>(path, read_file(path));
}

template <class T>
Tensor<T> parse_npy_as(const std::string& name, std::string bytes) {
  const Npy npy = read(name, std::move(bytes));
  if (npy.descr == "<f8") return convert<T, double>(npy);
  if (npy.descr == "<f4") return convert<T, float>(npy);
  if (npy.descr == "<i8") return convert<T, std::int64_t>(npy);
  if (npy.descr == "<i4") return convert<T, std::int32_t>(npy);
  return convert<T, std::uint8_t>(npy);
}

template void save_npy(const std::string&, const Tensor<float>&);
template void save_npy(const std::string&, const Tensor<double>&);
template void save_npy(const std::string&, const Tensor<std::int64_t>&);
template Tensor<float> load_npy(const std::string&);
template Tensor<double> load_npy(const std::string&);
template Tensor<std::int64_t> load_npy(const std::string&);
template Tensor<float> load_npy_as(const std::string&);
template Tensor<double> load_npy_as(const std::string&);
template Tensor<float> parse_npy_as(const std::string&, std::string);
template Tensor<double> parse_npy_as(const std::string&, std::string);

}  // namespace parsimony
