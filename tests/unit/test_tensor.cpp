// Tensors: shapes, broadcasting and products against brute force, slices, concatenation and
// transposes against indices, sums, the view as an xtensor expression, sharing of buffers, and the
// errors with their words.
#include <parsimony/error.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>
#include <parsimony/tensor.hpp>
#include <parsimony/threads.hpp>
#include <parsimony/xtensor.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "support/catch.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

using D = Tensor<double>;

/// 0, 1, 2, ...
template <class T = double>
Tensor<T> counting(const Shape& shape) {
  Tensor<T> out(shape);
  std::iota(out.mutable_data(), out.mutable_data() + out.size(), T(0));
  return out;
}

/// Calls f with every index of a shape in row-major order.
void for_each_index(const Shape& shape, const std::function<void(const std::vector<index_t>&)>& f) {
  std::vector<index_t> index(static_cast<std::size_t>(shape.rank()), 0);
  for (index_t n = 0; n < shape.size(); ++n) {
    index_t rest = n;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      index[static_cast<std::size_t>(axis)] = rest % shape[axis];
      rest /= shape[axis];
    }
    f(index);
  }
}

/// Entry at an index, read as broadcasting does: from the right, axes of size 1 repeated.
template <class T>
T entry(const Tensor<T>& a, const std::vector<index_t>& index) {
  index_t offset = 0;
  const auto skip = static_cast<int>(index.size()) - a.rank();
  for (int axis = 0; axis < a.rank(); ++axis) {
    const index_t at = a.dim(axis) == 1 ? 0 : index[static_cast<std::size_t>(axis + skip)];
    offset = offset * a.dim(axis) + at;
  }
  return a.data()[offset];
}

/// Product by the definition, entry by entry.
D naive_matmul(const D& a, const D& b, bool ta, bool tb, const Shape& out_shape) {
  D out(out_shape);
  double* o = out.mutable_data();
  const index_t inner = a.dim(ta ? -2 : -1);
  index_t n = 0;
  for_each_index(out_shape, [&](std::vector<index_t> index) {
    const index_t i = index[index.size() - 2];
    const index_t j = index[index.size() - 1];
    double total = 0;
    for (index_t k = 0; k < inner; ++k) {
      index[index.size() - 2] = ta ? k : i;
      index[index.size() - 1] = ta ? i : k;
      const auto of = [&](const D& x) {  // size-1 sides must not be read as broadcast ones
        std::vector<index_t> own(index.end() - x.rank(), index.end());
        index_t offset = 0;
        for (int axis = 0; axis < x.rank(); ++axis) {
          offset = offset * x.dim(axis) + own[static_cast<std::size_t>(axis)];
        }
        return x.data()[offset];
      };
      const double left = of(a);
      index[index.size() - 2] = tb ? j : k;
      index[index.size() - 1] = tb ? k : j;
      total += left * of(b);
    }
    o[n++] = total;
  });
  return out;
}

double difference(const D& a, const D& b) {
  return a.size() == 0 ? 0.0 : max_abs(sub(a, b)) / std::max(1.0, max_abs(b));
}

TEST_CASE("sizes whose product overflows are refused") {
  REQUIRE_THROWS_AS((Shape{index_t{1} << 32, index_t{1} << 32}), ShapeError);
  REQUIRE_THROWS_AS((Shape{index_t{1} << 62}), ShapeError);
  REQUIRE((Shape{0, index_t{1} << 40}).size() == 0);
}

}  // namespace

TEST_CASE("shapes hold up to eight sizes", "[tensor]") {
  const Shape shape{2, 3, 4};
  CHECK(shape.size() == 24);
  CHECK(shape[-1] == 4);
  CHECK(shape.str() == "(2, 3, 4)");
  CHECK(Shape{5}.str() == "(5,)");
  CHECK(Shape{}.str() == "()");
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{3, 0}.size() == 0);
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2} != Shape{2, 1});
  CHECK_THROWS_WITH(shape[3], contains("axis: expected one in [-3, 3) for shape (2, 3, 4); got 3"));
  CHECK_THROWS_WITH(shape[-4], contains("got -4"));
  CHECK_THROWS_WITH((Shape{2, -1}), contains("expected sizes >= 0; got -1"));
  CHECK_THROWS_WITH((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), contains("at most 8 axes"));
}

TEMPLATE_TEST_CASE("tensors are made and read", "[tensor]", float, double, std::int64_t,
                   std::uint8_t) {
  using T = TestType;
  const Tensor<T> a({2, 2}, {1, 2, 3, 4});
  CHECK(a.at({1, 0}) == T(3));
  CHECK(a.dim(-1) == 2);
  CHECK(Tensor<T>::scalar(7).item() == T(7));
  CHECK(Tensor<T>::full({2}, 3).to_vector() == std::vector<T>{3, 3});
  CHECK(Tensor<T>::eye(2, 5).to_vector() == std::vector<T>{5, 0, 0, 5});
  CHECK(Tensor<T>::zeros({0, 3}).size() == 0);
  CHECK(Tensor<T>({0}).defined());
  CHECK_FALSE(Tensor<T>().defined());
  CHECK(a.reshape({4}).data() == a.data());
  CHECK_THROWS_AS(a.item(), ShapeError);
  CHECK_THROWS_WITH(a.item(),
                    contains("item: expected a tensor with one element; got shape (2, 2)"));
  CHECK_THROWS_WITH(a.at({2, 0}), contains("index 2 is out of range for axis 0 of shape (2, 2)"));
  CHECK_THROWS_WITH(a.at({0}), contains("expected 2 indices for shape (2, 2); got 1"));
  CHECK_THROWS_WITH(a.reshape({3}),
                    contains("reshape: shape (2, 2) has 4 elements and (3,) has 3"));
  CHECK_THROWS_WITH(Tensor<T>({2}, {1}), contains("shape (2,) holds 2 values; got 1"));
  CHECK_THROWS_WITH(Tensor<T>({2}, {1, 2, 3}), contains("holds 2 values; got 3"));
}

TEST_CASE("an undefined tensor is an error wherever its values are read", "[tensor]") {
  const D none;
  const D two = D::ones({2});
  const auto undefined = [](const std::function<void()>& f) {
    CHECK_THROWS_AS(f(), ValueError);
    CHECK_THROWS_WITH(f(), contains("tensor: it is undefined"));
  };
  undefined([&] { none.data(); });
  undefined([&] { none.item(); });
  undefined([&] { none.at({}); });
  undefined([&] { none.to_vector(); });
  undefined([&] { D(none).mutable_data(); });
  undefined([&] { add(none, two); });
  undefined([&] { add(none, none); });
  undefined([&] { scale(none, 2); });
  undefined([&] { transpose(none); });
  undefined([&] { broadcast_to(none, {3}); });
  undefined([&] { sum_all(none); });
  undefined([&] { frobenius(none); });
  undefined([&] { max_abs(none); });
  undefined([&] { cast<float>(none); });
  undefined([&] { as_xtensor(none); });
  CHECK_FALSE(none.clone().defined());
  CHECK(none.str() == "Tensor(undefined)");
}

TEST_CASE("a default-constructed index set is the empty one", "[tensor]") {
  const IndexSet none;
  CHECK(none.row_offsets() == std::vector<std::int32_t>{0});
  CHECK(none.col_offsets() == std::vector<std::int32_t>{0});
  CHECK(none.columns().empty());
  CHECK(none.mask().shape() == Shape{0, 0});
  CHECK(sampled_product(none, D({0, 2}), D({0, 2})).shape() == Shape{0});
  CHECK(sparse_product(none, D(Shape{0}), D({0, 2})).shape() == Shape{0, 2});
}

TEST_CASE("handles share a buffer, clones do not", "[tensor]") {
  D a({2, 3}, {1, 2, 3, 4, 5, 6});
  D b = a;
  const D copy = a.clone();
  const D row = a.rows(1, 2);
  CHECK_FALSE(a.unique());
  CHECK(copy.unique());
  CHECK(row.data() == a.data() + 3);
  CHECK(row.shape() == Shape{1, 3});
  const auto version = a.version();
  b.mutable_data()[3] = 40;
  CHECK(a.at({1, 0}) == 40);
  CHECK(row.at({0, 0}) == 40);
  CHECK(copy.at({1, 0}) == 4);
  CHECK(a.version() == version + 1);
  CHECK(row.version() == version + 1);
  CHECK(a.rows(2, 2).size() == 0);
  CHECK_THROWS_WITH(a.rows(1, 3), contains("rows: [1, 3) is out of range for shape (2, 3)"));
  CHECK_THROWS_WITH(D::scalar(1).rows(0, 0), contains("rows:"));
  CHECK_THAT(a.str(), contains("Tensor(2, 3)[1, 2, 3, 40, 5, 6]"));
  CHECK_THAT(a.str(2), contains("[1, 2, ...]"));
}

TEST_CASE("broadcasting agrees with brute force", "[tensor]") {
  const std::vector<Shape> shapes = {{},        {1},       {4},         {3, 4},    {3, 1},
                                     {1, 4},    {2, 3, 4}, {2, 1, 4},   {1, 3, 1}, {2, 3, 1},
                                     {5, 1, 1}, {0, 4},    {2, 0, 1},   {1, 1},    {6, 1, 3, 4},
                                     {1, 2, 1}, {300, 1},  {2, 300, 64}};
  Rng rng(1);
  int fitting = 0;
  for (const Shape& sa : shapes) {
    for (const Shape& sb : shapes) {
      CAPTURE(sa.str(), sb.str());
      const D a = rng.normal<double>(sa);
      const D b = rng.uniform<double>(sb, 1.0, 2.0);
      Shape shape;
      try {
        shape = broadcast_shape("test", sa, sb);
      } catch (const ShapeError&) {
        CHECK_THROWS_AS(add(a, b), ShapeError);
        CHECK_THROWS_AS(div(a, b), ShapeError);
        continue;
      }
      ++fitting;
      const D sum = add(a, b);
      const D gap = sub(a, b);
      const D product = mul(a, b);
      const D ratio = div(a, b);
      REQUIRE(sum.shape() == shape);
      bool same = true;
      index_t n = 0;
      for_each_index(shape, [&](const std::vector<index_t>& index) {
        const double x = entry(a, index);
        const double y = entry(b, index);
        same = same && sum.data()[n] == x + y && gap.data()[n] == x - y &&
               product.data()[n] == x * y && ratio.data()[n] == x / y;
        ++n;
      });
      CHECK(same);
      // Back again: sums over what was repeated, and the value repeated itself.
      if (broadcast_shape("test", sa, shape) == shape) {
        const D wide = broadcast_to(a, shape);
        bool repeated = wide.shape() == shape;
        D sums = D::zeros(sa);
        n = 0;
        for_each_index(shape, [&](const std::vector<index_t>& index) {
          repeated = repeated && wide.data()[n] == entry(a, index);
          index_t offset = 0;
          for (int axis = 0; axis < sa.rank(); ++axis) {
            const auto at = index[static_cast<std::size_t>(axis + shape.rank() - sa.rank())];
            offset = offset * sa[axis] + (sa[axis] == 1 ? 0 : at);
          }
          sums.mutable_data()[offset] += sum.data()[n];
          ++n;
        });
        CHECK(repeated);
        CHECK(sum_to(sum, sa).shape() == sa);
        CHECK(difference(sum_to(sum, sa), sums) < 1e-12);
      }
    }
  }
  CHECK(fitting > 100);
  CHECK_THROWS_WITH(
      add(D({2, 3}), D({4, 3})),
      contains("add: shapes (2, 3) and (4, 3) do not broadcast: sizes 2 and 4 of axis 0"));
  CHECK_THROWS_WITH(sum_to(D({2, 3}), {2}), contains("sum_to:"));
  CHECK_THROWS_WITH(broadcast_to(D({2, 3}), {3}), contains("broadcast_to: shape (2, 3) cannot"));
}

TEST_CASE("matmul agrees with loops for every transpose and leading axis", "[tensor]") {
  Rng rng(2);
  const auto side = [](bool t, const Shape& lead, index_t m, index_t n) {
    Shape shape = lead;
    shape.push_back(t ? n : m);
    shape.push_back(t ? m : n);
    return shape;
  };
  const std::vector<std::pair<Shape, Shape>> leads = {{{}, {}},   {{3}, {3}},       {{3}, {}},
                                                      {{}, {3}},  {{2, 3}, {2, 3}}, {{2, 3}, {}},
                                                      {{0}, {0}}, {{1}, {1}}};
  const std::vector<std::array<index_t, 3>> sizes = {{1, 1, 1}, {2, 3, 4}, {5, 1, 3}, {1, 7, 1},
                                                     {0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {17, 33, 9}};
  for (const auto& [lead_a, lead_b] : leads) {
    for (const auto& [m, k, n] : sizes) {
      for (const int flags : {0, 1, 2, 3}) {
        const bool ta = (flags & 1) != 0;
        const bool tb = (flags & 2) != 0;
        const D a = rng.normal<double>(side(ta, lead_a, m, k));
        const D b = rng.normal<double>(side(tb, lead_b, k, n));
        CAPTURE(a.shape().str(), b.shape().str(), ta, tb);
        const Shape shape = side(false, lead_a.rank() > 0 ? lead_a : lead_b, m, n);
        const D product = matmul(a, b, ta, tb);
        REQUIRE(product.shape() == shape);
        CHECK(difference(product, naive_matmul(a, b, ta, tb, shape)) < 1e-13);
        const auto single = matmul(cast<float>(a), cast<float>(b), ta, tb);
        CHECK(difference(cast<double>(single), product) < 1e-5);
      }
    }
  }
}

TEST_CASE("matmul of one buffer with itself is not taken for another product", "[tensor]") {
  const D a({2, 2}, {1, 2, 3, 4});
  CHECK(matmul(a, a).to_vector() == std::vector<double>{7, 10, 15, 22});
  CHECK(matmul(a, a, true, false).to_vector() == std::vector<double>{10, 14, 14, 20});
  CHECK(matmul(a, a, false, true).to_vector() == std::vector<double>{5, 11, 11, 25});
  const D rows = counting({4, 2});
  CHECK(matmul(rows.rows(2, 4), a).to_vector() == std::vector<double>{19, 28, 27, 40});
}

TEST_CASE("matmul says what does not fit", "[tensor]") {
  CHECK_THROWS_AS(matmul(D({8, 16}), D({12, 4})), ShapeError);
  CHECK_THROWS_WITH(matmul(D({8, 16}), D({12, 4})),
                    contains("matmul: inner sizes differ: (8, 16)·(12, 4), 16 ≠ 12"));
  CHECK_THROWS_WITH(matmul(D({8, 16}), D({4, 16})), contains("16 ≠ 4; did you mean trans_b?"));
  CHECK_THROWS_WITH(matmul(D({16, 8}), D({16, 4})), contains("8 ≠ 16; did you mean trans_a?"));
  CHECK_THROWS_WITH(matmul(D({8, 16}), D({16, 4}), true), contains("(8, 16)ᵀ·(16, 4), 8 ≠ 16"));
  CHECK_THROWS_WITH(matmul(D({3}), D({3, 1})), contains("at least two axes on both sides"));
  CHECK_THROWS_WITH(matmul(D({2, 3, 4}), D({3, 4, 5})), contains("leading axes differ"));
}

TEST_CASE("transposes agree with indices for every order", "[tensor]") {
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 1, 3, 2}, Shape{70, 41},
                             Shape{0, 3}, Shape{2, 0, 3}, Shape{4}, Shape{}}) {
    const D a = counting(shape);
    std::vector<int> order(static_cast<std::size_t>(shape.rank()));
    std::iota(order.begin(), order.end(), 0);
    do {
      const D b = order.empty() ? transpose(a) : transpose(a, order);
      CAPTURE(shape.str(), order);
      bool same = true;
      index_t n = 0;
      for_each_index(b.shape(), [&](const std::vector<index_t>& index) {
        std::vector<index_t> from(index.size());
        for (std::size_t i = 0; i < order.size(); ++i) {
          from[static_cast<std::size_t>(order[i])] = index[i];
        }
        same = same && b.data()[n++] == entry(a, from);
      });
      CHECK(same);
    } while (std::next_permutation(order.begin(), order.end()));
  }
  CHECK(transpose(counting({2, 3, 4})).shape() == Shape{4, 3, 2});
  CHECK(transpose(counting({2, 3}), {-1, -2}).at({2, 1}) == 5);
  CHECK_THROWS_WITH(transpose(D({2, 3}), {1, 1}), contains("axis 1 is named twice"));
}

TEST_CASE("slices and concatenation undo each other", "[tensor]") {
  const D a = counting({4, 5, 6});
  for (const int axis : {0, 1, 2, -1, -3}) {
    const index_t n = a.dim(axis);
    for (index_t cut = 0; cut <= n; ++cut) {
      CAPTURE(axis, cut);
      const D left = slice(a, axis, 0, cut);
      const D right = slice(a, axis, cut, n);
      CHECK(left.dim(axis) == cut);
      CHECK(concat<double>({left, right}, axis).to_vector() == a.to_vector());
    }
  }
  CHECK(slice(counting({2, 3}), 1, 1, 2).to_vector() == std::vector<double>{1, 4});
  CHECK(concat<double>({counting({1, 2}), counting({2, 2})}, 0).shape() == Shape{3, 2});
  CHECK_THROWS_WITH(slice(a, 1, -1, 2), contains("slice: [-1, 2) is out of range for axis 1"));
  CHECK_THROWS_WITH(concat<double>({D({2, 2}), D({2})}, 0), contains("(2, 2) and (2,) differ"));
}

TEST_CASE("sums, norms and checks of finiteness", "[tensor]") {
  const D a({2, 2}, {1, -2, 3, -4});
  CHECK(sum_all(a) == -2);
  CHECK(dot(a, a) == 30);
  CHECK(frobenius(a) == Approx(std::sqrt(30.0)));
  CHECK(max_abs(a) == 4);
  CHECK(max_abs(D({0})) == 0);
  CHECK(sum_all(D({0, 3})) == 0);
  CHECK_THROWS_WITH(dot(a, D({3})), contains("dot: sizes differ: (2, 2) and (3,)"));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -HUGE_VAL}) {
    for (const index_t at : {0, 4999, 9999}) {
      D x = D::ones({10000});
      CHECK(all_finite(x));
      x.mutable_data()[at] = bad;
      CHECK_FALSE(all_finite(x));
      CHECK(std::isnan(max_abs(x)) == std::isnan(bad));
    }
  }
  // Each 1 would be lost if floats were added to a float that is already 2^24.
  std::vector<float> values(1001, 1.0f);
  values[0] = std::ldexp(1.0f, 24);
  const Tensor<float> row({1001}, values);
  const float total = std::ldexp(1.0f, 24) + 1000;
  CHECK(sum_all(row) == total);
  CHECK(sum_to(row, {}).item() == total);
  CHECK(sum_to(broadcast_to(row, {2, 1001}), {2, 1}).at({1, 0}) == total);
  CHECK(sum_to(broadcast_to(row.reshape({1001, 1}), {1001, 2}), {2}).at({1}) == total);
  CHECK(sum_to(broadcast_to(row.reshape({1, 1001, 1}), {2, 1001, 2}), {2, 1, 2}).at({1, 0, 1}) ==
        total);
}

TEST_CASE("a tensor is an xtensor expression without a copy", "[tensor]") {
  const D a = counting({3, 4});
  const auto view = as_xtensor(a);
  CHECK(&view(0, 0) == a.data());
  CHECK(&view(2, 3) == a.data() + 11);
  CHECK(view.shape()[0] == 3);
  CHECK(view.dimension() == 2);
  CHECK(view(1, 2) == 6);
  const D doubled = from_xtensor(2.0 * view + 1.0);
  REQUIRE(doubled.shape() == Shape{3, 4});
  CHECK(doubled.at({2, 1}) == 19);
  CHECK(doubled.data() != a.data());
  const D turned = from_xtensor(xt::xarray<double, xt::layout_type::column_major>(view));
  CHECK(turned.to_vector() == a.to_vector());  // row-major again
  CHECK(&as_xtensor(a.rows(1, 3))(0, 0) == a.data() + 4);
  CHECK(as_xtensor(D::scalar(5))() == 5);
  CHECK(as_xtensor(D({0, 4})).size() == 0);
  const Tensor<std::int64_t> ids({2}, {7, 9});
  CHECK(as_xtensor(ids)(1) == 9);
}

TEST_CASE("results have the same bits for one thread and for several", "[tensor]") {
  const int before = num_threads();
  const auto run = [](int threads) {
    set_num_threads(threads);
    Rng rng(3);
    const auto a = rng.normal<float>({333, 517});
    const auto b = rng.normal<float>({517});
    const auto c = rng.normal<float>({40, 33, 70});
    const auto wide = mul(add(a, b), a);
    std::vector<float> out = wide.to_vector();
    for (const auto& t :
         {transpose(a), sum_to(wide, {517}), sum_to(wide, {333, 1}), transpose(c, {2, 0, 1}),
          sum_to(c, {40, 1, 70}), Tensor<float>::scalar(static_cast<float>(frobenius(wide)))}) {
      out.insert(out.end(), t.begin(), t.end());
    }
    return out;
  };
  const auto one = run(1);
  CHECK(one == run(2));
  CHECK(one == run(3));
  set_num_threads(before);
}

TEST_CASE("the thread count must be positive", "[tensor]") {
  CHECK_THROWS_AS(set_num_threads(0), ValueError);
  CHECK_THROWS_WITH(set_num_threads(-2), contains("expected at least 1; got -2"));
}
