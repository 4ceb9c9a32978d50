#include <parsimony/error.hpp>
#include <parsimony/tensor.hpp>

#include <algorithm>
#include <type_traits>

#include <fmt/format.h>

#include "tensor/storage.hpp"

namespace parsimony {

void detail::throw_undefined_tensor() {
  throw ValueError(
      "tensor: it is undefined; was it assigned? A gradient is undefined before the first backward "
      "that reaches its variable");
}

template <class T>
Tensor<T>::Tensor(const Shape& shape)
    : storage_(std::make_shared<detail::Storage<T>>(static_cast<std::size_t>(shape.size()))),
      data_(storage_->values.data()),
      shape_(shape),
      size_(shape.size()) {
  static const T nothing{};  // an empty tensor is defined and has a valid, unused address
  if (data_ == nullptr) data_ = const_cast<T*>(&nothing);
}

template <class T>
Tensor<T>::Tensor(const Shape& shape, const std::vector<T>& values) : Tensor(shape) {
  if (static_cast<index_t>(values.size()) != size_) {
    throw ShapeError(
        fmt::format("tensor: shape {} holds {} values; got {}", shape.str(), size_, values.size()));
  }
  std::copy(values.begin(), values.end(), data_);
}

template <class T>
Tensor<T> Tensor<T>::full(const Shape& shape, T value) {
  Tensor out(shape);
  std::fill(out.data_, out.data_ + out.size_, value);
  return out;
}

template <class T>
Tensor<T> Tensor<T>::zeros(const Shape& shape) {
  return full(shape, T(0));
}

template <class T>
Tensor<T> Tensor<T>::ones(const Shape& shape) {
  return full(shape, T(1));
}

template <class T>
Tensor<T> Tensor<T>::scalar(T value) {
  return full({}, value);
}

template <class T>
Tensor<T> Tensor<T>::eye(index_t n, T scale) {
  Tensor out = zeros({n, n});
  for (index_t i = 0; i < n; ++i) out.data_[i * n + i] = scale;
  return out;
}

template <class T>
T* Tensor<T>::mutable_data() {
  if (data_ == nullptr) detail::throw_undefined_tensor();
  ++storage_->version;
  return data_;
}

template <class T>
std::uint32_t Tensor<T>::version() const {
  return storage_ ? storage_->version : 0;
}

template <class T>
T Tensor<T>::item() const {
  if (data_ == nullptr) detail::throw_undefined_tensor();
  if (size_ != 1) {
    throw ShapeError("item: expected a tensor with one element; got shape " + shape_.str());
  }
  return data_[0];
}

template <class T>
T Tensor<T>::at(std::initializer_list<index_t> indices) const {
  if (static_cast<int>(indices.size()) != rank()) {
    throw ShapeError(fmt::format("at: expected {} indices for shape {}; got {}", rank(),
                                 shape_.str(), indices.size()));
  }
  index_t offset = 0;
  int axis = 0;
  for (const index_t i : indices) {
    if (i < 0 || i >= shape_[axis]) {
      throw ShapeError(fmt::format("at: index {} is out of range for axis {} of shape {}", i, axis,
                                   shape_.str()));
    }
    offset = offset * shape_[axis++] + i;
  }
  return data()[offset];
}

template <class T>
Tensor<T> Tensor<T>::reshape(const Shape& shape) const {
  Tensor out = *this;
  out.shape_ = shape;
  if (shape.size() != size_) {
    throw ShapeError(fmt::format("reshape: shape {} has {} elements and {} has {}", shape_.str(),
                                 size_, shape.str(), shape.size()));
  }
  return out;
}

template <class T>
Tensor<T> Tensor<T>::rows(index_t first, index_t last) const {
  if (rank() < 1 || first < 0 || last < first || last > shape_[0]) {
    throw ShapeError(
        fmt::format("rows: [{}, {}) is out of range for shape {}", first, last, shape_.str()));
  }
  Tensor out = *this;
  const index_t stride = shape_[0] == 0 ? 0 : size_ / shape_[0];
  out.data_ += first * stride;
  out.shape_.set(0, last - first);
  out.size_ = (last - first) * stride;
  return out;
}

template <class T>
Tensor<T> Tensor<T>::clone() const {
  if (!defined()) return Tensor();
  Tensor out(shape_);
  std::copy(begin(), end(), out.data_);
  return out;
}

template <class T>
std::string Tensor<T>::str(int max_entries) const {
  if (!defined()) return "Tensor(undefined)";
  std::string out = "Tensor" + shape_.str() + "[";
  const index_t shown = std::min<index_t>(size_, max_entries);
  for (index_t i = 0; i < shown; ++i) out += fmt::format("{}{}", i > 0 ? ", " : "", data_[i]);
  return out + (shown < size_ ? ", ...]" : "]");
}

template class Tensor<float>;
template class Tensor<double>;
template class Tensor<std::int64_t>;
template class Tensor<std::uint8_t>;

}  // namespace parsimony
