// Tensor<T>: a shape and a shared handle to a row-major, contiguous xtensor buffer.
//
// Copying a tensor copies the handle. Values inside a graph are immutable; only optimisers and
// loaders write, through `mutable_data()`, which is why a write counts as a new version of the
// buffer (backward refuses to use a value that was overwritten after the forward pass).
// To look at a tensor as an xtensor expression without a copy, include <parsimony/xtensor.hpp>.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace parsimony {

using index_t = std::int64_t;

/// Sizes of the axes, row-major, at most 8 of them, held in place (no allocation).
class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;
  Shape(std::initializer_list<index_t> sizes) { assign(sizes.begin(), sizes.end()); }
  explicit Shape(const std::vector<index_t>& sizes) { assign(sizes.begin(), sizes.end()); }

  int rank() const { return rank_; }
  /// Product of the sizes; 1 for rank 0.
  index_t size() const {
    index_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= sizes_[static_cast<std::size_t>(i)];
    return n;
  }
  /// Size of an axis; negative axes count from the end. @throws ShapeError if out of range.
  index_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(normalize(axis))]; }
  void set(int axis, index_t size) { sizes_[static_cast<std::size_t>(normalize(axis))] = size; }
  void push_back(index_t size);
  /// Non-negative axis. @throws ShapeError if `axis` is outside [-rank, rank).
  int normalize(int axis) const {
    const int a = axis < 0 ? axis + rank_ : axis;
    if (a < 0 || a >= rank_) throw_bad_axis(axis);
    return a;
  }
  const index_t* begin() const { return sizes_.data(); }
  const index_t* end() const { return sizes_.data() + rank_; }
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }
  /// "(3, 4)"; "()" for rank 0.
  std::string str() const;

 private:
  template <class It>
  void assign(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }
  [[noreturn]] void throw_bad_axis(int axis) const;

  std::array<index_t, max_rank> sizes_{};
  int rank_ = 0;
};

namespace detail {
template <class T>
struct Storage;
[[noreturn]] void throw_undefined_tensor();
}  // namespace detail

/// Dense array of T (float, double, std::int64_t, std::uint8_t).
template <class T>
class Tensor {
 public:
  using value_type = T;

  /// An undefined tensor: no buffer, rank 0; `defined()` is false. Reading its values, as
  /// everything that computes with it does, throws ValueError.
  Tensor() = default;
  /// Uninitialised values. @throws ShapeError on a negative size, std::bad_alloc if memory ends.
  explicit Tensor(const Shape& shape);
  /// Copies row-major values. @throws ShapeError if the count differs from shape.size().
  Tensor(const Shape& shape, const std::vector<T>& values);

  static Tensor zeros(const Shape& shape);
  static Tensor ones(const Shape& shape);
  static Tensor full(const Shape& shape, T value);
  static Tensor scalar(T value);
  /// n x n identity times `scale`.
  static Tensor eye(index_t n, T scale = T(1));

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  index_t size() const { return size_; }
  index_t dim(int axis) const { return shape_[axis]; }

  /// @throws ValueError if the tensor is undefined, as do begin, end and mutable_data.
  const T* data() const {
    if (data_ == nullptr) detail::throw_undefined_tensor();
    return data_;
  }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  /// For optimisers and loaders only; counts as a new version of the buffer, which every handle on
  /// it sees.
  T* mutable_data();
  /// Times that the buffer was opened for writing after its construction.
  std::uint32_t version() const;
  /// True if no other handle shares the buffer.
  bool unique() const { return storage_.use_count() == 1; }

  /// The only value. @throws ShapeError unless size() == 1.
  T item() const;
  /// Element by row-major indices, checked. @throws ShapeError if out of range.
  T at(std::initializer_list<index_t> indices) const;
  std::vector<T> to_vector() const { return std::vector<T>(begin(), end()); }

  /// Same buffer, other shape. @throws ShapeError if the sizes do not match.
  Tensor reshape(const Shape& shape) const;
  /// Rows [first, last) of axis 0, sharing the buffer. @throws ShapeError if out of range.
  Tensor rows(index_t first, index_t last) const;
  /// A copy with a buffer of its own.
  Tensor clone() const;
  /// Short printable form with the shape.
  std::string str(int max_entries = 6) const;

 private:
  std::shared_ptr<detail::Storage<T>> storage_;
  T* data_ = nullptr;
  Shape shape_;
  index_t size_ = 0;
};

extern template class Tensor<float>;
extern template class Tensor<double>;
extern template class Tensor<std::int64_t>;
extern template class Tensor<std::uint8_t>;

// --- Values without gradients: what experiments and tests compute on plain tensors. -------------

/// op(a)·op(b) over the last two axes; leading axes must be equal or belong to one side only.
/// @throws ShapeError if the inner sizes differ.
template <class T>
Tensor<T> matmul(const Tensor<T>& a, const Tensor<T>& b, bool trans_a = false,
                 bool trans_b = false);

/// Elementwise with NumPy broadcasting. @throws ShapeError if the shapes do not broadcast.
template <class T>
Tensor<T> add(const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> sub(const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> mul(const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> div(const Tensor<T>& a, const Tensor<T>& b);
template <class T>
Tensor<T> scale(const Tensor<T>& a, double factor);

/// Axes in a new order; a copy. An empty order reverses all axes (the matrix transpose for rank 2).
template <class T>
Tensor<T> transpose(const Tensor<T>& a, const std::vector<int>& order = {});
/// Elements [first, last) of an axis; a copy.
template <class T>
Tensor<T> slice(const Tensor<T>& a, int axis, index_t first, index_t last);
template <class T>
Tensor<T> concat(const std::vector<Tensor<T>>& parts, int axis);
/// Value repeated to `shape`.
template <class T>
Tensor<T> broadcast_to(const Tensor<T>& a, const Shape& shape);
/// Sum over the axes that broadcasting `shape` to a.shape() repeated; undoes broadcast_to.
template <class T>
Tensor<T> sum_to(const Tensor<T>& a, const Shape& shape);

/// Sum of all entries (pairwise in fixed blocks: the same bits for any thread count).
template <class T>
double sum_all(const Tensor<T>& a);
/// Frobenius norm, and the inner product it comes from.
template <class T>
double frobenius(const Tensor<T>& a);
template <class T>
double dot(const Tensor<T>& a, const Tensor<T>& b);
template <class T>
double max_abs(const Tensor<T>& a);
template <class T>
bool all_finite(const Tensor<T>& a);

/// The shape that two shapes broadcast to. @throws ShapeError naming `op` if they do not.
Shape broadcast_shape(const char* op, const Shape& a, const Shape& b);

/// Conversion between element types.
template <class To, class From>
Tensor<To> cast(const Tensor<From>& a) {
  Tensor<To> out(a.shape());
  To* o = out.mutable_data();
  const From* x = a.data();
  for (index_t i = 0; i < a.size(); ++i) o[i] = static_cast<To>(x[i]);
  return out;
}

}  // namespace parsimony
