// Readers of image data: MNIST's IDX files and UCI's optdigits.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/images.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/npy.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

std::uint32_t big_endian(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

/// The sizes after the magic number; what follows must be as many bytes as they say.
std::vector<index_t> idx_sizes(const std::string& path, const std::string& bytes,
                               std::uint32_t magic, std::size_t axes) {
  const std::size_t header = 4 + 4 * axes;
  if (bytes.size() < header || big_endian(bytes, 0) != magic) {
    throw InputError(fmt::format("'{}': expected an IDX file that begins with {}; got {}", path,
                                 magic,
                                 bytes.size() < 4 ? fmt::format("{} bytes", bytes.size())
                                                  : fmt::to_string(big_endian(bytes, 0))));
  }
  std::vector<index_t> sizes;
  double expected = 1;
  for (std::size_t i = 0; i < axes; ++i) {
    sizes.push_back(big_endian(bytes, 4 + 4 * i));
    expected *= static_cast<double>(sizes.back());
  }
  if (expected != static_cast<double>(bytes.size() - header)) {
    throw InputError(fmt::format("'{}': the header says {} entries; the file has {}", path,
                                 fmt::join(sizes, " x "), bytes.size() - header));
  }
  return sizes;
}

/// From 0..most to [-1, 1].
float pixel(double value, double most) { return static_cast<float>(2 * value / most - 1); }

EncodedExamples examples_of(Tensor<float> pixels, std::vector<double> labels) {
  EncodedExamples out;
  out.pixels = std::move(pixels);
  out.labels = std::move(labels);
  out.encodings.resize(out.labels.size());
  out.source.resize(out.labels.size());
  std::iota(out.source.begin(), out.source.end(), index_t{0});
  return out;
}

EncodedExamples read_idx(const std::string& images, const std::string& labels) {
  Tensor<float> pixels = read_idx_images(images);
  std::vector<double> classes = read_idx_labels(labels);
  if (pixels.dim(0) != static_cast<index_t>(classes.size())) {
    throw InputError(fmt::format("'{}' has {} images, '{}' has {} labels", images, pixels.dim(0),
                                 labels, classes.size()));
  }
  return examples_of(std::move(pixels), std::move(classes));
}

void check_digits(const std::string& path, const std::vector<double>& labels) {
  for (const double label : labels) {
    if (label > 9) throw InputError(fmt::format("'{}': expected digits 0..9; got {}", path, label));
  }
}

Tensor<float> idx_images(const std::string& path, const std::string& bytes) {
  constexpr std::uint32_t magic = 2051;
  const std::vector<index_t> n = idx_sizes(path, bytes, magic, 3);
  Tensor<float> out({n[0], 1, n[1], n[2]});
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data()) + 16;
  std::transform(from, from + out.size(), out.mutable_data(),
                 [](unsigned char v) { return pixel(v, 255); });
  return out;
}

EncodedExamples optdigits(const std::string& path, const std::string& text) {
  constexpr std::size_t side = 8;
  std::vector<float> pixels;
  std::vector<double> labels;
  std::size_t line = 0;
  for (std::size_t at = 0; at < text.size();) {
    ++line;
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view row = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    if (row.empty()) continue;
    std::vector<double> values;
    for (std::size_t i = 0; i <= row.size();) {
      const std::size_t comma = std::min(row.find(',', i), row.size());
      double value = -1;
      const bool last = values.size() == side * side;
      if (!parse_number(row.substr(i, comma - i), value) ||
          !(value >= 0 && value <= (last ? 9 : 16)) || value != static_cast<int>(value)) {
        throw InputError(fmt::format(
            "'{}': line {}, field {}: expected a whole number 0..{}; got "
            "'{}'",
            path, line, values.size() + 1, last ? 9 : 16, printable(row.substr(i, comma - i))));
      }
      values.push_back(value);
      i = comma + 1;
    }
    if (values.size() != side * side + 1) {
      throw InputError(fmt::format("'{}': line {}: expected 64 pixels and a class; got {} fields",
                                   path, line, values.size()));
    }
    labels.push_back(values.back());
    values.pop_back();
    for (const double value : values) pixels.push_back(pixel(value, 16));
  }
  const auto count = static_cast<index_t>(labels.size());
  if (count == 0) throw InputError(fmt::format("'{}': expected images; there are none", path));
  return examples_of(Tensor<float>({count, 1, side, side}, pixels), std::move(labels));
}

}  // namespace

Tensor<float> read_idx_images(const std::string& path) { return idx_images(path, read_file(path)); }

std::vector<double> read_idx_labels(const std::string& path) {
  const std::string bytes = read_file(path);
  constexpr std::uint32_t magic = 2049;
  const std::vector<index_t> n = idx_sizes(path, bytes, magic, 1);
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data()) + 8;
  return {from, from + n[0]};
}

EncodedExamples read_optdigits(const std::string& path) { return optdigits(path, read_file(path)); }

Tensor<float> read_images(const std::string& path) {
  const std::string name = input_name(path);
  std::string bytes = read_file(path);
  if (bytes.compare(0, 6, "\x93NUMPY") != 0) {
    const bool idx = bytes.size() >= 2 && bytes[0] == 0 && bytes[1] == 0;
    return idx ? idx_images(name, bytes) : optdigits(name, bytes).pixels;
  }
  const Tensor<float> array = parse_npy_as<float>(name, std::move(bytes));
  if ((array.rank() != 3 && array.rank() != 4) || array.size() == 0) {
    throw InputError(fmt::format(
        "'{}': expected images (n, channels, rows, columns) or (n, rows, columns); got {}", name,
        array.shape().str()));
  }
  return array.rank() == 4 ? array : array.reshape({array.dim(0), 1, array.dim(1), array.dim(2)});
}

const std::vector<std::string>& image_task_names() {
  static const std::vector<std::string> names = {"mnist", "optdigits"};
  return names;
}

ImageSplits load_image_task(const std::string& name, const std::string& data_dir) {
  const auto file = [&](const std::string& relative) {
    return data_file(data_dir, relative,
                     name == "mnist" ? "MNIST: any mirror of the IDX files"
                                     : "archive.ics.uci.edu, Optical Recognition of Handwritten "
                                       "Digits");
  };
  ImageSplits out;
  if (name == "mnist") {
    const auto read = [&](const std::string& part) {
      const std::string labels = file("mnist/" + part + "-labels-idx1-ubyte");
      EncodedExamples examples = read_idx(file("mnist/" + part + "-images-idx3-ubyte"), labels);
      check_digits(labels, examples.labels);
      return examples;
    };
    out.train = read("train10k");
    out.dev = read("t10k");
  } else if (name == "optdigits") {
    out.train = read_optdigits(file("optdigits/optdigits.tra"));
    out.dev = read_optdigits(file("optdigits/optdigits.tes"));
  } else {
    const std::string near = nearest_name(name, image_task_names());
    throw ValueError(fmt::format("task: expected one of {}; got '{}'{}",
                                 fmt::join(image_task_names(), ", "), name,
                                 near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  out.task.name = name;
  for (int digit = 0; digit < 10; ++digit) out.task.labels.push_back(std::to_string(digit));
  out.task.metric = "accuracy";
  return out;
}

}  // namespace parsimony
