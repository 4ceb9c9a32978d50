// What each adapter method states of itself, checked against the definition: decompositions,
// operators, random bases, scalings, learning rates, sizes on disk.
#include <parsimony/bert.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/threads.hpp>

#include <cmath>
#include <filesystem>
#include <memory>

#include "kernels/philox.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/temp_folder.hpp"
#include "unit/adapter_table.hpp"

namespace parsimony::testing {
namespace {

template <class T = double>
AdapterSite<T> site_of(index_t out, index_t in, const std::string& name = "layer") {
  AdapterSite<T> site;
  site.weight = Rng(3).split("w").normal<T>({out, in}, 0.4);
  site.rng = Rng(4);
  site.name = name;
  return site;
}

template <class T = double>
std::unique_ptr<Adapter<T>> made(const AdapterSite<T>& site, const AdapterOptions& options) {
  return adapter_method<T>(options.method).make(site, options);
}

template <class T>
Var<T> parameter(const Adapter<T>& adapter, const std::string& name) {
  for (const auto& [own, var] : adapter.named_parameters()) {
    if (own == name) return var;
  }
  throw std::runtime_error("no parameter " + name);
}

Tensor<double> columns(const Tensor<double>& a, index_t count) { return slice(a, 1, 0, count); }

TEST_CASE("olora: the base loses what the first r columns of W span") {
  // W_res[:, :r] = (1 - s) W[:, :r]; B has orthonormal columns, A is upper trapezoidal.
  const AdapterSite<double> site = site_of(28, 40);
  const index_t r = 6;
  for (const double s : {1.0, 0.25}) {
    const auto adapter =
        made(site, {"olora", {{"rank", r}, {"alpha", s * static_cast<double>(r)}}});
    const LayerWeight<double> layer = adapter->applied(Var<double>(site.weight));
    const Tensor<double>& base = layer.base.value();
    CHECK(largest_difference(columns(base, r), scale(columns(site.weight, r), 1 - s)) < 1e-13);
    CHECK(orthonormality_error(parameter(*adapter, "B").value()) < 1e-13);
    for (index_t i = 0; i < r; ++i) {
      for (index_t j = 0; j < i; ++j) CHECK(parameter(*adapter, "A").value().at({i, j}) == 0);
    }
    const Tensor<double> part = matmul(layer.update.left, layer.update.right).value();
    CHECK(largest_difference(add(base, part), site.weight) < 1e-13);
  }
}

TEST_CASE(
    "pissa: the base keeps the trailing singular values, and holds more than olora's leaves") {
  const AdapterSite<double> site = site_of(28, 40);
  const index_t r = 6;
  const AdapterOptions options{"pissa", {{"rank", r}, {"alpha", 3.0}}};
  const auto adapter = made(site, options);
  const Tensor<double> base = adapter->applied(Var<double>(site.weight)).base.value();
  const Tensor<double> all = singular_values(site.weight);
  const Tensor<double> rest = singular_values(base);
  for (index_t i = 0; i + r < all.size(); ++i) {
    CHECK(std::abs(rest.data()[i] - all.data()[i + r]) < 1e-12);
  }
  const auto olora = made(site, {"olora", {{"rank", r}, {"alpha", static_cast<double>(r)}}});
  CHECK(frobenius(base) < frobenius(olora->applied(Var<double>(site.weight)).base.value()));
}

TEST_CASE("lora-xs: between singular vectors of one sign, with a gradient from the first step") {
  const AdapterSite<double> site = site_of(9, 14);
  const index_t r = 3;
  const auto adapter = made(site, {"lora-xs", {{"rank", r}, {"alpha", static_cast<double>(r)}}});
  CHECK(max_abs(parameter(*adapter, "R").value()) < 1e-4);
  CHECK(max_abs(parameter(*adapter, "R").value()) > 0);
  parameter(*adapter, "R").assign(Tensor<double>::eye(r));
  // With R = I the update is W's best approximation of rank r.
  const Svd<double> s = svd(site.weight);
  const Tensor<double> best =
      matmul(mul(columns(s.u, r), slice(s.s, 0, 0, r).reshape({1, r})), s.vt.rows(0, r));
  CHECK(largest_difference(adapter->delta(), best) < 1e-13);
  const LoraPair<double> pair = adapter->to_lora();
  CHECK(orthonormality_error(pair.b) < 1e-13);
  for (index_t k = 0; k < r; ++k) {
    CHECK(std::abs(frobenius(pair.a.rows(k, k + 1)) - s.s.data()[k]) < 1e-13);
    double largest = 0;
    for (index_t i = 0; i < 9; ++i) {
      if (std::abs(pair.b.at({i, k})) > std::abs(largest)) largest = pair.b.at({i, k});
    }
    CHECK(largest > 0);
  }
  parameter(*adapter, "R").assign(Tensor<double>::zeros({r, r}));
  backward(sum(adapter->update().left));
  CHECK(max_abs(parameter(*adapter, "R").grad()) > 0);
}

TEST_CASE("rslora and lora-plus: the scaling and the step of LoRA changed") {
  const AdapterSite<double> site = site_of(9, 14);
  const index_t r = 4;
  const auto delta = [&](const AdapterOptions& options) {
    const auto adapter = made(site, options);
    parameter(*adapter, "B").assign(Rng(8).normal<double>({9, r}));
    return adapter->delta();
  };
  const Tensor<double> plain = delta({"lora", {{"rank", r}, {"init", "peft"}, {"alpha", 5.0}}});
  CHECK(largest_difference(delta({"rslora", {{"rank", r}, {"alpha", 5.0}}}), scale(plain, 2.0)) <
        1e-14);
  CHECK(largest_difference(delta({"lora-plus", {{"rank", r}, {"alpha", 5.0}}}), plain) == 0);

  struct Model : Module<double> {
    Model() : layer(14, 9, Rng(1), 0.1) { this->child("layer", layer); }
    Linear<double> layer;
  } model;
  attach_adapters<double>(model, "layer", {"lora-plus", {{"rank", r}, {"ratio", 12.0}}}, Rng(1));
  const auto groups = trainable_groups<double>(model);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].rate_factor == 1);
  CHECK(groups[0].parameters.at(0).first == "layer.lora_plus.A");
  CHECK(groups[1].rate_factor == 12);
  CHECK(groups[1].parameters.at(0).first == "layer.lora_plus.B");
}

TEST_CASE("vera: one frozen pair for all layers, by the widest of them") {
  struct Model : Module<float> {
    Model() : a(14, 9, Rng(1), 0.1), b(6, 20, Rng(2), 0.1) {
      this->child("a", a);
      this->child("b", b);
    }
    Linear<float> a, b;
  } model;
  const index_t r = 4;
  attach_adapters<float>(model, "a,b", {"vera", {{"rank", r}}}, Rng(1));
  const auto frames = [&](Linear<float>& layer) {
    parameter(*layer.adapter(), "b").assign(Tensor<float>::ones({layer.weight.dim(0)}));
    parameter(*layer.adapter(), "d").assign(Tensor<float>::ones({r}));
    return layer.adapter()->to_lora();
  };
  CHECK(parameter(*model.a.adapter(), "d").value().data()[0] == 0.1F);
  CHECK(max_abs(parameter(*model.a.adapter(), "b").value()) == 0);
  const LoraPair<float> a = frames(model.a);
  const LoraPair<float> b = frames(model.b);
  CHECK(largest_difference(slice(a.a, 1, 0, 6), b.a) == 0);
  CHECK(largest_difference(a.b, b.b.rows(0, 9)) == 0);
  CHECK(max_abs(a.a) <= std::sqrt(6.0 / 14));
  CHECK(max_abs(a.a) > 0.8 * std::sqrt(6.0 / 14));
  CHECK(max_abs(b.b) <= std::sqrt(6.0 / 4));
}

TEST_CASE("dora: gradients with the norm as a constant; an output without weights stays without") {
  AdapterSite<double> site = site_of(5, 7);
  const auto adapter = made(site, {"dora", {{"rank", index_t{2}}, {"alpha", 3.0}}});
  CHECK(std::abs(parameter(*adapter, "magnitude").value().data()[1] -
                 frobenius(site.weight.rows(1, 2))) < 1e-14);
  parameter(*adapter, "B").assign(Rng(2).normal<double>({5, 2}));
  parameter(*adapter, "magnitude").assign(Tensor<double>({5}, {1, 2, -1, 0.5, 0}));
  const Var<double> x(Rng(5).normal<double>({6, 7}), true);
  const Var<double> weight(site.weight);
  const auto gradients = [&](const Var<double>& y) {
    backward(sum(square(y)));
    std::vector<Tensor<double>> out{y.value(), x.grad()};
    Var<double>(x).zero_grad();
    for (auto& [name, var] : adapter->named_parameters()) {
      out.push_back(var.grad());
      var.zero_grad();
    }
    return out;
  };
  Pass pass;
  const auto got = gradients(adapter->linear(x, weight, Var<double>(), pass));
  const Var<double> v =
      add(weight, matmul(scale(parameter(*adapter, "B"), 1.5), parameter(*adapter, "A")));
  const Var<double> norm = sqrt(sum(square(v), {1}, true)).detach();
  const auto expected =
      gradients(linear(x, mul(v, div(reshape(parameter(*adapter, "magnitude"), {5, 1}), norm))));
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("result " << i);
    CHECK(largest_difference(got[i], expected[i]) < 1e-12);
  }
  std::fill_n(site.weight.mutable_data() + 7, 7, 0.0);
  const auto empty = made(site, {"dora", {{"rank", index_t{2}}}});
  const auto zero = gradients(empty->linear(x, Var<double>(site.weight), Var<double>(), pass));
  for (index_t i = 0; i < 6; ++i) CHECK(zero[0].at({i, 1}) == 0);
  backward(sum(empty->linear(x, Var<double>(site.weight), Var<double>(), pass)));
  for (const auto& [name, var] : empty->named_parameters()) CHECK(all_finite(var.grad()));
}

/// y = D(M C(x)) of one row, from the definition.
std::vector<double> mora_row(int type, const Tensor<double>& m, const std::vector<double>& x,
                             std::size_t out) {
  const auto side = static_cast<std::size_t>(m.dim(0));
  const std::size_t in = x.size();
  const std::size_t parts = (in + side - 1) / side;
  std::vector<double> padded = x;
  for (std::size_t i = 0; padded.size() < parts * side; ++i) padded.push_back(x[i]);
  const auto times = [&](const std::vector<double>& z) {
    std::vector<double> u(side, 0.0);
    for (std::size_t i = 0; i < side; ++i) {
      for (std::size_t j = 0; j < side; ++j) u[i] += m.data()[i * side + j] * z[j];
    }
    return u;
  };
  const auto runs = [&](std::size_t length) {  // the class of each place
    std::vector<std::size_t> of;
    for (std::size_t j = 0; j < side; ++j) {
      of.insert(of.end(), length / side + (j < length % side ? 1 : 0), j);
    }
    return of;
  };
  std::vector<double> u;
  if (type == 6) {
    for (std::size_t part = 0; part < parts; ++part) {
      std::vector<double> turned(side);
      for (std::size_t t = 0; t < side / 2; ++t) {
        const double angle =
            static_cast<double>(part) *
            std::pow(10000.0, -2.0 * static_cast<double>(t) / static_cast<double>(side));
        const double a = padded[part * side + t];
        const double b = padded[part * side + side / 2 + t];
        turned[t] = a * std::cos(angle) - b * std::sin(angle);
        turned[side / 2 + t] = b * std::cos(angle) + a * std::sin(angle);
      }
      const std::vector<double> some = times(turned);
      u.insert(u.end(), some.begin(), some.end());
    }
  } else {
    std::vector<double> z(side, 0.0);
    if (type == 1 || type == 4) {
      for (std::size_t i = 0; i < padded.size(); ++i) z[i % side] += padded[i];
    } else {
      const auto of = runs(in);
      for (std::size_t i = 0; i < in; ++i) z[of[i]] += x[i];
    }
    u = times(z);
  }
  std::vector<double> y;
  const auto of = runs(out);
  for (std::size_t o = 0; o < out; ++o) {
    y.push_back(type == 2 || type == 4 ? u[of[o]] : u[o % u.size()]);
  }
  return y;
}

TEST_CASE("mora: the operators of every type, padded, cut and repeated") {
  // One part and several; outputs cut from the parts, and repeated.
  const index_t shapes[][3] = {{13, 11, 2}, {12, 40, 2}, {40, 12, 2}, {8, 8, 4}, {9, 30, 1}};
  for (const auto& [in, out, r] : shapes) {
    for (const index_t type : {1, 2, 3, 4, 6}) {
      INFO("type " << type << ", " << out << " x " << in << ", rank " << r);
      const AdapterSite<double> site = site_of(out, in);
      const auto adapter = made(site, {"mora", {{"rank", r}, {"mora_type", type}}});
      const Var<double> m = parameter(*adapter, "M");
      CHECK(m.dim(0) == mora_side(in, out, r) - (type == 6 ? mora_side(in, out, r) % 2 : 0));
      Var<double>(m).assign(Rng(2).normal<double>(m.shape()));
      const Tensor<double> x = Rng(5).normal<double>({1, in});
      const std::vector<double> y =
          mora_row(static_cast<int>(type), m.value(), x.to_vector(), static_cast<std::size_t>(out));
      CHECK(largest_difference(matmul(x, adapter->delta(), false, true),
                               Tensor<double>({1, out}, y)) < 1e-12);
      const index_t rank = numerical_rank(adapter->delta());
      if (type == 6) CHECK(rank == std::min(in, out));
      if (type != 6) CHECK(rank <= m.dim(0));
    }
  }
  // The side is rounded, as the authors' code does: √(236 · 2) = 21.7.
  CHECK(made(site_of(172, 64), {"mora", {{"rank", index_t{2}}, {"mora_type", index_t{1}}}})
            ->parameter_count() == 22 * 22);
}

/// Entry (row, col) of basis matrix `index`, by the definition in kernels/random_basis.hpp.
double basis_entry(const Rng& rng, std::uint64_t index, std::uint64_t row, std::uint64_t col,
                   std::uint64_t cols) {
  const std::uint64_t key = rng.split(index).state()[0];
  const std::uint64_t counter = row * ((cols + 7) / 8) + col / 8;
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const philox::Block block =
      philox::block({low(counter), low(counter >> 32), 0, 0}, {low(key), low(key >> 32)});
  const std::uint32_t word = block[col % 8 / 2];
  const auto half = static_cast<std::int16_t>(col % 2 == 0 ? word & 0xFFFF : word >> 16);
  return (2.0 * half + 1.0) / 65536.0;
}

template <class T>
void check_combination(double tolerance) {
  for (const auto& [rows, cols] :
       {std::pair<index_t, index_t>{19, 11}, {3, 8}, {16, 1}, {70, 16}}) {
    const Rng rng(7);
    const Var<T> c(Rng(1).normal<T>({5}), true);
    const Var<T> y = random_combination(c, Tensor<std::int64_t>(), rows, cols, rng);
    Tensor<double> expected = Tensor<double>::zeros({rows, cols});
    const Tensor<T> g = Rng(2).normal<T>({rows, cols});
    backward(y, g);
    for (std::uint64_t i = 0; i < 5; ++i) {
      double product = 0;
      for (index_t k = 0; k < rows * cols; ++k) {
        const double e =
            basis_entry(rng, i, static_cast<std::uint64_t>(k / cols),
                        static_cast<std::uint64_t>(k % cols), static_cast<std::uint64_t>(cols));
        expected.mutable_data()[k] += static_cast<double>(c.value().data()[i]) * e;
        product += static_cast<double>(g.data()[k]) * e;
      }
      CHECK(std::abs(static_cast<double>(c.grad().data()[i]) - product) < 100 * tolerance);
    }
    CHECK(largest_difference(cast<double>(y.value()), expected) < tolerance);
  }
}

TEST_CASE("nola: bases are the Philox blocks that they are said to be") {
  check_combination<double>(1e-13);
  check_combination<float>(2e-6);
  // Uniform: mean 0, variance 1/3, both ends within reach.
  const Var<double> one(Tensor<double>::ones({1}));
  const Tensor<double> draws =
      random_combination(one, Tensor<std::int64_t>(), 2000, 40, Rng(3)).value();
  CHECK(std::abs(sum_all(draws)) / 80000 < 0.01);
  CHECK(std::abs(dot(draws, draws) / 80000 - 1.0 / 3) < 0.005);
  CHECK(max_abs(draws) > 0.9999);
  CHECK(max_abs(draws) < 1);
}

TEST_CASE("nola: bases belong to seed, layer, side and index, and to nothing else") {
  const auto delta = [](const std::string& layer, index_t out, bool shared, index_t seed,
                        index_t bases = 6) {
    const auto adapter = made(
        site_of<float>(out, 14, layer),
        {"nola",
         {{"rank", index_t{3}}, {"bases", bases}, {"share_bases", shared}, {"basis_seed", seed}}});
    parameter(*adapter, "alpha").assign(Rng(1).normal<float>({bases}));
    parameter(*adapter, "beta").assign(Rng(2).normal<float>({bases}));
    return adapter->delta();
  };
  const Tensor<float> first = delta("a", 9, false, 1);
  const int before = num_threads();
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    CHECK(largest_difference(delta("a", 9, false, 1), first) == 0);
  }
  set_num_threads(before);
  CHECK(largest_difference(delta("b", 9, false, 1), first) > 1e-3);
  CHECK(largest_difference(delta("a", 9, false, 2), first) > 1e-3);
  CHECK(largest_difference(delta("a", 9, true, 1), delta("b", 9, true, 1)) == 0);
  // A taller layer has the shorter one's rows.
  CHECK(largest_difference(delta("a", 12, false, 1).rows(0, 9), first) == 0);
  // With coefficients of size 1 the entries of the factors are about 1/√3.
  const auto adapter =
      made(site_of<float>(200, 200), {"nola", {{"rank", index_t{8}}, {"bases", index_t{64}}}});
  parameter(*adapter, "beta").assign(Rng(2).normal<float>({64}));
  const Tensor<float> b = adapter->to_lora().b;
  CHECK(frobenius(b) / std::sqrt(1600.0) == Approx(1 / std::sqrt(3.0)).epsilon(0.2));
}

TEST_CASE("nola: a folder takes four bytes a coefficient and less than 1 KiB") {
  namespace fs = std::filesystem;
  BertConfig config = BertConfig::sized("tiny", 50);
  config.num_hidden_layers = 6;
  Bert<float> model(config, BertHead::classifier, Rng(1));
  const AdapterOptions options{"nola", {{"rank", index_t{4}}, {"bases", index_t{9}}}};
  attach_adapters<float>(model, "all-dense", options, Rng(1));
  TempFolder folder;
  save_adapters<float>(model, folder.path(), "all-dense", options, {"classifier.weight"});
  const auto size = [&](const char* file) {
    return static_cast<index_t>(fs::file_size(folder / file));
  };
  const index_t coefficients = model.parameter_count();
  CHECK(coefficients == 18 * (6 * 6 + 2));
  CHECK(size("adapter_model.safetensors") + size("adapter_config.json") <= 4 * coefficients + 1024);
}

}  // namespace
}  // namespace parsimony::testing
