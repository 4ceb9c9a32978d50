// Rows picked by index and rows added at indices: each is the other's gradient.
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <fmt/format.h>

#include "kernels/gather.hpp"

namespace parsimony {

namespace {

void require_ids(const char* op, const Tensor<std::int64_t>& ids, index_t n) {
  for (index_t i = 0; i < ids.size(); ++i) {
    const std::int64_t id = ids.data()[i];
    if (id < 0 || id >= n) {
      throw ValueError(
          fmt::format("{}: expected ids in [0, {}); got {} at position {}", op, n, id, i));
    }
  }
}

/// `lead` followed by the axes of `rest` from `from` on.
Shape join(const Shape& lead, const Shape& rest, int from) {
  Shape out = lead;
  for (int i = from; i < rest.rank(); ++i) out.push_back(rest[i]);
  return out;
}

index_t row_width(const Shape& shape, int from) {
  index_t width = 1;
  for (int i = from; i < shape.rank(); ++i) width *= shape[i];
  return width;
}

template <class T>
Tensor<T> gather(const Tensor<T>& table, const Tensor<std::int64_t>& ids) {
  Tensor<T> out(join(ids.shape(), table.shape(), 1));
  kernels::gather_rows(ids.size(), row_width(table.shape(), 1), ids.data(), table.data(),
                       out.mutable_data());
  return out;
}

template <class T>
Tensor<T> scatter(const Tensor<T>& x, const Tensor<std::int64_t>& ids, index_t n) {
  Tensor<T> out = Tensor<T>::zeros(join({n}, x.shape(), ids.rank()));
  kernels::scatter_add_rows(ids.size(), row_width(x.shape(), ids.rank()), ids.data(), x.data(),
                            out.mutable_data());
  return out;
}

}  // namespace

template <class T>
Var<T> gather_rows(const Var<T>& table, const Tensor<std::int64_t>& ids) {
  if (table.rank() < 1) {
    throw ShapeError("gather_rows: expected a table with at least one axis; got shape ()");
  }
  const index_t n = table.dim(0);
  require_ids("gather_rows", ids, n);
  return make_op("gather_rows", gather(table.value(), ids), {table},
                 [ids, n](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return scatter(dy, ids, n); });
                 });
}

template <class T>
Var<T> scatter_add_rows(const Var<T>& x, const Tensor<std::int64_t>& ids, index_t n) {
  if (x.rank() < ids.rank() || join(ids.shape(), x.shape(), ids.rank()) != x.shape()) {
    throw ShapeError(
        fmt::format("scatter_add_rows: expected rows of shape {} + (...), one for each "
                    "id; got {}",
                    ids.shape().str(), x.shape().str()));
  }
  require_ids("scatter_add_rows", ids, n);
  return make_op("scatter_add_rows", scatter(x.value(), ids, n), {x},
                 [ids](const Tensor<T>&, const Tensor<T>& dy, Gradients<T>& d) {
                   d.add(0, [&] { return gather(dy, ids); });
                 });
}

#define PARSIMONY_INSTANTIATE(T)                                           \
  template Var<T> gather_rows(const Var<T>&, const Tensor<std::int64_t>&); \
  template Var<T> scatter_add_rows(const Var<T>&, const Tensor<std::int64_t>&, index_t);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
