// Named tensors in one file, in the safetensors format (Hugging Face): eight bytes with the length
// of a JSON header, the header with names, types, shapes and byte ranges, then the values.
#pragma once

#include <parsimony/tensor.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace parsimony {

/// Type of the numbers of float tensors in a file.
enum class FloatFormat { f32, f16, bf16 };
/// "f32", "f16" or "bf16". @throws ValueError on another name.
FloatFormat float_format(const std::string& name);

/// Tensors by name, and the file's metadata. Held types are double (F64), float (F32, and F16 and
/// BF16 once read), std::int64_t (I64, and I32, I16, I8, U32, U16 once read) and std::uint8_t (U8,
/// BOOL).
class TensorMap {
 public:
  using Value =
      std::variant<Tensor<double>, Tensor<float>, Tensor<std::int64_t>, Tensor<std::uint8_t>>;

  /// Adds or replaces. @throws ValueError if the tensor is undefined or the name is "__metadata__".
  template <class T>
  void set(const std::string& name, const Tensor<T>& tensor);
  /// A float tensor that is written in a narrower type, rounded to nearest even.
  void set_narrow(const std::string& name, const Tensor<float>& tensor, FloatFormat format);
  /// A U8 tensor of 0 and 1 that is written as BOOL.
  void set_bool(const std::string& name, const Tensor<std::uint8_t>& tensor);

  /// The tensor as it is held; no copy. @throws InputError if it is missing (with the nearest name)
  /// or of another type.
  template <class T>
  const Tensor<T>& get(const std::string& name) const;
  /// The tensor converted to T, rounded where T is a float type. @throws InputError if it is
  /// missing or an integer T cannot hold its values.
  template <class T>
  Tensor<T> get_as(const std::string& name) const;
  /// The same of a weight. @throws InputError also if the tensor is of an integer type.
  template <class T>
  Tensor<T> weight(const std::string& name) const;

  bool contains(const std::string& name) const { return entries_.count(name) > 0; }
  std::size_t size() const { return entries_.size(); }
  /// In alphabetical order.
  std::vector<std::string> names() const;
  /// Type in the file: "F64", "F16", "BOOL", ...
  const std::string& dtype(const std::string& name) const;
  const Shape& shape(const std::string& name) const;
  const Value& value(const std::string& name) const;
  /// What set_narrow() asked for.
  FloatFormat saved_as(const std::string& name) const;

  std::map<std::string, std::string> metadata;

 private:
  friend class SafetensorsReader;
  struct Entry {
    std::string dtype;
    Value value;
    FloatFormat saved_as = FloatFormat::f32;
  };
  const Entry& entry(const std::string& name) const;

  std::map<std::string, Entry> entries_;
  std::string source_;  // the file, for messages
};

/// Writes tensors and their metadata, to which "format": "pt" is added unless it has one; whole or
/// not at all. @throws IoError; ValueError if a name is not UTF-8, or naming tensor and value if a
/// finite one is beyond the narrower type that was asked for.
void save_safetensors(const std::string& path, const TensorMap& tensors);
/// The same for the weights of a model or an adapter. @throws NumericalError naming the tensor if
/// one has NaN or an infinity, before anything is written.
void save_weights(const std::string& path, const TensorMap& weights);

/// Reads a file, straight into the tensors where types agree. @throws InputError naming file and
/// tensor on anything that the format does not allow: a header that is too long, not JSON, nested,
/// with duplicate or unknown keys; unknown types; ranges that overlap, leave holes, pass the end of
/// the file or do not fit type and shape; bytes after the last tensor; a BOOL that is neither 0
/// nor 1.
TensorMap load_safetensors(const std::string& path);

/// @throws InputError naming file and tensor if one has NaN or an infinity.
void check_finite(const std::string& path, const TensorMap& tensors);

/// What a file holds, from its header alone.
struct SafetensorsSummary {
  struct Entry {
    std::string name, dtype;
    Shape shape;
    std::uint64_t bytes = 0;
  };
  std::vector<Entry> tensors;  // in alphabetical order
  std::map<std::string, std::string> metadata;
  std::uint64_t file_bytes = 0;
};
/// @throws InputError as load_safetensors, but for what the values say.
SafetensorsSummary summarize_safetensors(const std::string& path);

}  // namespace parsimony
